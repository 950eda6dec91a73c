"""One transaction's worth of a saga: take in what an outside call brought, do all that is ours, name the next call.

Everything here happens under the saga's row lock and the fence of its lease, so a worker that was frozen changes
nothing when it wakes. Locks are taken in the order saga, booking, slot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from reservation_service.booking import reservations as booking_moves
from reservation_service.flags import SAGA_ORCHESTRATION
from reservation_service.saga.definition import Event, LocalStep, Pause, RemoteAct, RemoteStep, Result, Saga, Verdict
from reservation_service.saga.journal import Journal
from reservation_service.settings import ReservationSettings
from reservation_service.states import SagaStatus
from reservation_service.store import reservations, saga_log
from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import SagaRow
from shared.database import Connection
from shared.due_rows import backoff_s

Direction = Literal["do", "undo", "ask"]


@dataclass(frozen=True)
class Call:
    """An outside call that is due, journalled as started; made when the transaction is over."""

    step: str
    direction: Direction
    act: RemoteAct
    booking: Booking


@dataclass(frozen=True)
class Report:
    """What became of a call."""

    call: Call
    result: Result


class Settling:
    """A saga in hand, inside one transaction."""

    def __init__(
        self,
        tx: Connection,
        saga: Saga,
        row: SagaRow,
        booking: Booking,
        journal: Journal,
        settings: ReservationSettings,
        uniform: Callable[[float, float], float],
        moved: Callable[[str], None],
    ) -> None:
        self._tx = tx
        self._saga = saga
        self._row = row
        self._booking = booking
        self._journal = journal
        self._settings = settings
        self._uniform = uniform
        self._moved = moved
        self.status = SagaStatus(row["status"])

    async def settle(self, report: Report | None, *, by_itself: bool = False) -> Call | None:
        """Go as far as our own database allows. Returns the call to make next, or None when the saga rests or ends.

        `by_itself` says that no request or message drives this turn; a saga whose flag is off then waits for one.
        """
        if report is not None and not await self._take_in(report):
            return None
        if report is None and by_itself and not self._may_act_by_itself():
            await self._rest(self._settings.saga_backoff_max_s, self.status)
            return None
        if self.status is SagaStatus.WAITING:
            await self._become(SagaStatus.RUNNING)
        asked = report is not None and report.call.direction == "ask"
        while True:
            if self.status is SagaStatus.UNWINDING:
                done, call = await self._step_back()
            else:
                done, call = await self._step_on(asked=asked)
            if done:
                return call

    def _may_act_by_itself(self) -> bool:
        """With the flag off only what must be done is: deadlines, unwinding, and what a message has made possible."""
        overdue = float(self._booking["seconds_left"]) <= 0
        part = self._journal.next_forward(self._saga)
        told = isinstance(part, Pause) and part.verdict(self._booking) is Verdict.PASSED
        return (
            self._row["flags"].get(SAGA_ORCHESTRATION, True) or overdue or told or self.status is SagaStatus.UNWINDING
        )

    # forward

    async def _step_on(self, *, asked: bool) -> tuple[bool, Call | None]:
        match self._journal.next_forward(self._saga):
            case None:
                await saga_log.end(self._tx, self._row["id"], self._row["lease_epoch"], SagaStatus.COMPLETED)
                return True, None
            case Pause() as pause:
                return await self._pause(pause, asked=asked)
            case LocalStep() as step:
                await step.do(self._tx, self._booking, self._row)
                await self._note(step.name, "do", Event.DONE)
                return False, None
            case RemoteStep() as step if not step.only_if(self._booking):
                await self._note(step.name, "do", Event.DONE, {"skipped": True})
                return False, None
            case RemoteStep() as step if not step.pivot and self._is_lost(step):
                await self._turn_back("deadline")
                return False, None
            case RemoteStep() as step:
                return True, await self._begin(step.name, "do", step.do)

    async def _begin(self, step: str, direction: Direction, act: RemoteAct) -> Call | None:
        """Journal that a call is about to be made; a step that has killed every worker so far gets no further one."""
        deaths = self._journal.unanswered(step, direction)
        if deaths >= self._settings.saga_attempts_max:
            await self._needs_attention(f"{step}: its worker died {deaths} times")
            return None
        await self._note(step, direction, Event.STARTED)
        return Call(step, direction, act, self._booking)

    def _is_lost(self, step: RemoteStep) -> bool:
        """Nobody has heard of a call since long after the deadline: its workers die, and seats must not wait for that."""
        silent = self._journal.unanswered(step.name, "do") > 0
        return silent and self._overdue_s() > self._settings.unknown_grace_seconds

    async def _pause(self, pause: Pause, *, asked: bool) -> tuple[bool, Call | None]:
        match pause.verdict(self._booking):
            case Verdict.PASSED:
                await self._note(pause.name, "do", Event.DONE)
                return False, None
            case _ if not asked:  # look before waiting on, and before giving up: the message may be lost
                return True, Call(pause.name, "ask", pause.ask, self._booking)
            case Verdict.WAITING:
                wait_s = backoff_s(self._row["attempts"], first_s=4, cap_s=60, uniform=self._uniform)
                await self._rest(min(wait_s, max(0.0, float(self._booking["seconds_left"])) + 0.1), SagaStatus.WAITING)
                return True, None
            case Verdict.TIME_IS_UP:
                await self._turn_back("deadline")
                return False, None

    # back

    async def _step_back(self) -> tuple[bool, Call | None]:
        match self._journal.next_backward(self._saga):
            case None:
                await saga_log.end(self._tx, self._row["id"], self._row["lease_epoch"], SagaStatus.COMPENSATED)
                return True, None
            case LocalStep() as step:
                await self._undo_here(step)
                return False, None
            case RemoteStep() as step:
                return True, await self._begin(step.name, "undo", step.undo)

    async def _undo_here(self, step: LocalStep) -> None:
        await step.undo(self._tx, self._booking, self._row)
        await self._note(step.name, "undo", Event.DONE)

    async def _turn_back(self, because: str) -> None:
        await self._become(SagaStatus.UNWINDING, unwinding_because=because)

    # what a call brought

    async def _take_in(self, report: Report) -> bool:
        """Write down what became of a call; True when the saga may go on now."""
        result, call = report.result, report.call
        if result.payment is not None:
            await booking_moves.note_payment(self._tx, self._booking, result.payment.model_dump(mode="json"))
            await self._look_again()
        if call.direction == "ask":
            return await self._take_in_a_look(result)
        await self._note(call.step, call.direction, result.event, result.detail or None)
        match result.event:
            case Event.DONE:
                return True
            case Event.REFUSED if call.direction == "do":
                await self._turn_back("refused")
                return True
            case Event.TOO_LATE if call.direction == "undo" and self._may_turn_forward():
                await self._become(SagaStatus.RUNNING, unwinding_because=None)
                return True
            case Event.NOT_SENT | Event.UNKNOWN:
                return await self._try_later(call, result)
            case _:
                await self._needs_attention(f"{call.step}: {result.detail.get('code', result.event)}")
                return False

    async def _take_in_a_look(self, result: Result) -> bool:
        if result.event is Event.STUCK:
            await self._needs_attention(str(result.detail.get("code", "stuck")))
        return result.event is not Event.STUCK

    def _may_turn_forward(self) -> bool:
        """The money came before our cancel did: nobody asked for the cancel, and the seats are still there."""
        return self._row["unwinding_because"] == "deadline" and bool(self._booking["seats_pinned"])

    async def _try_later(self, call: Call, result: Result) -> bool:
        """Nothing is decided: come back with growing pauses, within the bounds of deadline and attempts."""
        if call.direction == "do" and self._is_before_pivot(call.step):
            await booking_moves.note_setup_trouble(
                self._tx,
                self._booking,
                sent=result.event is Event.UNKNOWN,
                code=result.detail.get("code", "PAYMENT_SERVICE_UNAVAILABLE"),
                detail=result.detail.get("detail", ""),
                retry_after_ms=result.detail.get("retry_after_ms"),
            )
            if self._overdue_s() > self._grace_s(result):
                await self._turn_back("deadline")
                return True
        elif call.direction == "undo" and self._overdue_s() > self._settings.unknown_grace_seconds:
            await self._release_seats_first()
        failures = self._journal.failures(call.step, call.direction)
        if failures >= self._settings.saga_attempts_max:
            await self._needs_attention(f"{call.step}: {result.event} {failures} times")
            return False
        wait_s = backoff_s(failures, cap_s=self._settings.saga_backoff_max_s, uniform=self._uniform)
        await self._rest(max(wait_s, result.retry_after_s or 0.0), self.status)
        return False

    def _is_before_pivot(self, name: str) -> bool:
        return any(isinstance(part, RemoteStep) and part.name == name and not part.pivot for part in self._saga.parts)

    def _overdue_s(self) -> float:
        return -float(self._booking["seconds_left"])

    def _grace_s(self, result: Result) -> float:
        return float(self._settings.unknown_grace_seconds) if result.event is Event.UNKNOWN else 0.0

    async def _release_seats_first(self) -> None:
        """The payment cannot be cancelled for too long: the seats go back now, the saga stays on the payment."""
        first = self._saga.parts[0]
        pinned = self._booking["seats_pinned"]
        if isinstance(first, LocalStep) and pinned and not self._captured():
            await self._undo_here(first)

    def _captured(self) -> bool:
        return bool((self._booking["payment"] or {}).get("captured"))

    # writing

    async def _note(self, step: str, direction: Direction, event: Event, detail: object = None) -> None:
        await saga_log.append(self._tx, self._row, step, direction, event, detail=detail)
        self._journal.add(step, direction, event)
        await self._look_again()

    async def _look_again(self) -> None:
        booking = await reservations.lock_booking(self._tx, self._row["reservation_id"])
        if booking is not None:
            if booking["status"] != self._booking["status"]:
                self._moved(booking["status"])
            self._booking = booking

    async def _become(self, status: SagaStatus, **values: str | None) -> None:
        await saga_log.set_status(self._tx, self._row["id"], status, **values)
        self.status = status
        row = await saga_log.saga(self._tx, self._row["id"])
        if row is not None:
            self._row = row

    async def _rest(self, due_in_s: float, status: SagaStatus) -> None:
        await saga_log.rest(self._tx, self._row["id"], self._row["lease_epoch"], due_in_s=due_in_s, status=status)

    async def _needs_attention(self, reason: str) -> None:
        await booking_moves.ask_for_attention(self._tx, self._booking, reason)
        await saga_log.end(
            self._tx, self._row["id"], self._row["lease_epoch"], SagaStatus.NEEDS_ATTENTION, reason=reason
        )
