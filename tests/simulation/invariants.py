"""What must never be untrue, looked at after every commit and every move of money, and once more when all is quiet.

Each check knows the databases of both services and Stripe's book, and believes none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from payment_service.states import DISPUTE_MOVES, REFUND_MOVES
from payment_service.states import LEGAL_MOVES as PAYMENT_MOVES
from payment_service.store import tables as payment_tables
from reservation_service.states import LEGAL_MOVES as BOOKING_MOVES
from reservation_service.states import LEGAL_SAGA_MOVES
from reservation_service.store import tables as reservation_tables
from shared.payment_contract import PaymentStatus
from tests.simulation.memory_sql.database import Change, Store
from tests.simulation.stripe_double import Account
from tests.simulation.stripe_objects import Intent

_KINDS = {
    reservation_tables.reservations: ("booking", BOOKING_MOVES),
    reservation_tables.sagas: ("saga", LEGAL_SAGA_MOVES),
    payment_tables.payments: ("payment", PAYMENT_MOVES),
    payment_tables.refunds: ("refund", REFUND_MOVES),
    payment_tables.disputes: ("dispute", DISPUTE_MOVES),
}
_CAN_STILL_TAKE = frozenset(
    {
        PaymentStatus.REQUIRES_PAYMENT,
        PaymentStatus.REQUIRES_ACTION,
        PaymentStatus.PROCESSING,
        PaymentStatus.AUTHORIZED,
    }
)
_CHANGED_BY_HAND = "amount_mismatch"  # an event about a payment that somebody has spoilt: a person looks at it
_OVER = frozenset({"failed", "cancelled"})
_WITH_SEATS = frozenset({"pending", "confirmed", "needs_attention"})
_AT_STRIPE = {
    "requires_payment": PaymentStatus.REQUIRES_PAYMENT,
    "requires_action": PaymentStatus.REQUIRES_ACTION,
    "processing": PaymentStatus.PROCESSING,
    "authorized": PaymentStatus.AUTHORIZED,
    "canceled": PaymentStatus.CANCELED,
}

Move = tuple[str, str, str]
"""Kind of row, status before, status after."""


def legal_moves() -> set[Move]:
    """Return every move that the product's tables allow."""
    return {
        (kind, str(was), str(now))
        for kind, legal in _KINDS.values()
        for was, following in legal.items()
        for now in following
    }


class Watch:
    """Looks on. `wrong` is called with a sentence for each violation."""

    def __init__(self, wrong: Callable[[str], None], moves: Counter[Move]) -> None:
        self._wrong = wrong
        self._moves = moves
        self.bookings: Store
        self.payments: Store
        self.stripe: Account
        self.grace_s = 0.0
        self.unfinished = frozenset({"held", "pending"})

    def committed(self, changes: Sequence[Change]) -> None:
        """Look at what a transaction has left behind."""
        slots = {}
        for table, old, new in changes:
            if new is None:
                continue
            if table in _KINDS:
                self._moved(table, old, new)
            if table is reservation_tables.reservations:
                slots[new["time_slot_id"]] = None
                self._booking(old, new)
            elif table is reservation_tables.time_slots:
                slots[new["id"]] = None
            elif table is reservation_tables.saga_log:
                self._journal(new)
        for slot_id in slots:
            self._seats(slot_id)

    def _moved(self, table: Any, old: dict[str, Any] | None, new: dict[str, Any]) -> None:
        kind, legal = _KINDS[table]
        if old is None or old["status"] == new["status"]:
            return
        self._moves[kind, old["status"], new["status"]] += 1
        if new["status"] not in legal[old["status"]]:
            self._wrong(f"I22: {kind} {new['id']} went from {old['status']} to {new['status']}")

    def _seats(self, slot_id: Any) -> None:
        slot = self.bookings.rows(reservation_tables.time_slots)[slot_id]
        rows = self.bookings.rows(reservation_tables.reservations).values()
        pinned = sum(row["seats"] for row in rows if row["time_slot_id"] == slot_id and row["seats_pinned"])
        if not 0 <= slot["taken"] <= slot["capacity"]:
            self._wrong(f"I1: {slot['taken']} of {slot['capacity']} seats are taken")
        if slot["taken"] != pinned:
            self._wrong(f"I2: {slot['taken']} seats are counted, {pinned} are pinned")

    def _booking(self, old: dict[str, Any] | None, new: dict[str, Any]) -> None:
        if old is None or old["status"] == new["status"] or not _is_paid_by_card(new):
            return
        mine = self.intents_of(new["id"])
        if new["status"] == "confirmed" and not any(_is_paid(one, new) for one in mine):
            self._wrong(f"I6: {new['id']} is confirmed, and Stripe has {[str(one.status) for one in mine]}")
        if new["status"] in _OVER and old["status"] == "pending":
            patient = new["pay_until"] + timedelta(seconds=self.grace_s) > self.bookings.now()
            if patient and any(one.status in _CAN_STILL_TAKE for one in mine):
                self._wrong(f"I11: {new['id']} is {new['status']} while its payment can still take money")

    def _journal(self, line: dict[str, Any]) -> None:
        lines = self.bookings.rows(reservation_tables.saga_log).values()
        newest = max(row["epoch"] for row in lines if row["saga_id"] == line["saga_id"])
        if line["epoch"] < newest:
            self._wrong(f"I19: epoch {line['epoch']} wrote after epoch {newest}")

    def intents_of(self, reservation_id: Any) -> list[Intent]:
        return [one for one in self.stripe.intents.values() if one.reservation_id == reservation_id]

    def money_moved(self, intent: Intent, what: str) -> None:
        """Look at what has just happened at Stripe."""
        booking = self.bookings.rows(reservation_tables.reservations).get(intent.reservation_id)
        if booking is None:
            self._wrong(f"I10: {intent.id} was {what} for a booking that is not there")
            return
        siblings = self.intents_of(booking["id"])
        if sum(one.received > 0 for one in siblings) > 1:
            self._wrong(f"I4: {booking['id']} is paid {len(siblings)} times")
        if what == "created" and sum(one.status is not PaymentStatus.CANCELED for one in siblings) > 1:
            self._wrong(f"I4: {booking['id']} has more than one live payment")
        if what == "captured" and intent.capture_method == "manual":
            if booking["status"] not in _WITH_SEATS or not booking["seats_pinned"]:
                self._wrong(f"I5: money was captured for {booking['id']}, which is {booking['status']}")
            if intent.received != booking["total_minor"]:
                self._wrong(f"I7: {intent.received} captured for {booking['total_minor']}")
        if self.stripe.gone(intent) > intent.received:
            self._wrong(f"I7: {intent.id} gives back more than it took")
        if what == "refunded" and booking["status"] == "confirmed":
            self._wrong(f"I5: {booking['id']} is confirmed, and its money goes back")

    def acknowledged(self, event_id: str) -> None:
        """Look at what was told to Stripe: 200 means that the event is stored."""
        rows = self.payments.rows(payment_tables.webhook_events).values()
        if sum(row["stripe_event_id"] == event_id for row in rows) != 1:
            self._wrong(f"I14: {event_id} was acknowledged and is not stored exactly once")

    # when all is quiet

    def reckon(self) -> None:
        """Compare all three books, line by line."""
        for difference in (
            *self._sagas(),
            *self._messages(),
            *self._stripe_and_payments(),
            *self._ledger(),
            *self._bookings_and_money(),
        ):
            self._wrong(difference)

    def _sagas(self) -> Iterator[str]:
        for saga in self.bookings.all(reservation_tables.sagas):
            if saga["status"] not in {"completed", "compensated"}:
                yield f"I17: saga {saga['id']} is {saga['status']}: {saga['reason']}"

    def _messages(self) -> Iterator[str]:
        for event in self.payments.all(payment_tables.webhook_events):
            hopeless = event["reason"] == _CHANGED_BY_HAND or event["intent_id"] not in self.stripe.intents
            if event["status"] not in {"processed", "ignored"} and not (hopeless and event["status"] == "dead"):
                yield f"I13: {event['type']} is {event['status']}: {event['reason']}"
        for news in self.payments.all(payment_tables.outbox):
            if news["delivered_at"] is None:
                yield f"I27: news {news['version']} of {news['payment_id']} was never delivered"

    def _disputes(self) -> Iterator[str]:
        rows = {row["stripe_dispute_id"]: row for row in self.payments.all(payment_tables.disputes)}
        for dispute in self.stripe.disputes.values():
            row = rows.get(dispute.id)
            if row is None or row["status"] != dispute.status:
                yield f"I10: {dispute.id} is {row and row['status']} here, {dispute.status} at Stripe"

    def _stripe_and_payments(self) -> Iterator[str]:
        yield from self._disputes()
        rows = {row["intent_id"]: row for row in self.payments.all(payment_tables.payments) if row["intent_id"]}
        for intent in self.stripe.intents.values():
            row = rows.pop(intent.id, None)
            if row is None:
                yield f"I10: Stripe has {intent.id} ({intent.status}), and no payment knows it"
            elif (row["captured"], row["refunded"]) != (intent.received, self.stripe.settled_back(intent)):
                settled = self.stripe.settled_back(intent)
                yield f"I10: {intent.id} is {row['captured']} - {row['refunded']} here, {intent.received} - {settled} there"
            elif _AT_STRIPE.get(row["status"], PaymentStatus.CAPTURED) is not intent.status:
                yield f"I10: {intent.id} is {row['status']} here, {intent.status} at Stripe"
            elif row["trouble"]:
                yield f"I10: {intent.id} has trouble: {row['trouble']}"
        for intent_id in rows:
            yield f"I10: a payment has {intent_id}, and Stripe does not"

    def _ledger(self) -> Iterator[str]:
        """Compare each payment's balance, by its entries alone, with what Stripe keeps for us."""
        entries = self.payments.all(payment_tables.ledger_entries)
        for payment in self.payments.all(payment_tables.payments):
            mine = [entry for entry in entries if entry["payment_id"] == payment["id"]]
            balance = sum(entry["amount"] for entry in mine if entry["account"] == "balance")
            intent = self.stripe.intents.get(payment["intent_id"] or "")
            kept = intent.received - self.stripe.gone(intent) if intent else 0
            if sum(entry["amount"] for entry in mine) != 0 or balance != kept:
                yield f"I8: the ledger of {payment['id']} has {balance}, Stripe keeps {kept}"

    def _bookings_and_money(self) -> Iterator[str]:
        for booking in self.bookings.all(reservation_tables.reservations):
            mine = self.intents_of(booking["id"])
            yield from self._money_of(booking, mine)
            if booking["status"] in self.unfinished:
                yield f"I17: {booking['id']} is still {booking['status']}"
            if any(one.status is PaymentStatus.AUTHORIZED for one in mine):
                yield f"I11: {booking['id']} is {booking['status']}, and money is still authorised for it"
            yield from self._views(booking)

    def _money_of(self, booking: dict[str, Any], mine: list[Intent]) -> Iterator[str]:
        """What banks and people have taken out is gone; of the rest we keep and give back what the booking says."""
        if self.is_money_missing(booking):
            yield f"I5: {booking['id']} is {booking['status']}, and its money is not back"
        by_us = sum(self.stripe.given_back(one, by_hand=False) for one in mine)
        if by_us > self._due_back(booking, mine):
            yield f"I5: {booking['id']} is {booking['status']}, and {by_us} went back"
        paid = sum(one.received for one in mine)
        if booking["status"] == "confirmed" and _is_paid_by_card(booking) and paid != booking["total_minor"]:
            yield f"I6: {booking['id']} is confirmed for {booking['total_minor']}, and {paid} was paid"

    def _due_back(self, booking: dict[str, Any], mine: list[Intent], *, over: bool = False) -> int:
        """Return how much of what was taken belongs to the guest: what the terms give, and without them everything."""
        if booking["status"] not in _OVER and not over:
            return 0
        taken = sum(one.received for one in mine)
        due = booking["refund_due_minor"]
        return taken if due is None else taken - booking["total_minor"] + due if taken else 0

    def is_money_missing(self, booking: dict[str, Any], *, over: bool = False) -> bool:
        """Tell whether a booking that is over, or would be, holds money that is its guest's."""
        mine = self.intents_of(booking["id"])
        settled = sum(self.stripe.gone(one) for one in mine)
        return settled < self._due_back(booking, mine, over=over)

    def may_be_vouched_for(self, booking: dict[str, Any]) -> bool:
        """Tell whether a booking may be ended on a person's word: no payment of it can move, and no money is missing."""
        mine = self.intents_of(booking["id"])
        live = any(one.status in _CAN_STILL_TAKE or self.stripe.is_undecided(one) for one in mine)
        return not live and not self.is_money_missing(booking, over=True)

    def is_paid(self, booking: dict[str, Any]) -> bool:
        """Tell whether all of a booking's money is here, and nobody has taken any of it back."""
        mine = self.intents_of(booking["id"])
        return sum(one.received for one in mine) == booking["total_minor"] and not any(map(self.stripe.gone, mine))

    def _views(self, booking: dict[str, Any]) -> Iterator[str]:
        """Compare what reservation_service shows of a payment with payment_service's own row."""
        shown = booking["payment"] or {}
        row = self.payments.rows(payment_tables.payments).get(_uuid(shown.get("id")))
        if row is None or shown.get("generation") != booking["generation"]:
            return
        if shown["status"] == PaymentStatus.SETUP_FAILED and row["status"] == PaymentStatus.NONE:
            return  # a word of the booking's own: nothing was ever sent
        ours = (shown["status"], shown["captured"], shown["refunded"], booking["payment_version"])
        theirs = (row["status"], row["captured"], row["refunded"], row["version"])
        if ours != theirs:
            yield f"I10: {booking['id']} shows {ours}, its payment is {theirs}"


def _is_paid_by_card(booking: dict[str, Any]) -> bool:
    return bool(booking["payment_mode"] == "stripe" and booking["total_minor"])


def _uuid(text: Any) -> Any:
    from uuid import UUID

    return UUID(text) if isinstance(text, str) else text


def _is_paid(intent: Intent, booking: dict[str, Any]) -> bool:
    return intent.status is PaymentStatus.CAPTURED and intent.received == booking["total_minor"]
