"""The people at the desk: they call off departures and bookings, and look at every saga that needs attention.

In the chaos an operator does this or that, needed or not. When a world is to become quiet they do what the runbook says:
try again, take back, and vouch for how it ended only when no money is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from reservation_service.booking.cancelling import CancelRequest
from reservation_service.booking.time_slots import change_time_slot
from reservation_service.saga.desk import Word
from reservation_service.states import LIVE_SAGA, BookingStatus, CancelledBy, SagaStatus
from reservation_service.store import tables
from shared.operator_actions import Act
from shared.problems import Problem, Weather
from tests.simulation.processes import Cut, NotConnected

_WORD = Word("ops", "a reason")
_ENDED = frozenset({BookingStatus.CONFIRMED, BookingStatus.CANCELLED, BookingStatus.FAILED})
_TURNS_MAX = 60


class Desk:
    """Calls reservation_service as an operator."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._turns: Counter[UUID] = Counter()

    def _sagas(self, *, live: bool) -> list[dict[str, Any]]:
        sagas = self._world._stores["reservation"].all(tables.sagas)
        wanted = LIVE_SAGA if live else {SagaStatus.NEEDS_ATTENTION}
        return [saga for saga in sagas if saga["status"] in wanted]

    async def do_something(self) -> None:
        """Do what an operator may do with a saga, whether it needs it or not."""
        random = self._world._random
        sagas = self._sagas(live=random.random() < 0.5)
        if sagas:
            saga = random.choice(sagas)
            verbs = ("retry", "unwind") if saga["status"] in LIVE_SAGA else ("retry", "unwind", "resolve")
            await self._ask(saga, random.choice(verbs))

    async def unwind_something(self) -> None:
        """Take back what is still under way."""
        sagas = self._sagas(live=True)
        if sagas:
            await self._ask(self._world._random.choice(sagas), "unwind")

    async def call_off(self) -> None:
        """Cancel somebody's booking, with or without the terms that it was sold under."""
        random = self._world._random
        bookings = self._world._stores["reservation"].all(tables.reservations)
        if bookings:
            request = CancelRequest(
                random.choice(bookings)["id"], CancelledBy.OPERATOR, "ops",
                waives_terms=random.random() < 0.5, act=Act("ops", "cancelBooking", "a reason"),
            )  # fmt: skip
            await self._quietly("call off", lambda work: work.calling_off.cancel(request))

    async def cancel_departure(self, slot_id: UUID) -> None:
        act = Act("ops", "updateTimeSlot", "storm")
        await self._quietly(
            "the departure is cancelled",
            lambda work: change_time_slot(work.ground.database, slot_id, capacity=None, status="cancelled", act=act),
        )

    async def look_after(self) -> bool:
        """Go through all that needs attention; False when nothing does, or nothing more can be done."""
        waiting = [saga for saga in self._sagas(live=False) if self._turns[saga["id"]] < _TURNS_MAX]
        for saga in waiting:
            self._turns[saga["id"]] += 1
            await self._ask(saga, self._verb(saga))
        return bool(waiting)

    def _verb(self, saga: dict[str, Any]) -> str:
        """Choose as the runbook does: what may be vouched for is, else it is tried again, or taken back."""
        turn, booking = self._turns[saga["id"]], self._booking_of(saga)
        if self._world._random.random() < 0.5:
            self._cancel_what_is_spoilt(booking)
        watch, random = self._world._watch, self._world._random
        if turn > _TURNS_MAX / 2:
            self._give_the_rest_back(booking, over=saga["unwinding_because"] is not None)
        if (watch.may_be_vouched_for(booking) or watch.is_paid(booking)) and random.random() < 0.5:
            return "resolve"
        return "unwind" if turn % 3 == 2 and booking["status"] not in _ENDED else "retry"

    def _cancel_what_is_spoilt(self, booking: dict[str, Any]) -> None:
        """Cancel in Stripe's dashboard what somebody has changed there."""
        for intent in self._world._watch.intents_of(booking["id"]):
            if intent.amount != booking["total_minor"]:
                self._world._stripe.cancel(intent.id)

    def _give_the_rest_back(self, booking: dict[str, Any], *, over: bool) -> None:
        """Give back in Stripe's dashboard what the bank has left of a payment that it took a part of for good.

        `over`: the booking is on its way back, so what is left belongs to its guest, wherever it stands.
        """
        stripe, watch = self._world._stripe, self._world._watch
        for intent in watch.intents_of(booking["id"]):
            left = intent.received - stripe.gone(intent)
            if left > 0 and watch.is_money_missing(booking, over=over) and stripe.has_lost_a_dispute(intent):
                stripe.refund(intent.id, left, {})

    def _booking_of(self, saga: dict[str, Any]) -> dict[str, Any]:
        rows: dict[Any, dict[str, Any]] = self._world._stores["reservation"].rows(tables.reservations)
        return rows[saga["reservation_id"]]

    async def _ask(self, saga: dict[str, Any], verb: str) -> None:
        if verb != "resolve":
            await self._quietly(verb, lambda work: getattr(work.saga_desk, verb)(saga["id"], _WORD))
            return
        booking, watch = self._booking_of(saga), self._world._watch
        stands = BookingStatus(booking["status"])
        if stands not in _ENDED and watch.is_paid(booking):
            outcome = BookingStatus.CONFIRMED
        else:
            outcome = stands if stands in _ENDED else self._world._random.choice(sorted(_ENDED))
        if outcome is BookingStatus.CONFIRMED or watch.may_be_vouched_for(booking):
            await self._quietly(
                f"resolve as {outcome}", lambda work: work.saga_desk.resolve(saga["id"], outcome, _WORD)
            )

    async def _quietly(self, what: str, act: Callable[[Any], Awaitable[Any]]) -> None:
        self._world._note(f"an operator: {what}")
        try:
            await self._world._call(act)
        except (Problem, Weather, Cut, NotConnected):
            return
