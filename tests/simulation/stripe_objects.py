"""Stripe's objects, as far as a booking and its money go, and how our gateway is shown them."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from payment_service.gateway.results import DisputeSeen, EventSeen, IntentSeen, RefundSeen
from payment_service.states import DISPUTE_HOLDS_MONEY, DisputeStatus, RefundStatus
from shared.payment_contract import PaymentStatus

WEBHOOK_SECRET = "whsec_of_the_simulation"


_IN_STRIPES_WORDS = {
    PaymentStatus.REQUIRES_PAYMENT: "requires_payment_method",
    PaymentStatus.REQUIRES_ACTION: "requires_action",
    PaymentStatus.PROCESSING: "processing",
    PaymentStatus.AUTHORIZED: "requires_capture",
    PaymentStatus.CAPTURED: "succeeded",
    PaymentStatus.CANCELED: "canceled",
}


@dataclass
class Intent:
    id: str
    amount: int
    currency: str
    capture_method: str
    metadata: dict[str, str]
    created: datetime
    status: PaymentStatus = PaymentStatus.REQUIRES_PAYMENT
    received: int = 0
    decline_class: str | None = None
    capture_before: datetime | None = None

    @property
    def reservation_id(self) -> UUID:
        return UUID(self.metadata["reservation_id"])

    def pictured(self) -> dict[str, Any]:
        """Return the intent as an event of Stripe's pictures it."""
        before = self.capture_before and int(self.capture_before.timestamp())
        return {
            "object": "payment_intent",
            "id": self.id,
            "status": _IN_STRIPES_WORDS[self.status],
            "amount": self.amount,
            "amount_received": self.received,
            "currency": self.currency.lower(),
            "client_secret": f"{self.id}_secret",
            "metadata": {**self.metadata, "system": "holdfast"},
            "latest_charge": {"id": f"ch_{self.id}", "payment_method_details": {"card": {"capture_before": before}}},
        }

    def seen(self) -> IntentSeen:
        return IntentSeen(
            id=self.id,
            status=self.status,
            amount=self.amount,
            currency=self.currency,
            received=self.received,
            client_secret=f"{self.id}_secret",
            payment_id=UUID(self.metadata["payment_id"]),
            decline_class=self.decline_class,
            capture_before=self.capture_before,
            system="holdfast",
        )


@dataclass
class Refund:
    id: str
    intent: Intent
    amount: int
    metadata: dict[str, str]
    status: RefundStatus

    @property
    def by_hand(self) -> bool:
        return "refund_id" not in self.metadata

    def seen(self) -> RefundSeen:
        ours = self.metadata.get("refund_id")
        return RefundSeen(
            id=self.id,
            status=self.status,
            amount=self.amount,
            currency=self.intent.currency,
            intent_id=self.intent.id,
            refund_id=UUID(ours) if ours else None,
            failure="expired_or_canceled_card" if self.status is RefundStatus.FAILED else None,
        )


@dataclass
class Dispute:
    id: str
    intent: Intent
    amount: int
    status: DisputeStatus

    @property
    def holds_money(self) -> bool:
        return self.status in DISPUTE_HOLDS_MONEY

    def seen(self) -> DisputeSeen:
        intent = self.intent
        return DisputeSeen(self.id, self.status, self.amount, intent.currency, intent.id, "fraudulent")


@dataclass
class Event:
    id: str
    type: str
    subject: dict[str, Any]
    created: datetime

    def body(self) -> bytes:
        document = {"object": "event", "id": self.id, "type": self.type, "livemode": False}
        return orjson.dumps(document | {"data": {"object": self.subject}})

    def seen(self) -> EventSeen:
        subject = self.subject
        intent_id = subject["id"] if subject["object"] == "payment_intent" else subject.get("payment_intent", "")
        return EventSeen(self.id, self.type, subject["id"], intent_id, livemode=False)


def signature(body: bytes, now: datetime) -> str:
    """Sign a delivery as Stripe does."""
    at = str(int(now.timestamp()))
    digest = hmac.new(WEBHOOK_SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
