"""One transaction's worth of a saga: take in what an outside call brought, do all that is ours, name the next call.

Everything here happens under the saga's row lock and the fence of its lease, so a worker that was frozen changes
nothing when it wakes. Locks are taken in the order saga, booking, slot.
"""

from reservation_service.booking import reservations as booking_moves
from reservation_service.flags import SAGA_ORCHESTRATION
from reservation_service.saga import late_money
from reservation_service.saga.definition import (
    Call,
    Direction,
    Event,
    LocalStep,
    Look,
    Pause,
    RemoteAct,
    RemoteStep,
    Report,
    Result,
    Verdict,
)
from reservation_service.saga.in_hand import SagaInHand
from reservation_service.saga.patience import next_try_in_s
from reservation_service.states import SagaStatus
from reservation_service.store import saga_log
from shared.due_rows import backoff_s

_TURNS_MAX = 3  # so often a cancel that came too late turns a saga forward, which something else turns back again


class Settling(SagaInHand):
    """What to do with a saga in hand: go on, go back, rest, or end."""

    async def settle(self, report: Report | None, *, by_itself: bool = False, guest_waits: bool = False) -> Call | None:
        """Go as far as our own database allows. Returns the call to make next, or None when the saga rests or ends.

        `by_itself` says that no request or message drives this turn; a saga whose flag is off then waits for one.
        `guest_waits` says that the guest asks for this booking right now: only then is a lost payment made anew.
        """
        call = await self._go(report, by_itself=by_itself, guest_waits=guest_waits)
        await self._write_lines()
        return call

    async def _go(self, report: Report | None, *, by_itself: bool, guest_waits: bool) -> Call | None:
        if report is not None and not await self._take_in(report):
            return None
        if report is None and by_itself and not self._may_act_by_itself():
            await self._rest(self._settings.saga_backoff_max_s, self.status)
            return None
        if self.status is SagaStatus.WAITING:
            await self._become(SagaStatus.RUNNING)
        look = Look.of(report, guest_waits=guest_waits)
        while True:
            if self.status is SagaStatus.UNWINDING:
                done, call = await self._step_back(look)
            else:
                done, call = await self._step_on(look)
            if done:
                return call

    def _may_act_by_itself(self) -> bool:
        """With the flag off only what must be done is: deadlines, unwinding, and what a message has made possible."""
        overdue = self._patience.window_left_s <= 0
        part = self._journal.next_forward(self._saga)
        told = isinstance(part, Pause) and part.verdict(self._booking) is Verdict.PASSED
        return (
            self._row["flags"].get(SAGA_ORCHESTRATION, True)
            or overdue
            or told
            or self.status is SagaStatus.UNWINDING
            or self._is_called_off()
        )

    # forward

    async def _step_on(self, look: Look) -> tuple[bool, Call | None]:
        if self._is_called_off():
            await self._turn_back("asked")
            return False, None
        match self._journal.next_forward(self._saga):
            case None if self._is_cancelled_after_all():
                await self._turn_back("asked")
                return False, None
            case None:
                await saga_log.end(self._tx, self._row["id"], self._row["lease_epoch"], SagaStatus.COMPLETED)
                return True, None
            case Pause() as pause:
                return await self._pause(pause, look)
            case LocalStep() as step:
                await self._do_here(step)
                return False, None
            case RemoteStep() as step if not step.only_if(self._booking):
                self._note(step.name, "do", Event.DONE, {"skipped": True})
                return False, None
            case RemoteStep() as step if not step.pivot and not self._may_begin(step):
                await self._turn_back("deadline")
                return False, None
            case RemoteStep() as step:
                return True, await self._begin(step.name, "do", step.do, step.do.__name__)

    async def _begin(self, step: str, direction: Direction, act: RemoteAct, act_name: str) -> Call | None:
        """Journal that a call is about to be made; a step that has killed every worker so far gets no further one."""
        deaths = self._journal.unanswered(step, direction)
        if deaths >= self._settings.saga_attempts_max:
            await self._needs_attention(f"{act_name}: its worker died {deaths} times")
            return None
        self._note(step, direction, Event.STARTED)
        return Call(step, direction, act, self._payee, act_name)

    def _ask(self, pause: Pause) -> Call:
        return Call(pause.name, "ask", pause.ask, self._payee, pause.ask.__name__)

    def _may_begin(self, step: RemoteStep) -> bool:
        return self._patience.may_begin(maybe_sent=self._journal.maybe_sent(step))

    async def _pause(self, pause: Pause, look: Look) -> tuple[bool, Call | None]:
        verdict = pause.verdict(self._booking)
        match verdict:
            case Verdict.PASSED:
                self._note(pause.name, "do", Event.DONE)
                return False, None
            case _ if not (look.asked or (look.seen and verdict is Verdict.WAITING)):
                # Look before waiting on, and before giving up: the message may be lost.
                return True, self._ask(pause)
            case Verdict.LOST if look.guest_waits:
                await self._begin_anew()
                return False, None
            case Verdict.WAITING | Verdict.LOST:
                wait_s = self._wait_for_a_message_s()
                await self._rest(min(wait_s, pause.left_s(self._booking) + 0.1), SagaStatus.WAITING)
                return True, None
            case Verdict.TIME_IS_UP:
                await self._turn_back("deadline")
                return False, None

    def _wait_for_a_message_s(self) -> float:
        """Return how long to trust that somebody will tell: a question costs two services and Stripe a round trip."""
        first_s, cap_s = self._settings.payment_ask_first_s, self._settings.payment_ask_max_s
        return backoff_s(self._row["attempts"], first_s=first_s, cap_s=cap_s, uniform=self._uniform)

    async def _begin_anew(self) -> None:
        """The payment is over for good without any money, verified: take it as undone and let the guest have another."""
        while isinstance(step := self._journal.next_backward(self._saga), RemoteStep):
            self._note(step.name, "undo", Event.DONE, {"over_without_money": self._booking["generation"]})
        self._see(await booking_moves.next_generation(self._tx, self._booking))
        await self._become(SagaStatus.RUNNING, generation=self._booking["generation"])

    # back

    async def _step_back(self, look: Look) -> tuple[bool, Call | None]:
        match self._journal.next_backward(self._saga):
            case None:
                await saga_log.end(self._tx, self._row["id"], self._row["lease_epoch"], SagaStatus.COMPENSATED)
                return True, None
            case LocalStep() as step:
                await self._undo_here(step)
                return False, None
            case RemoteStep() if self._is_late_money():
                await self._leave_to_late_money()
                return True, None
            case RemoteStep() if self._lost_its_seats() and not look.asked:
                # Money that came meanwhile may still win the seats, so look for it before its payment is cancelled.
                return True, self._ask(next(part for part in self._saga.parts if isinstance(part, Pause)))
            case RemoteStep() as step:
                if self._journal.unanswered(step.name, "undo"):
                    await self._release_overdue_seats(step)
                undo, because = step.undo, self._row["unwinding_because"] or "refused"
                act_name = undo.__name__
                return True, await self._begin(step.name, "undo", lambda booking: undo(booking, because), act_name)

    def _lost_its_seats(self) -> bool:
        """The seats went back while the payment could not be cancelled, and it was nobody's wish that it should be."""
        because = self._row["unwinding_because"]
        return not self._booking["seats_pinned"] and because in {"deadline", "refused"}

    def _is_late_money(self) -> bool:
        return self._lost_its_seats() and late_money.is_money(self._booking["payment"])

    async def _leave_to_late_money(self) -> None:
        """End here; the money begins a saga of its own, in the same transaction."""
        await self._write_lines()
        await late_money.relieve(self._tx, self._saga, self._row)
        flags, told = self._row["flags"], self._booking["payment"]
        late = await late_money.begin(self._tx, self._saga, self._booking, told, flags=flags)
        self._metrics.late_money.labels(late.notice).inc()

    async def _turn_back(self, because: str) -> None:
        await self._become(SagaStatus.UNWINDING, unwinding_because=because)

    # what a call brought

    async def _take_in(self, report: Report) -> bool:
        """Write down what became of a call; True when the saga may go on now."""
        result, call = report.result, report.call
        if result.payment is not None:
            told = result.payment.model_dump(mode="json")
            self._see(await booking_moves.note_payment(self._tx, self._booking, told))
        if call.direction == "ask":
            return await self._take_in_a_look(call, result)
        self._note(call.step, call.direction, result.event, result.detail or None)
        match result.event:
            case Event.DONE:
                return True
            case Event.REFUSED if call.direction == "do":
                await self._turn_back("refused")
                return True
            case Event.TOO_LATE if call.direction == "undo" and self._may_turn_forward(call):
                await self._turn_forward(call)
                return True
            case Event.TOO_LATE if call.direction == "undo" and self._is_late_money():
                await self._leave_to_late_money()
                return False
            case Event.NOT_SENT | Event.UNKNOWN:
                return await self._try_later(call, result)
            case Event.UNDER_WAY:
                looks = self._journal.looks(call.step, call.direction)
                wait_s = backoff_s(looks, cap_s=self._settings.refund_look_max_seconds, uniform=self._uniform)
                await self._rest(wait_s, self.status)
                return False
            case _:
                await self._needs_attention(f"{call.act_name}: {result.detail.get('code', result.event)}")
                return False

    async def _take_in_a_look(self, call: Call, result: Result) -> bool:
        if result.event is Event.STUCK:
            await self._needs_attention(f"{call.act_name}: {result.detail.get('code', 'stuck')}")
            return False
        if self._must_see(result):
            wait_s = backoff_s(self._row["attempts"], cap_s=self._settings.saga_backoff_max_s, uniform=self._uniform)
            await self._rest(wait_s, self.status)
            return False
        return True

    def _must_see(self, result: Result) -> bool:
        """Nothing is cancelled unseen once the seats are gone, lest late money lose them; but not for ever."""
        unseen = late_money.is_unseen(result) and self._row["attempts"] < self._settings.saga_attempts_max
        return unseen and self.status is SagaStatus.UNWINDING and self._lost_its_seats()

    def _may_turn_forward(self, call: Call) -> bool:
        """The money came before our cancel did: nobody asked for the cancel, and the seats are still there."""
        wanted = self._row["unwinding_because"] == "deadline" and bool(self._booking["seats_pinned"])
        return wanted and self._journal.times_too_late(call.step) <= _TURNS_MAX

    async def _turn_forward(self, call: Call) -> None:
        """What could not be taken back is there: a step whose answer never came must not be begun after the deadline."""
        await self._become(SagaStatus.RUNNING, unwinding_because=None)
        if not self._journal.is_done(call.step) and not self._is_pivot(call):
            self._note(call.step, "do", Event.DONE, {"because": str(Event.TOO_LATE)})

    async def _try_later(self, call: Call, result: Result) -> bool:
        """Nothing is decided: come back with growing pauses, within the bounds of deadline and attempts."""
        left_s = await self._left_for(call, result)
        if left_s is not None and left_s <= 0:
            await self._turn_back("deadline")
            return True
        failures = self._journal.failures(call.step, call.direction)
        # On the way forward time is the bound: an outage, or a guest who calls again and again, uses up no number.
        if left_s is None and failures >= self._settings.saga_attempts_max:
            await self._needs_attention(f"{call.act_name}: {result.event} {failures} times")
            return False
        grown_s = backoff_s(failures, cap_s=self._longest_wait_s(), uniform=self._uniform)
        await self._rest(next_try_in_s(grown_s, told_s=result.retry_after_s, left_s=left_s), self.status)
        return False

    async def _left_for(self, call: Call, result: Result) -> float | None:
        """Return how long this call may still be tried; None when only the number of its failures bounds it."""
        if call.direction == "undo":
            step = self._step(call)
            if step is not None:
                await self._release_overdue_seats(step)
            return None
        if self._is_pivot(call):
            return self._patience.capture_left_s
        await booking_moves.note_setup_trouble(
            self._tx,
            self._booking,
            sent=result.event is Event.UNKNOWN,
            code=result.detail.get("code", "PAYMENT_SERVICE_UNAVAILABLE"),
            detail=result.detail.get("detail", ""),
            retry_after_ms=result.detail.get("retry_after_ms"),
        )
        return self._patience.setup_left_s(result.event)

    def _step(self, call: Call) -> RemoteStep | None:
        return next(
            (part for part in self._saga.parts if isinstance(part, RemoteStep) and part.name == call.step), None
        )

    def _is_pivot(self, call: Call) -> bool:
        step = self._step(call)
        return step is not None and step.pivot

    async def _release_overdue_seats(self, stuck: RemoteStep) -> None:
        """The payment cannot be cancelled for too long: the seats go back now, unless a capture may have gone through."""
        first = self._saga.parts[0]
        overdue = self._patience.grace_left_s < 0 and not stuck.pivot
        if isinstance(first, LocalStep) and overdue and self._has_seats() and not self._captured():
            await self._undo_here(first)
