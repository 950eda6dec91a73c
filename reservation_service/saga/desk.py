"""What a person may do with a saga that does not go on by itself: try again, take it back, or vouch for how it ended.

Each verb is one transaction: it fences off every worker, moves saga and booking along legal edges only, seats included,
and leaves a line in the journal that says who asked and why.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from uuid import UUID

from reservation_service.booking import reservations as booking_moves
from reservation_service.booking.reservations import payment_status, pays_by_card
from reservation_service.errors import InvalidSagaStatus, SagaNotFound, SlotUnavailable
from reservation_service.metrics import Metrics
from reservation_service.saga.definition import OPERATOR, REFUND_FAILED, Event, Pause, Saga
from reservation_service.saga.engine import Engine
from reservation_service.saga.journal import Journal
from reservation_service.states import LEGAL_MOVES, BookingStatus, SagaStatus
from reservation_service.store import reservations, saga_lists, saga_log, slots
from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import SagaRow
from shared.database import Connection, Database, Row
from shared.operator_actions import Act, record
from shared.payment_contract import PaymentStatus

_COUNT = re.compile(r" \d+ times$")


class Verb(StrEnum):
    """What an operator can ask for."""

    RETRY = "retry"
    UNWIND = "unwind"
    RESOLVE = "resolve"


_OPERATIONS = {Verb.RETRY: "retrySaga", Verb.UNWIND: "unwindSaga", Verb.RESOLVE: "resolveSaga"}
_POSSIBLE = {
    SagaStatus.RUNNING: (Verb.RETRY, Verb.UNWIND),
    SagaStatus.WAITING: (Verb.RETRY, Verb.UNWIND),
    SagaStatus.UNWINDING: (Verb.RETRY,),
    SagaStatus.NEEDS_ATTENTION: (Verb.RETRY, Verb.UNWIND, Verb.RESOLVE),
}
_ENDS = {
    BookingStatus.CONFIRMED: SagaStatus.COMPLETED,
    BookingStatus.CANCELLED: SagaStatus.COMPENSATED,
    BookingStatus.FAILED: SagaStatus.COMPENSATED,
}


@dataclass(frozen=True)
class Word:
    """Who asked for it, and why; kept in the journal."""

    by: str
    why: str


@dataclass(frozen=True)
class Explanation:
    """A saga with all that a person needs to understand it."""

    saga: SagaRow
    booking: Booking
    lines: Sequence[Row]
    waits_for: str


def possible(saga: SagaRow) -> tuple[Verb, ...]:
    """Return what an operator can ask of a saga now: nothing while a worker has it in hand, or when it is over."""
    return () if saga["leased"] else _POSSIBLE.get(SagaStatus(saga["status"]), ())


class SagaDesk:
    """The operators' side of the sagas."""

    def __init__(self, database: Database, page: Saga, engine: Engine, metrics: Metrics) -> None:
        self._database = database
        self._page = page
        self._engine = engine
        self._metrics = metrics

    async def retry(self, saga_id: UUID, word: Word) -> None:
        """Let a saga try its next step now, as often as if it had never failed. Raises InvalidSagaStatus."""
        async with self._database.transaction("operator_retry") as tx:
            saga, booking = await self._look(tx, saga_id, Verb.RETRY)
            status = SagaStatus(saga["status"])
            if status is SagaStatus.NEEDS_ATTENTION:
                status = SagaStatus.UNWINDING if saga["unwinding_because"] else SagaStatus.RUNNING
            await _order_anew(tx, saga, booking)
            if status is SagaStatus.RUNNING:
                booking = await _with_seats(tx, booking)
            await booking_moves.hand_back(tx, booking)
            asked = (
                {"unwinding_because": "asked"} if status is SagaStatus.UNWINDING and _owes_only_money(booking) else {}
            )
            await saga_log.take_in_hand(tx, saga_id, status, **asked)
            await _write_down(tx, saga, "do", Verb.RETRY, word)
        self._engine.nudge(saga_id)

    async def unwind(self, saga_id: UUID, word: Word) -> None:
        """Let a saga take everything back, money included. Raises InvalidSagaStatus."""
        async with self._database.transaction("operator_unwind") as tx:
            saga, booking = await self._look(tx, saga_id, Verb.UNWIND)
            await _order_anew(tx, saga, booking)
            await booking_moves.hand_back(tx, booking)
            await saga_log.take_in_hand(tx, saga_id, SagaStatus.UNWINDING, unwinding_because="asked")
            await _write_down(tx, saga, "undo", Verb.UNWIND, word)
        self._engine.nudge(saga_id)

    async def resolve(self, saga_id: UUID, outcome: BookingStatus, word: Word) -> None:
        """End a saga the way an operator vouches for. Raises InvalidSagaStatus, SlotUnavailable."""
        async with self._database.transaction("operator_resolve") as tx:
            saga, booking = await self._look(tx, saga_id, Verb.RESOLVE)
            if booking["status"] != outcome:
                if outcome not in LEGAL_MOVES[BookingStatus(booking["status"])]:
                    raise InvalidSagaStatus(f"A booking that is {booking['status']} cannot become {outcome}.")
                if outcome is BookingStatus.CONFIRMED:
                    _assert_wanted(booking)
                    _assert_paid(booking)
                    booking = await _with_seats(tx, booking)
                    # The word stands for the step that was never taken: whoever cancels the booking takes that back first.
                    await saga_log.append(tx, saga, self._page.parts[-1].name, "do", Event.DONE, detail=asdict(word))
                await booking_moves.vouch(tx, booking, outcome)
                self._metrics.bookings.labels(outcome).inc()
            await saga_log.take_in_hand(tx, saga_id, _ENDS[outcome], due_at=None)
            saw = {"outcome": str(outcome), "payment_status": str(payment_status(booking))}
            await _write_down(tx, saga, "do", Verb.RESOLVE, word, **saw)

    async def count_needing_attention(self) -> int:
        """Tell the metrics how many sagas wait for a person, why, and how many for money; nothing of it is left to do."""
        async with self._database.reading() as connection:
            reasons = await saga_lists.reasons(connection)
            walking_back = await saga_lists.count_walking_back(connection)
        self._metrics.refunds_outstanding.set(walking_back)
        self._metrics.sagas_needing_attention.clear()
        for reason, count in reasons.items():
            self._metrics.sagas_needing_attention.labels(_COUNT.sub("", reason)).inc(count)
        return 0

    async def explain(self, saga_id: UUID) -> Explanation:
        """Return a saga with its booking, its journal, and what it waits for. Raises SagaNotFound."""
        async with self._database.reading() as connection:
            saga = await saga_log.saga(connection, saga_id)
            booking = await reservations.booking(connection, saga["reservation_id"]) if saga else None
            lines = await saga_log.lines(connection, saga_id)
        if saga is None or booking is None:
            raise SagaNotFound
        return Explanation(saga, booking, lines, self._waits_for(saga, booking, Journal.of(lines)))

    def _waits_for(self, saga: SagaRow, booking: Booking, journal: Journal) -> str:
        """Say in one line what has to happen next, and who does it."""
        status = SagaStatus(saga["status"])
        if status in {SagaStatus.COMPLETED, SagaStatus.COMPENSATED}:
            return "nothing: it is over"
        if status is SagaStatus.NEEDS_ATTENTION:
            return f"an operator, because of {saga['reason']}"
        if journal.is_foreign_to(self._page):
            return "a newer release, which knows a step that this one does not"
        back = status is SagaStatus.UNWINDING
        part = journal.next_backward(self._page) if back else journal.next_forward(self._page)
        if part is None:
            return "its last line"
        if isinstance(part, Pause):
            return f"{part.name} ({part.where}) until {booking['pay_until'].isoformat(timespec='seconds')}"
        act = part.undo.__name__ if back else part.name
        return f"{act}, which a worker has in hand" if saga["leased"] else f"another try of {act}"

    async def _look(self, tx: Connection, saga_id: UUID, verb: Verb) -> tuple[SagaRow, Booking]:
        saga = await saga_log.lock_for_a_person(tx, saga_id)
        booking = await reservations.lock_booking(tx, saga["reservation_id"]) if saga else None
        if saga is None or booking is None:
            raise SagaNotFound
        if verb not in possible(saga):
            held = "a worker has it in hand; ask again" if saga["leased"] else f"it is {saga['status']}"
            raise InvalidSagaStatus(f"Not possible now: {held}.", saga_status=saga["status"])
        return saga, booking


async def _order_anew(tx: Connection, saga: SagaRow, booking: Booking) -> None:
    """A refund that failed for good stays failed: what is tried next is another one, under an id and key of its own."""
    if str(saga["reason"]).endswith(f": {REFUND_FAILED}"):
        await reservations.change(tx, booking["id"], refund_attempt=booking["refund_attempt"] + 1)


def _owes_only_money(booking: Booking) -> bool:
    """Tell whether all that is left of a booking is money that a bank did not take back.

    A saga that walks back because of a deadline only cancels, and what is captured cannot be cancelled.
    """
    return not booking["seats_pinned"] and payment_status(booking) is PaymentStatus.REFUND_FAILED


def _assert_wanted(booking: Booking) -> None:
    """What somebody asked to cancel never ends confirmed, whoever vouches for it."""
    if booking["cancel_requested_at"] is not None:
        raise InvalidSagaStatus("Somebody asked to cancel this booking: unwind it.")


def _assert_paid(booking: Booking) -> None:
    """Nobody's word makes money: without it the booking is taken back, or the capture tried again."""
    captured = (booking["payment"] or {}).get("captured", 0)
    if pays_by_card(booking) and captured < booking["total_minor"]:
        raise InvalidSagaStatus(f"Of {booking['total_minor']} only {captured} was captured: retry it, or unwind it.")


async def _with_seats(tx: Connection, booking: Booking) -> Booking:
    """Return the booking with its seats pinned. Raises SlotUnavailable when they are sold."""
    if booking["seats_pinned"]:
        return booking
    await slots.expire_due(tx, batch=100, time_slot_id=booking["time_slot_id"])
    if not await reservations.pin_again(tx, booking):
        raise SlotUnavailable(available=await slots.free_seats(tx, booking["time_slot_id"]))
    pinned = await reservations.lock_booking(tx, booking["id"])
    return pinned or booking


async def _write_down(tx: Connection, saga: SagaRow, direction: str, verb: Verb, word: Word, **more: str) -> None:
    await saga_log.append(tx, saga, OPERATOR, direction, verb, detail=asdict(word) | more)
    was = {"status": str(saga["status"]), "reason": saga["reason"]}
    await record(tx, Act(word.by, _OPERATIONS[verb], word.why), saga["id"], before=was, after={"asked": verb, **more})
