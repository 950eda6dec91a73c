"""Admits holds in groups: what arrives while one group is being written forms the next one. There is no timer.

A caller who is alone waits for nobody; a thousand callers share a few commits. Each still gets its own answer, and
what goes wrong for one (its key raced, its slot is locked by somebody) is settled for that one alone, on the pool.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from reservation_service.booking.admission import lock_slots, slots_locked, take_alone, unlock_slots
from reservation_service.booking.pool_lane import PoolLane
from reservation_service.booking.waiting_line import Answer, Waiting, WaitingLine
from reservation_service.clients.slot_lock import SlotLocks
from reservation_service.errors import SlotBusy
from reservation_service.metrics import Metrics
from reservation_service.store.hold_lane import Blocked, HoldLane
from reservation_service.store.slots import NewHold
from shared.clock import Clock, a_few_in_a_turn
from shared.crashpoints import crashpoint
from shared.database import Database, DatabaseAway, Row

# Small enough that PostgreSQL writes one group while this process answers the one before and reads the next.
_GROUP_MAX = 64
# Answers wait until PostgreSQL has the next group, or so long: to hear of a lock while a crowd is being answered takes as
# long as to write a group, and meanwhile PostgreSQL would have nothing to do.
_UNTOLD_S = 0.002
# A lock that is met twice but that no slot shows is on something else (a key): whoever waits for it waits alone.
_LOCK_REFUSALS_MAX = 2

HungUp = asyncio.Future[None]
"""Done once the caller of a request has hung up; cancelled when nobody listens for that any more."""


@dataclass(frozen=True)
class Patience:
    """How many may wait and how long. A group that was begun has an answer within `group_s`, so nobody joins later."""

    queue_max: int = 4000
    caller_s: float = 5.0
    group_s: float = 2.0


class GroupAdmission:
    """The queue and the lanes of one process."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        locks: SlotLocks,
        metrics: Metrics,
        patience: Patience = Patience(),
    ) -> None:
        self._database = database
        self._clock = clock
        self._locks = locks
        self._metrics = metrics
        self._patience = patience
        self._lane = HoldLane(database)
        self._line = WaitingLine()
        self._pool_lane = PoolLane(database, clock, spawn=self._spawn, free_again=self._free_again)
        self._work: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._untold: list[tuple[Waiting, Row]] = []
        self._telling: asyncio.Task[None] | None = None
        self._callers = 0
        metrics.admission_waiting.set_function(lambda: self._callers)

    async def take(self, new: NewHold, *, hung_up: HungUp | None = None) -> Answer:
        """Take the seats of one hold with whatever else is waiting; see `slots.take_seats` for the row.

        None when somebody else was faster with the same key. Raises SlotBusy (503) when the queue is full, the
        deadline passes, or `hung_up` is done: a caller that has gone is dropped before its turn.
        """
        if self._callers >= self._patience.queue_max:
            raise SlotBusy(retry_after_ms=1000)
        arrived = self._clock.monotonic()
        waiting = Waiting(new, asyncio.get_running_loop().create_future(), arrived + self._patience.caller_s)
        self._callers += 1
        if hung_up is not None:
            hung_up.add_done_callback(partial(self._drop, waiting))
        self._enqueue(waiting)
        too_late = asyncio.get_running_loop().call_later(self._patience.caller_s, waiting.refuse_as_busy)
        try:
            return await waiting.outcome
        finally:
            too_late.cancel()
            self._callers -= 1
            self._metrics.admission_wait.observe(self._clock.monotonic() - arrived)

    async def take_single(self, new: NewHold) -> Answer:
        """Take the seats of one hold in a transaction of its own, behind the same lock; see `take` for the answer."""
        async with slots_locked(self._locks, [new.time_slot_id]):
            return await take_alone(self._database, new)

    async def close(self) -> None:
        """Finish what is queued, then give the connection back."""
        while self._work:
            await asyncio.wait(self._work)
        await self._lane.close()

    def _enqueue(self, waiting: Waiting) -> None:
        if self._pool_lane.is_locked(waiting.new.time_slot_id):
            self._pool_lane.park([waiting])
        else:
            self._line.append(waiting)
            self._flush_soon()

    def _drop(self, waiting: Waiting, hung_up: HungUp) -> None:
        """Let go of a caller who hung up; when it is over anyway, nobody listens any more, which is something else."""
        if not (waiting.is_gone or hung_up.cancelled()):
            self._metrics.admission_left.inc()
            waiting.refuse_as_busy()

    def _free_again(self, group: Sequence[Waiting]) -> None:
        self._line.put_back(group)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if len(self._line) and not self._flushing:
            self._flushing = True
            self._spawn(self._flush_all())

    async def _flush_all(self) -> None:
        try:
            while len(self._line):
                await asyncio.sleep(0)  # whoever comes in this turn as well is in the group
                if group := self._next_group():
                    await self._flush(group)
        finally:
            # In the same step in which the line was seen empty: nobody can be left waiting without a flush.
            self._tell_soon()
            self._flushing = False
            self._flush_soon()

    def _next_group(self) -> list[Waiting]:
        """Return who goes next. Whoever might not hear of the outcome in time is refused now, and takes nothing."""
        group = self._line.next_group(_GROUP_MAX)
        latest = self._clock.monotonic() + self._patience.group_s
        for waiting in group:
            if waiting.until < latest:
                waiting.refuse_as_busy()
        return [waiting for waiting in group if not waiting.is_gone]

    async def _flush(self, group: list[Waiting]) -> None:
        self._metrics.admission_group_size.observe(len(group))
        too_late = asyncio.get_running_loop().call_later(_UNTOLD_S, self._tell_soon)
        lease = await lock_slots(self._locks, list(dict.fromkeys(waiting.new.time_slot_id for waiting in group)))
        too_late.cancel()
        try:
            outcome = await self._write(group)
        finally:
            # Asked for now, and waited for by nobody: the answer is heard only after all callers of this group were.
            self._spawn(unlock_slots(self._locks, lease))
        self._metrics.admission_groups.labels(outcome).inc()

    async def _write(self, group: list[Waiting]) -> str:
        crashpoint("flush_holds.before")
        writing = asyncio.create_task(
            self._lane.take([waiting.new for waiting in group], timeout_s=self._patience.group_s)
        )
        self._tell_soon()  # a task behind that one: PostgreSQL has its work before this process has its own
        try:
            rows = await writing
        except Blocked:
            await self._set_blocked_aside(group)
            return "blocked"
        except Exception:  # noqa: BLE001  one item spoils the group: each is settled alone, and only its own error is its own
            self._pool_lane.settle(group)
            return "settled_alone"
        crashpoint("flush_holds.after")
        if self._telling is not None:
            await self._telling  # never more than one group at a time, and each a few in a turn
        self._untold = list(zip(group, rows, strict=True))
        return "written"

    def _tell_soon(self) -> None:
        """Begin to give the group before its answers."""
        if self._untold:
            self._telling, self._untold = self._spawn(_tell(self._untold)), []

    async def _set_blocked_aside(self, group: list[Waiting]) -> None:
        """Let those whose slot is locked wait elsewhere; the others go into the next group, first in line."""
        try:
            slots = list(dict.fromkeys(waiting.new.time_slot_id for waiting in group))
            locked = await self._lane.locked_slots(slots, timeout_s=self._patience.group_s)
        except DatabaseAway:
            self._pool_lane.settle(group)
            return
        free = [waiting for waiting in group if waiting.new.time_slot_id not in locked]
        for waiting in free:
            waiting.lock_refusals += 1
        self._pool_lane.park([waiting for waiting in group if waiting.new.time_slot_id in locked])
        for slot_id in locked:
            self._pool_lane.park(self._line.take_out(slot_id))
        self._pool_lane.settle([waiting for waiting in free if waiting.lock_refusals >= _LOCK_REFUSALS_MAX])
        self._line.put_back([waiting for waiting in free if waiting.lock_refusals < _LOCK_REFUSALS_MAX])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task


async def _tell(answers: Sequence[tuple[Waiting, Row]]) -> None:
    async for waiting, row in a_few_in_a_turn(answers):
        waiting.answer(row)
