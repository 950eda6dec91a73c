"""Who waits to be admitted: a bounded line that is fair between slots, and knows who has gone."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from reservation_service.errors import SlotBusy
from reservation_service.store.slots import NewHold
from shared.database import Row

Answer = Row | None


@dataclass(eq=False)
class Waiting:
    """A caller in the line; `until` is the monotonic second after which nothing may be done for them any more."""

    new: NewHold
    outcome: asyncio.Future[Answer]
    until: float
    lock_refusals: int = 0

    @property
    def is_gone(self) -> bool:
        return self.outcome.done()

    def answer(self, row: Answer) -> None:
        """Tell the statement's row to a caller who is still there."""
        if not self.is_gone:
            self.outcome.set_result(row)

    def refuse(self, error: Exception) -> None:
        """Tell a caller who is still there what went wrong."""
        if not self.is_gone:
            self.outcome.set_exception(error)

    def refuse_as_busy(self) -> None:
        """Tell a caller who is still there that it takes too long, and that they may ask again."""
        self.refuse(SlotBusy(retry_after_ms=1000))


class WaitingLine:
    """A line for each slot; groups are formed by taking one of each in turn, so that a crowd at one slot delays nobody else."""

    def __init__(self) -> None:
        self._lines: OrderedDict[UUID, deque[Waiting]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, waiting: Waiting) -> None:
        """Put somebody at the end of their slot's line."""
        self._lines.setdefault(waiting.new.time_slot_id, deque()).append(waiting)
        self._length += 1

    def put_back(self, group: Sequence[Waiting]) -> None:
        """Put those who came out in this order at the head again."""
        for waiting in reversed(group):
            self._lines.setdefault(waiting.new.time_slot_id, deque()).appendleft(waiting)
            self._lines.move_to_end(waiting.new.time_slot_id, last=False)
        self._length += len(group)

    def take_out(self, slot_id: UUID) -> Sequence[Waiting]:
        """Take out everybody who waits for one slot, in order."""
        line = self._lines.pop(slot_id, deque())
        self._length -= len(line)
        return line

    def next_group(self, size: int) -> list[Waiting]:
        """Take out up to `size` callers who are still there, in the order of slots that every process keeps to."""
        group: list[Waiting] = []
        while self._lines and len(group) < size:
            slot_id, line = self._lines.popitem(last=False)
            waiting = line.popleft()
            self._length -= 1
            if line:
                self._lines[slot_id] = line
            if not waiting.is_gone:
                group.append(waiting)
        return sorted(group, key=lambda waiting: waiting.new.time_slot_id)
