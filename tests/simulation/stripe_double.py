"""Stripe as far as money goes: intents, refunds, events and keys, at the interface of our gateway.

What happens at Stripe happens in one step. What is lost, late or doubled is the wire's doing, before and after it. A key
repeats the answer that was given to it, word for word and however old, refusals and stored failures included.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import orjson

from payment_service.gateway.results import EventSeen, IntentSeen, Page, RefundSeen, Result, done
from payment_service.states import RefundStatus
from shared.payment_contract import Outcome, PaymentStatus
from tests.simulation.clock import VirtualClock

WEBHOOK_SECRET = "whsec_of_the_simulation"
_WRONG_STATE = "payment_intent_unexpected_state"
_OPEN = frozenset({PaymentStatus.REQUIRES_PAYMENT, PaymentStatus.REQUIRES_ACTION})


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
class Event:
    id: str
    type: str
    subject: dict[str, str]
    created: datetime

    def body(self) -> bytes:
        document = {"object": "event", "id": self.id, "type": self.type, "livemode": False}
        return orjson.dumps(document | {"data": {"object": self.subject}})

    def seen(self) -> EventSeen:
        subject = self.subject
        intent_id = subject["id"] if subject["object"] == "payment_intent" else subject["payment_intent"]
        return EventSeen(self.id, self.type, subject["id"], intent_id, livemode=False)


def signature(body: bytes, now: datetime) -> str:
    """Sign a delivery as Stripe does."""
    at = str(int(now.timestamp()))
    digest = hmac.new(WEBHOOK_SECRET.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@dataclass
class Account:
    """All that Stripe knows. `emit` is told of each event; `moved` of each intent whose money changed."""

    clock: VirtualClock
    random: Random
    emit: Callable[[Event], None]
    moved: Callable[[Intent, str], None]
    intents: dict[str, Intent] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    keys: dict[str, Result[Any]] = field(default_factory=dict)
    refund_trouble: float = 0.0

    # calls under a key

    def keyed(self, key: str, act: Callable[[], Result[Any]], *, fails: bool) -> Result[Any]:
        """Act once per key. `fails`: an inner error after the act, which the key remembers too."""
        if key in self.keys:
            kept = self.keys[key]
            if kept.outcome is Outcome.UNKNOWN:
                return replace(kept, again=False, key_is_spent=True, sick=False)
            return kept
        result = act()
        if fails:
            result = Result(Outcome.UNKNOWN, code="http_500", again=True, sick=True)
        self.keys[key] = result
        return result

    def create(self, amount: int, currency: str, capture_method: str, metadata: dict[str, str]) -> Result[IntentSeen]:
        intent = Intent(self._id("pi"), amount, currency, capture_method, dict(metadata), self.clock.now())
        self.intents[intent.id] = intent
        self._tell(intent, "payment_intent.created")
        self.moved(intent, "created")
        return done(intent.seen())

    def retrieve(self, intent_id: str) -> Result[IntentSeen]:
        intent = self.intents.get(intent_id)
        return done(intent.seen()) if intent else Result(Outcome.DECLINED, code="resource_missing")

    def capture(self, intent_id: str) -> Result[IntentSeen]:
        intent = self.intents[intent_id]
        if intent.status is not PaymentStatus.AUTHORIZED:
            return Result(Outcome.DECLINED, code=_WRONG_STATE)
        self._take(intent)
        return done(intent.seen())

    def _take(self, intent: Intent) -> None:
        intent.status, intent.received = PaymentStatus.CAPTURED, intent.amount
        self._tell(intent, "payment_intent.succeeded")
        self.moved(intent, "captured")

    def cancel(self, intent_id: str) -> Result[IntentSeen]:
        intent = self.intents[intent_id]
        if intent.status not in _OPEN | {PaymentStatus.AUTHORIZED}:
            return Result(Outcome.DECLINED, code=_WRONG_STATE)
        intent.status = PaymentStatus.CANCELED
        self._tell(intent, "payment_intent.canceled")
        return done(intent.seen())

    def refund(self, intent_id: str, amount: int, metadata: dict[str, str]) -> Result[RefundSeen]:
        intent = self.intents[intent_id]
        if intent.status is not PaymentStatus.CAPTURED or self.given_back(intent) + amount > intent.received:
            return Result(Outcome.DECLINED, code="charge_already_refunded")
        slow = self.random.random() < self.refund_trouble
        status = RefundStatus.PENDING if slow else RefundStatus.SUCCEEDED
        refund = Refund(self._id("re"), intent, amount, dict(metadata), status)
        self.refunds[refund.id] = refund
        self._tell_refund(refund, "refund.created")
        self._tell_charge(intent)
        self.moved(intent, "refunded")
        return done(refund.seen())

    def conclude(self, refund: Refund, status: RefundStatus) -> None:
        """Let a refund that was pending, or looked done, end."""
        refund.status = status
        self._tell_refund(refund, "refund.failed" if status is RefundStatus.FAILED else "refund.updated")
        self.moved(refund.intent, "refunded")

    # what guests do on Stripe's page

    def pay(self, intent: Intent, card: str) -> None:
        """Let a guest confirm the payment with a card that is `good`, `declined`, `asks` (3-D Secure) or `slow`."""
        if intent.status not in _OPEN:
            return
        intent.decline_class = None
        match card:
            case "declined":
                intent.status, intent.decline_class = PaymentStatus.REQUIRES_PAYMENT, "card_declined"
                self._tell(intent, "payment_intent.payment_failed")
            case "asks":
                intent.status = PaymentStatus.REQUIRES_ACTION
                self._tell(intent, "payment_intent.requires_action")
            case "slow":
                intent.status = PaymentStatus.PROCESSING
                self._tell(intent, "payment_intent.processing")
            case _:
                self.authorize(intent)

    def authorize(self, intent: Intent) -> None:
        if intent.capture_method == "automatic":
            self._take(intent)
            return
        intent.status = PaymentStatus.AUTHORIZED
        intent.capture_before = self.clock.now() + timedelta(days=7)
        self._tell(intent, "payment_intent.amount_capturable_updated")

    def decline(self, intent: Intent) -> None:
        """Let a payment that was on its way be refused after all."""
        intent.status = PaymentStatus.REQUIRES_PAYMENT
        self._tell(intent, "payment_intent.payment_failed")

    # books

    def given_back(self, intent: Intent) -> int:
        """Return how much has been refunded, or is about to be."""
        gone = {RefundStatus.FAILED, RefundStatus.CANCELED}
        return sum(one.amount for one in self.refunds.values() if one.intent is intent and one.status not in gone)

    def settled_back(self, intent: Intent) -> int:
        mine = (one for one in self.refunds.values() if one.intent is intent)
        return sum(one.amount for one in mine if one.status is RefundStatus.SUCCEEDED)

    def list_events(self, types: Any, since: datetime, until: datetime) -> Result[Page[EventSeen]]:
        listed = [one for one in reversed(self.events) if one.type in types and since <= one.created <= until]
        return done(Page(tuple(one.seen() for one in listed), listed[-1].id if listed else "", has_more=False))

    def list_intents(self, since: datetime, until: datetime) -> Result[Page[IntentSeen]]:
        listed = [one for one in reversed(list(self.intents.values())) if since <= one.created <= until]
        return done(Page(tuple(one.seen() for one in listed), listed[-1].id if listed else "", has_more=False))

    def find(self, payment_id: UUID) -> Result[Page[str]]:
        found = [one.id for one in self.intents.values() if one.metadata["payment_id"] == str(payment_id)]
        return done(Page(tuple(found), "", has_more=False))

    def list_refunds(self, intent_id: str) -> Result[list[RefundSeen]]:
        return done([one.seen() for one in reversed(self.refunds.values()) if one.intent.id == intent_id])

    def _id(self, kind: str) -> str:
        return f"{kind}_{len(self.intents) + len(self.refunds) + len(self.events):06d}"

    def _tell(self, intent: Intent, what: str) -> None:
        self._emit(what, {"object": "payment_intent", "id": intent.id})

    def _tell_refund(self, refund: Refund, what: str) -> None:
        self._emit(what, {"object": "refund", "id": refund.id, "payment_intent": refund.intent.id})

    def _tell_charge(self, intent: Intent) -> None:
        self._emit("charge.refunded", {"object": "charge", "id": f"ch_{intent.id}", "payment_intent": intent.id})

    def _emit(self, what: str, subject: dict[str, str]) -> None:
        event = Event(self._id("evt"), what, subject, self.clock.now())
        self.events.append(event)
        self.emit(event)
