"""What must never be untrue, looked at after every commit and every move of money, and once more when all is quiet.

Each check knows the databases of both services and Stripe's book, and believes none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from payment_service.states import LEGAL_MOVES as PAYMENT_MOVES
from payment_service.states import REFUND_MOVES
from payment_service.store import tables as payment_tables
from reservation_service.states import LEGAL_MOVES as BOOKING_MOVES
from reservation_service.states import LEGAL_SAGA_MOVES
from reservation_service.store import tables as reservation_tables
from shared.payment_contract import PaymentStatus
from tests.simulation.memory_sql.database import Change, Store
from tests.simulation.stripe_double import Account, Intent

_KINDS = {
    reservation_tables.reservations: ("booking", BOOKING_MOVES),
    reservation_tables.sagas: ("saga", LEGAL_SAGA_MOVES),
    payment_tables.payments: ("payment", PAYMENT_MOVES),
    payment_tables.refunds: ("refund", REFUND_MOVES),
}
_CAN_STILL_TAKE = frozenset(
    {
        PaymentStatus.REQUIRES_PAYMENT,
        PaymentStatus.REQUIRES_ACTION,
        PaymentStatus.PROCESSING,
        PaymentStatus.AUTHORIZED,
    }
)
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
        if old is None or old["status"] == new["status"] or new["payment_mode"] != "stripe":
            return
        mine = self._intents_of(new["id"])
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

    def _intents_of(self, reservation_id: Any) -> list[Intent]:
        return [one for one in self.stripe.intents.values() if one.reservation_id == reservation_id]

    def money_moved(self, intent: Intent, what: str) -> None:
        """Look at what has just happened at Stripe."""
        booking = self.bookings.rows(reservation_tables.reservations).get(intent.reservation_id)
        if booking is None:
            self._wrong(f"I10: {intent.id} was {what} for a booking that is not there")
            return
        siblings = self._intents_of(booking["id"])
        if sum(one.received > 0 for one in siblings) > 1:
            self._wrong(f"I4: {booking['id']} is paid {len(siblings)} times")
        if what == "created" and sum(one.status is not PaymentStatus.CANCELED for one in siblings) > 1:
            self._wrong(f"I4: {booking['id']} has more than one live payment")
        if what == "captured" and intent.capture_method == "manual":
            if booking["status"] not in _WITH_SEATS or not booking["seats_pinned"]:
                self._wrong(f"I5: money was captured for {booking['id']}, which is {booking['status']}")
            if intent.received != booking["total_minor"]:
                self._wrong(f"I7: {intent.received} captured for {booking['total_minor']}")
        if self.stripe.given_back(intent) > intent.received:
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
            if saga["status"] not in {"completed", "compensated", "needs_attention"}:
                yield f"I17: saga {saga['id']} is {saga['status']}"
            if saga["status"] == "needs_attention":
                yield f"I17: saga {saga['id']} needs attention: {saga['reason']}"

    def _messages(self) -> Iterator[str]:
        for event in self.payments.all(payment_tables.webhook_events):
            if event["status"] not in {"processed", "ignored"}:
                yield f"I13: {event['type']} is {event['status']}: {event['reason']}"
        for news in self.payments.all(payment_tables.outbox):
            if news["delivered_at"] is None:
                yield f"I27: news {news['version']} of {news['payment_id']} was never delivered"

    def _stripe_and_payments(self) -> Iterator[str]:
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
            kept = intent.received - self.stripe.given_back(intent) if intent else 0
            if sum(entry["amount"] for entry in mine) != 0 or balance != kept:
                yield f"I8: the ledger of {payment['id']} has {balance}, Stripe keeps {kept}"

    def _bookings_and_money(self) -> Iterator[str]:
        for booking in self.bookings.all(reservation_tables.reservations):
            mine = self._intents_of(booking["id"])
            kept = sum(one.received - self.stripe.given_back(one) for one in mine)
            owed = booking["total_minor"] if booking["status"] == "confirmed" else 0
            if booking["payment_mode"] == "stripe" and kept != owed:
                yield f"I5: {booking['id']} is {booking['status']} for {booking['total_minor']}, and Stripe keeps {kept}"
            if booking["status"] in self.unfinished:
                yield f"I17: {booking['id']} is still {booking['status']}"
            if any(one.status is PaymentStatus.AUTHORIZED for one in mine):
                yield f"I11: {booking['id']} is {booking['status']}, and money is still authorised for it"
            yield from self._views(booking)

    def _views(self, booking: dict[str, Any]) -> Iterator[str]:
        """Compare what reservation_service shows of a payment with payment_service's own row."""
        shown = booking["payment"] or {}
        row = self.payments.rows(payment_tables.payments).get(_uuid(shown.get("id")))
        if row is None or shown.get("generation") != booking["generation"]:
            return
        ours = (shown["status"], shown["captured"], shown["refunded"], booking["payment_version"])
        theirs = (row["status"], row["captured"], row["refunded"], row["version"])
        if ours != theirs:
            yield f"I10: {booking['id']} shows {ours}, its payment is {theirs}"


def _uuid(text: Any) -> Any:
    from uuid import UUID

    return UUID(text) if isinstance(text, str) else text


def _is_paid(intent: Intent, booking: dict[str, Any]) -> bool:
    return intent.status is PaymentStatus.CAPTURED and intent.received == booking["total_minor"]
