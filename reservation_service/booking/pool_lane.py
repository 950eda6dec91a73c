"""Where holds wait that cannot go with the others: their slot is locked by somebody, or their group came to grief.

Each runs alone, in a transaction on the pool. A locked slot has one caller who waits for the lock, on one connection;
the others of that slot wait behind that one and go back to their groups when the lock is free. So however long a slot
is locked, it costs nobody else anything.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

from reservation_service.booking.admission import NobodyWaits, take_alone
from reservation_service.booking.waiting_line import Waiting
from reservation_service.errors import SlotBusy
from shared.clock import Clock
from shared.database import Database, DatabaseAway, LockedOut, Overtaken

_LOCK_WAIT_MS = 100  # for those whose slot is not known to be locked; as long as a group waits
_PAUSES_S = (0.05, 0.2, 0.5)  # a cut wire is often there again at once
_WIDTH = 2  # connections for each of the two kinds of wait; the rest of the pool stays free


class PoolLane:
    """The lane of one process. `free_again` takes callers back whose slot is not locked any more."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        free_again: Callable[[Sequence[Waiting]], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._spawn = spawn
        self._free_again = free_again
        self._parked: dict[UUID, deque[Waiting]] = {}
        self._settling = asyncio.Semaphore(_WIDTH)
        self._probing = asyncio.Semaphore(_WIDTH)

    def is_locked(self, slot_id: UUID) -> bool:
        """Tell whether this slot was last seen locked by somebody; whoever comes for it may as well wait here."""
        return slot_id in self._parked

    def park(self, group: Sequence[Waiting]) -> None:
        """Let these wait for their slot's lock."""
        for waiting in group:
            slot_id = waiting.new.time_slot_id
            if slot_id in self._parked:
                self._parked[slot_id].append(waiting)
            else:
                self._parked[slot_id] = deque([waiting])
                self._spawn(self._probe(slot_id))

    def settle(self, group: Sequence[Waiting]) -> None:
        """Run each of these alone: after a cut commit the statement finds its own hold, which settles the question."""
        for waiting in group:
            self._spawn(self._settle(waiting))

    async def _settle(self, waiting: Waiting) -> None:
        for pause_s in (*_PAUSES_S, None):
            try:
                await self._take(waiting, self._settling, lock_wait_ms=_LOCK_WAIT_MS)
            except LockedOut:
                self.park([waiting])
            except DatabaseAway as error:
                if pause_s is not None and not isinstance(error, Overtaken):  # who was overtaken starts from scratch
                    await asyncio.sleep(pause_s)
                    continue
                waiting.refuse(error)
            return

    async def _probe(self, slot_id: UUID) -> None:
        """Wait for the lock on behalf of the first in line, then of the next; free the line once it was had."""
        line = self._parked[slot_id]
        try:
            while line:
                waiting = line.popleft()
                try:
                    if await self._take(waiting, self._probing, lock_wait_ms=None):
                        break
                except DatabaseAway as error:
                    waiting.refuse(error)
        finally:
            del self._parked[slot_id]
            self._free_again(line)

    async def _take(self, waiting: Waiting, turns: asyncio.Semaphore, *, lock_wait_ms: int | None) -> bool:
        """Run one hold within what is left of its time; True when the statement ran. Raises DatabaseAway.

        Whoever's time is over is refused, and the transaction is broken off: nothing is taken for them afterwards.
        """
        try:
            async with asyncio.timeout(waiting.until - self._clock.monotonic()), turns:
                if waiting.is_gone:
                    return False
                row = await take_alone(
                    self._database, waiting.new, lock_wait_ms=lock_wait_ms, wanted=lambda: not waiting.is_gone
                )
                waiting.answer(row)
        except DatabaseAway:
            raise
        except NobodyWaits:
            return True
        except TimeoutError:
            waiting.refuse(SlotBusy(retry_after_ms=1000))
        except Exception as error:  # noqa: BLE001  it is the caller's, who is waiting for it
            waiting.refuse(error)
        else:
            return True
        return False
