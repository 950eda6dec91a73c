"""Gives sagas life: starts them, goes on with them after a message, a pause or a crash, and never lets one lie.

There is no recovery mode. A live saga is leased or falls due; whoever finds it due claims it and goes on from its
journal. Between two outside calls everything happens in one transaction (`saga.settling`).
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from reservation_service.booking.reservations import Choose, ConvertRequest, begin_conversion
from reservation_service.errors import HoldNotFound
from reservation_service.flags import FROZEN_WITH_SAGA
from reservation_service.metrics import Metrics
from reservation_service.saga.afterwards import take_up_again
from reservation_service.saga.definition import Call, Report, Result, Saga
from reservation_service.saga.heard import Heard
from reservation_service.saga.journal import Journal
from reservation_service.saga.messages import Messages
from reservation_service.saga.settling import Settling
from reservation_service.settings import ReservationSettings
from reservation_service.states import LIVE_SAGA
from reservation_service.store import reservations, saga_log
from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import SagaRow
from shared.auth import Caller
from shared.clock import Clock
from shared.database import Conflict, Connection, Database
from shared.flags import Snapshot
from shared.identifiers import new_id
from shared.payment_contract import PaymentEvent

log = structlog.get_logger()

_REFERENCE_TRIES = 3


@dataclass(frozen=True)
class Turn:
    """A leased saga and the call that it makes next; the lease's epoch fences everything this worker writes."""

    row: SagaRow
    call: Call
    guest_waits: bool = False


@dataclass(frozen=True)
class Conversion:
    """What a convert call came to: the booking as it stands now, and whether this call made the transition.

    `under_way`: somebody is on its saga just now, so what is known of its payment is about to change.
    """

    booking: Booking
    begun: bool
    under_way: bool


class Engine:
    """Runs every saga of one process; any number of processes may run beside it."""

    def __init__(
        self,
        database: Database,
        saga: Saga,
        settings: ReservationSettings,
        metrics: Metrics,
        clock: Clock,
        *,
        choose: Choose = secrets.choice,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._database = database
        self._saga = saga
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._choose = choose
        self._uniform = uniform
        self._messages = Messages(database, saga, metrics)
        self.heard = Heard()
        self._running: set[asyncio.Task[Any]] = set()
        metrics.sagas_live.set_function(lambda: len(self._running))

    # what others call

    async def convert(self, caller: Caller, request: ConvertRequest, flags: Snapshot) -> Conversion:
        """Start the saga of a hold, or drive on the one it has, and say how the booking stands within the budget.

        Raises the refusals of POST /v1/holds/{id}/convert. A step that takes longer goes on after the answer.
        """
        begun, turn, saga_id = await self._start(caller, request, flags)
        under_way = not await self.drive(turn or saga_id)
        async with self._database.reading() as connection:
            booking = await reservations.booking(connection, request.hold_id)
        if booking is None:
            raise HoldNotFound
        return Conversion(booking, begun, under_way)

    async def drive(self, work: Turn | UUID | None) -> bool:
        """Go on with a turn, or with a saga, while a guest waits for it; what takes longer goes on after the answer.

        False when it does, or when somebody else is on it.
        """
        if work is None:
            return True
        going = self._run(work) if isinstance(work, Turn) else self.advance(work, guest_waits=True)
        task = self._spawn(going)
        done, _ = await asyncio.wait({task}, timeout=self._settings.convert_budget_s)
        return bool(done) and task.exception() is None and task.result()

    async def walk_back(self, tx: Connection, saga_id: UUID) -> Turn | None:
        """Open a saga that was over again and take back what is ours in this transaction; the turn is to be driven."""
        row = await saga_log.open_again(tx, saga_id, lease_s=self._settings.saga_lease_seconds)
        call = await self._settle(tx, row)
        return Turn(row, call) if call else None

    async def signal(self, event: PaymentEvent) -> bool:
        """Store what payment_service tells, commit, and let the saga act on it after the answer has left.

        False when this was known already, is older than what is known, or belongs to no booking of ours.
        """
        known = await self._messages.knows(event)
        async with self._database.transaction("payment_signal", of_one_statement=known) as tx:
            if known:
                await self._messages.keep(tx, event)
                return False
            row = await saga_log.lock_newest_of(tx, event.reservation_id)  # its row first: locks go saga, booking, slot
            is_live = row is not None and row["status"] in LIVE_SAGA
            booking = await reservations.lock_booking(tx, event.reservation_id)
            if booking is None:
                return False
            applied, late = await self._messages.take_in(tx, booking, event)
            # Only then: whoever is told what they were answered before would ask Stripe about it once more.
            if row is not None and is_live and applied:
                await saga_log.wake(tx, row["id"])
            if row is not None and applied and not is_live and late is None:
                is_live = await take_up_again(tx, self._saga, row)
        for saga_id in [row["id"]] if row and applied and is_live else [late.saga_id] if late else []:
            self.nudge(saga_id)
        return applied or late is not None

    def nudge(self, saga_id: UUID) -> None:
        """Go on with a saga soon, and at once if there is room: something has changed for it, and it is due."""
        if len(self._running) < self._settings.saga_batch_size:
            self._spawn(self.advance(saga_id))

    async def advance(self, saga_id: UUID, *, guest_waits: bool = False) -> bool:
        """Go on with one saga now; False when that is up to somebody else, or it has nothing left to do."""
        async with self._database.transaction("claim_saga") as tx:
            row = await saga_log.claim(
                tx, saga_id, known_steps=self._saga.known_steps, lease_s=self._settings.saga_lease_seconds
            )
            call = await self._settle(tx, row, guest_waits=guest_waits) if row else None
        if row and call:
            await self._run(Turn(row, call, guest_waits))
        return row is not None

    async def run_due(self) -> int:
        """Claim sagas that fell due (a pause is over, a retry is due, a worker died) and go on with them."""
        room = self._settings.saga_batch_size - len(self._running)
        if room <= 0:
            return 0
        async with self._database.transaction("claim_due_sagas") as tx:
            rows = await saga_log.claim_batch(
                tx, known_steps=self._saga.known_steps, limit=room, lease_s=self._settings.saga_lease_seconds
            )
        for row in rows:
            self._spawn(self._resume(row))
        return len(rows)

    async def drain(self, timeout_s: float) -> None:
        """Let running sagas come to rest; one that does not in time is taken over when its lease runs out."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout_s)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    # how it goes on

    async def _start(
        self, caller: Caller, request: ConvertRequest, flags: Snapshot
    ) -> tuple[bool, Turn | None, UUID | None]:
        for attempt in range(_REFERENCE_TRIES):
            try:
                return await self._try_to_start(caller, request, flags)
            except Conflict:
                if attempt == _REFERENCE_TRIES - 1:
                    raise  # a reference was drawn that exists: draw again
        raise AssertionError("unreachable")

    async def _try_to_start(
        self, caller: Caller, request: ConvertRequest, flags: Snapshot
    ) -> tuple[bool, Turn | None, UUID | None]:
        async with self._database.transaction("start_saga") as tx:
            booking, begun = await begin_conversion(
                tx, caller, request, window_s=self._settings.payment_window_seconds, choose=self._choose
            )
            if not begun:
                live = await saga_log.live_saga_of(tx, booking["id"])
                return False, None, live["id"] if live else None
            row = await saga_log.create(
                tx,
                saga_id=new_id(),
                reservation_id=booking["id"],
                generation=booking["generation"],
                flags=flags.frozen(FROZEN_WITH_SAGA),
                lease_s=self._settings.saga_lease_seconds,
            )
            call = await self._in_hand(tx, row, booking, Journal()).settle(None)
        self._metrics.bookings.labels("pending").inc()
        return True, Turn(row, call) if call else None, None

    async def _resume(self, row: SagaRow) -> None:
        async with self._database.transaction("resume_saga") as tx:
            locked = await saga_log.lock(tx, row["id"], row["lease_epoch"], lease_s=self._settings.saga_lease_seconds)
            call = await self._settle(tx, locked, by_itself=True) if locked else None
        if call:
            await self._run(Turn(row, call))

    async def _run(self, turn: Turn) -> bool:
        """Make calls and take in what they bring, until the saga rests or ends; False when it belongs to another worker."""
        call: Call | None = turn.call
        while call is not None:
            report = Report(call, await self._make(call))
            async with self._database.transaction("saga_progress") as tx:
                row = await saga_log.lock(
                    tx, turn.row["id"], turn.row["lease_epoch"], lease_s=self._settings.saga_lease_seconds
                )
                saga = await self._take_up(tx, row) if row else None
                call = await saga.settle(report, guest_waits=turn.guest_waits) if saga else None
            if row is None:
                return False
            if saga:
                self.heard.note(*saga.known)
        return True

    async def _make(self, call: Call) -> Result:
        started = self._clock.monotonic()
        result = await call.act(call.booking)
        took_s = self._clock.monotonic() - started
        self._metrics.saga_steps.labels(call.step, call.direction, result.event).observe(took_s)
        return result

    async def _settle(
        self, tx: Connection, row: SagaRow, *, by_itself: bool = False, guest_waits: bool = False
    ) -> Call | None:
        saga = await self._take_up(tx, row)
        return await saga.settle(None, by_itself=by_itself, guest_waits=guest_waits) if saga else None

    async def _take_up(self, tx: Connection, row: SagaRow) -> Settling | None:
        """Return a leased saga with its journal, its booking locked; None for a newer release's, which is due for that."""
        journal = Journal.of(await saga_log.lines(tx, row["id"]))
        if journal.is_foreign_to(self._saga):
            await saga_log.rest(tx, row["id"], row["lease_epoch"], due_in_s=0.0)
            return None
        booking = await reservations.lock_booking(tx, row["reservation_id"])
        if booking is None:
            raise HoldNotFound
        return self._in_hand(tx, row, booking, journal)

    def _in_hand(self, tx: Connection, row: SagaRow, booking: Booking, journal: Journal) -> Settling:
        return Settling(tx, self._saga, row, booking, journal, self._settings, self._uniform, self._metrics)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # The lease runs out and the saga falls due again: nothing is lost, but somebody should know.
            log.warning("saga_turn_failed", error=type(error).__name__, exc_info=error)
