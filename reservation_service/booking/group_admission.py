"""Admits holds in groups: what arrives while one group is being written forms the next one. There is no timer.

A caller who is alone waits for nobody; a thousand callers share a few commits. Each still gets its own answer, and
what goes wrong for one (its key raced, its slot is locked by somebody) is settled for that one alone, in a slow lane.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reservation_service.booking.admission import slots_locked, take_alone
from reservation_service.clients.slot_lock import SlotLocks
from reservation_service.errors import SlotBusy
from reservation_service.store.hold_lane import Blocked, HoldLane
from reservation_service.store.slots import NewHold
from shared.clock import Clock
from shared.crashpoints import crashpoint
from shared.database import Database, DatabaseAway, Row

_BATCH_MAX = 256
_QUEUE_MAX = 4000
_DEADLINE_S = 5.0
_SLOW_LANE_WIDTH = 3  # connections that blocked slots may wait on; the rest of the pool stays free

Answer = Row | None


@dataclass
class _Waiting:
    """A caller in the queue."""

    new: NewHold
    answer: asyncio.Future[Answer]
    until: float

    @property
    def is_gone(self) -> bool:
        return self.answer.done()


class GroupAdmission:
    """The queue and the lanes of one process."""

    def __init__(self, database: Database, clock: Clock, locks: SlotLocks) -> None:
        self._database = database
        self._clock = clock
        self._locks = locks
        self._lane = HoldLane(database)
        self._queue: list[_Waiting] = []
        self._slow = asyncio.Semaphore(_SLOW_LANE_WIDTH)
        self._work: set[asyncio.Task[None]] = set()
        self._flushing = False
        self.batches = 0

    async def take(self, new: NewHold) -> Answer:
        """Take the seats of one hold with whatever else is waiting; see `slots.take_seats` for the row.

        None when somebody else was faster with the same key. Raises SlotBusy (503) when the queue is full or the
        deadline passes: a caller that has gone is dropped before its turn.
        """
        if len(self._queue) >= _QUEUE_MAX:
            raise SlotBusy(retry_after_ms=1000)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(new, loop.create_future(), self._clock.monotonic() + _DEADLINE_S)
        self._queue.append(waiting)
        if not self._flushing:
            self._flushing = True
            self._spawn(self._flush_all())
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await waiting.answer
        except TimeoutError as error:
            raise SlotBusy(retry_after_ms=1000) from error

    async def take_single(self, new: NewHold) -> Answer:
        """Take the seats of one hold in a transaction of its own, behind the same lock; see `take` for the answer."""
        async with slots_locked(self._locks, [new.time_slot_id]):
            return await take_alone(self._database, new)

    async def close(self) -> None:
        """Finish what is queued, then give the connection back."""
        while self._work:
            await asyncio.wait(self._work)
        await self._lane.close()

    async def _flush_all(self) -> None:
        try:
            while batch := self._next_batch():
                await self._flush(batch)
        finally:
            # In the same step in which the queue was seen empty: nobody can be left waiting without a flush.
            self._flushing = False
            if self._queue:
                self._flushing = True
                self._spawn(self._flush_all())

    def _next_batch(self) -> list[_Waiting]:
        """Return up to 256 callers who are still there, in the order of slots that every process keeps to."""
        taken, self._queue = self._queue[:_BATCH_MAX], self._queue[_BATCH_MAX:]
        now = self._clock.monotonic()
        alive = [waiting for waiting in taken if not waiting.is_gone and waiting.until > now]
        if taken and not alive and self._queue:
            return self._next_batch()
        return sorted(alive, key=lambda waiting: waiting.new.time_slot_id)

    async def _flush(self, batch: list[_Waiting]) -> None:
        self.batches += 1
        # Whoever is answered in here goes on at once; only the next group waits until the locks are given back.
        async with slots_locked(self._locks, list(dict.fromkeys(waiting.new.time_slot_id for waiting in batch))):
            await self._write(batch)

    async def _write(self, batch: list[_Waiting]) -> None:
        crashpoint("flush_holds.before")
        try:
            rows = await self._lane.take([waiting.new for waiting in batch], timeout_s=_DEADLINE_S)
        except Blocked:
            await self._set_blocked_aside(batch)
        except Exception:  # noqa: BLE001  one item spoils the batch: each is settled alone, and only its own error is its own
            self._settle_alone(batch)
        else:
            crashpoint("flush_holds.after")
            for waiting, row in zip(batch, rows, strict=True):
                _answer(waiting, row)

    async def _set_blocked_aside(self, batch: list[_Waiting]) -> None:
        """Let those whose slot is locked wait elsewhere; the others go into the next group, first in line."""
        try:
            slots = list({waiting.new.time_slot_id for waiting in batch})
            locked = await self._lane.locked_slots(slots, timeout_s=_DEADLINE_S)
        except DatabaseAway:
            self._settle_alone(batch)
            return
        blocked = [waiting for waiting in batch if waiting.new.time_slot_id in locked]
        self._settle_alone(blocked)
        self._queue[:0] = [waiting for waiting in batch if waiting.new.time_slot_id not in locked]

    def _settle_alone(self, batch: Sequence[_Waiting]) -> None:
        for waiting in batch:
            self._spawn(self._take_alone(waiting))

    async def _take_alone(self, waiting: _Waiting) -> None:
        """Run one hold on the pool. After a cut commit the statement finds its own hold, which settles the question."""
        try:
            async with self._slow:
                if not waiting.is_gone:
                    _answer(waiting, await take_alone(self._database, waiting.new))
        except Exception as error:  # noqa: BLE001  it is the caller's, who is waiting for it
            if not waiting.is_gone:
                waiting.answer.set_exception(error)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


def _answer(waiting: _Waiting, row: Answer) -> None:
    if not waiting.is_gone:
        waiting.answer.set_result(row)
