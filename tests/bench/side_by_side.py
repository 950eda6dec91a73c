"""What is compared is measured side by side: ours between two readings of its yardstick.

A shared machine changes its pace from one minute to the next, and a ratio does not mind, as long as both of its sides
saw the same minute. Whether they did, the two readings say. What is no ratio is only measured while nobody steals.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.bench.machine import STEAL_MAX, Calm, Usage, spread, usage

YARDSTICK_MOVED_MAX = 0.25
_TRIES = 3

One = dict[str, float]
Part = Callable[[], Awaitable[One]]


@dataclass(frozen=True)
class Compared:
    """Ours with the middle of the two readings, if any; `moved` is how far those were apart, as a part of that middle."""

    found: One
    moved: float
    stolen: float

    @property
    def is_calm(self) -> bool:
        return self.moved <= YARDSTICK_MOVED_MAX and self.stolen <= STEAL_MAX

    def __str__(self) -> str:
        return (
            f"the yardstick moved by {self.moved:.0%} (at most {YARDSTICK_MOVED_MAX:.0%}) with {self.stolen:.0%} stolen"
        )


async def _nothing() -> One:
    return {}


async def measured(ours: Part, *, counters: Callable[[], Usage] = usage) -> Compared:
    """Measure what has no yardstick; anew, twice at most, when processors were stolen meanwhile."""
    return await compared(_nothing, ours, counters=counters)


async def compared(yardstick: Part, ours: Part, *, counters: Callable[[], Usage] = usage) -> Compared:
    """Measure ours between two readings; anew, twice at most, when the machine was disturbed meanwhile.

    Which try counts is decided by what disturbed it, never by what ours came to.
    """
    tries: list[Compared] = []
    while len(tries) < _TRIES and not (tries and tries[-1].is_calm):
        tries.append(await _once(yardstick, ours, counters))
    return tries[-1] if tries[-1].is_calm else min(tries, key=lambda one: one.moved + one.stolen)


async def _once(yardstick: Part, ours: Part, counters: Callable[[], Usage]) -> Compared:
    began = counters()
    before = await yardstick()
    found = await ours()
    after = await yardstick()
    calm = Calm.between(began, counters())
    middle = {name: (before[name] + after[name]) / 2 for name in before}
    moved = max((spread([before[name], after[name]]) for name in before), default=0.0)
    return Compared(found | middle, moved, calm.stolen)
