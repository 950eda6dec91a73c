"""Stripe as far as money goes: intents, refunds, events and keys, at the interface of our gateway.

What happens at Stripe happens in one step. What is lost, late or doubled is the wire's doing, before and after it. A key
repeats the answer that was given to it, word for word and however old, refusals and stored failures included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from payment_service.gateway.results import DisputeSeen, EventSeen, IntentSeen, Page, RefundSeen, Result, done
from payment_service.states import REFUND_WITHOUT_EFFECT, DisputeStatus, RefundStatus
from shared.payment_contract import Outcome, PaymentStatus
from tests.simulation.clock import VirtualClock
from tests.simulation.stripe_objects import Dispute, Event, Intent, Refund

_WRONG_STATE = "payment_intent_unexpected_state"
_OPEN = frozenset({PaymentStatus.REQUIRES_PAYMENT, PaymentStatus.REQUIRES_ACTION})


@dataclass
class Account:
    """All that Stripe knows. `emit` is told of each event; `moved` of each intent whose money changed, `refunded` of each refund."""

    clock: VirtualClock
    random: Random
    emit: Callable[[Event], None]
    moved: Callable[[Intent, str], None]
    refunded: Callable[[Refund], None]
    intents: dict[str, Intent] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    unsettled: set[str] = field(default_factory=set)  # refunds that banks have not done with, by id
    disputes: dict[str, Dispute] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    keys: dict[str, Result[Any]] = field(default_factory=dict)
    refund_trouble: float = 0.0
    refund_fails: float = 0.0
    refuses: float = 0.0
    authorization_lasts: timedelta = timedelta(days=7)

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
        if self.random.random() < self.refuses:
            return Result(Outcome.DECLINED, code="amount_too_small")
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
        if intent.status is not PaymentStatus.CAPTURED or self.gone(intent) + amount > intent.received:
            return Result(Outcome.DECLINED, code="charge_already_refunded")
        refund = Refund(self._id("re"), intent, amount, dict(metadata), self._status_at_once(intent))
        self.refunds[refund.id] = refund
        self._tell_refund(refund, "refund.created")
        self._tell_charge(intent)
        self.moved(intent, "refunded by hand" if refund.by_hand else "refunded")
        self.refunded(refund)
        return done(refund.seen())

    def _status_at_once(self, intent: Intent) -> RefundStatus:
        """A refund may have failed when it is first heard of; once for each payment, because it must arrive in the end."""
        again = any(one.intent is intent and one.status in REFUND_WITHOUT_EFFECT for one in self.refunds.values())
        if not again and self.random.random() < self.refund_fails:
            return self.random.choice((RefundStatus.FAILED, RefundStatus.CANCELED))
        return RefundStatus.PENDING if self.random.random() < self.refund_trouble else RefundStatus.SUCCEEDED

    def conclude(self, refund: Refund, status: RefundStatus) -> None:
        """Let a refund that was pending, or looked done, end."""
        refund.status = status
        self._tell_refund(refund, "refund.failed" if status is RefundStatus.FAILED else "refund.updated")
        self.moved(refund.intent, "refund concluded")

    # what banks and people do

    def dispute(self, intent: Intent, status: DisputeStatus) -> Dispute | None:
        """Let the guest's bank ask about a payment, or take what is left of it back for now."""
        left = intent.received - self.gone(intent)
        if left <= 0:
            return None
        dispute = Dispute(self._id("dp"), intent, left, status)
        self.disputes[dispute.id] = dispute
        self._tell_dispute(dispute, "charge.dispute.created")
        self.moved(intent, "disputed")
        return dispute

    def decide(self, dispute: Dispute, status: DisputeStatus) -> None:
        dispute.status = status
        over = status is not DisputeStatus.OPEN
        self._tell_dispute(dispute, "charge.dispute.closed" if over else "charge.dispute.funds_withdrawn")
        self.moved(dispute.intent, "disputed")

    def retrieve_dispute(self, dispute_id: str) -> Result[DisputeSeen]:
        return done(self.disputes[dispute_id].seen())

    def change_amount(self, intent: Intent, amount: int) -> None:
        """Let somebody change in the dashboard what a payment that nobody has made yet is about."""
        if intent.status is PaymentStatus.REQUIRES_PAYMENT:
            intent.amount = amount

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
                self.take_slowly(intent)
            case _:
                self.authorize(intent)

    def take_slowly(self, intent: Intent) -> None:
        intent.status = PaymentStatus.PROCESSING
        self._tell(intent, "payment_intent.processing")

    def authorize(self, intent: Intent) -> None:
        if intent.capture_method == "automatic":
            self._take(intent)
            return
        intent.status = PaymentStatus.AUTHORIZED
        intent.capture_before = self.clock.now() + self.authorization_lasts
        self._tell(intent, "payment_intent.amount_capturable_updated")
        self.moved(intent, "authorized")

    def lapse(self, intent: Intent) -> None:
        """Let an authorization that nobody has captured end by itself."""
        if intent.status is PaymentStatus.AUTHORIZED and self.clock.now() >= (
            intent.capture_before or self.clock.now()
        ):
            self.cancel(intent.id)

    def decline(self, intent: Intent) -> None:
        """Let a payment that was on its way be refused after all."""
        intent.status = PaymentStatus.REQUIRES_PAYMENT
        self._tell(intent, "payment_intent.payment_failed")

    def notice(self) -> None:
        """Let Stripe make an event that is nobody's business here: of another kind, or about what it does not know."""
        if self.random.random() < 0.5:
            self._emit("payout.paid", {"object": "payout", "id": "po_1"})
        else:
            self._emit("payment_intent.canceled", {"object": "payment_intent", "id": "pi_of_nobody"})

    # books

    def given_back(self, intent: Intent, *, by_hand: bool = True) -> int:
        """Return how much has been refunded, or is about to be; with or without what people did by hand."""
        mine = (one for one in self.refunds.values() if one.intent is intent and (by_hand or not one.by_hand))
        return sum(one.amount for one in mine if one.status not in REFUND_WITHOUT_EFFECT)

    def held(self, intent: Intent) -> int:
        """Return how much the guest's bank has taken back, for now or for good."""
        return sum(one.amount for one in self.disputes.values() if one.intent is intent and one.holds_money)

    def is_undecided(self, intent: Intent) -> bool:
        """Tell whether money that is gone may still come back to us: a dispute is open, or a refund on its way."""
        disputes = any(one.intent is intent and one.status is DisputeStatus.OPEN for one in self.disputes.values())
        return disputes or any(self.refunds[refund_id].intent is intent for refund_id in self.unsettled)

    def has_lost_a_dispute(self, intent: Intent) -> bool:
        return any(one.intent is intent and one.status is DisputeStatus.LOST for one in self.disputes.values())

    def gone(self, intent: Intent) -> int:
        return self.given_back(intent) + self.held(intent)

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
        return f"{kind}_{len(self.intents) + len(self.refunds) + len(self.disputes) + len(self.events):06d}"

    def _tell(self, intent: Intent, what: str) -> None:
        self._emit(what, intent.pictured())

    def _tell_refund(self, refund: Refund, what: str) -> None:
        self._emit(what, {"object": "refund", "id": refund.id, "payment_intent": refund.intent.id})

    def _tell_dispute(self, dispute: Dispute, what: str) -> None:
        self._emit(what, {"object": "dispute", "id": dispute.id, "payment_intent": dispute.intent.id})

    def _tell_charge(self, intent: Intent) -> None:
        self._emit("charge.refunded", {"object": "charge", "id": f"ch_{intent.id}", "payment_intent": intent.id})

    def _emit(self, what: str, subject: dict[str, Any]) -> None:
        event = Event(self._id("evt"), what, subject, self.clock.now())
        self.events.append(event)
        self.emit(event)
