"""What a crowd at one slot does to everybody else, and what each flag costs a hold: with and without, in turns."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench import holding
from tests.bench.ground import Ground
from tests.bench.requests_to_come import get
from tests.bench.wire_client import open_loop, wire_to
from tests.load.running import poisson, quantile

HOLD_FLAGS = (
    "smart_idempotency",
    "group_admission",
    "lean_hold_door",
    "replace_own_hold",
    "distributed_lock",
    "rate_limiting",
)
_WIDTH = 256
_HOT_OF_TEN = 8  # so many of ten guests want the hot slot


async def others_p99_ms(ground: Ground, *, is_hot: bool, rate_per_s: float, seconds: float, seed: int) -> float:
    """Return the p99 of the guests who want other slots; the same guests come at the same moments either way."""
    await ground.wipe()
    count = int(rate_per_s * seconds)
    cold = ground.slot_ids[1:]
    crowd = ground.slot_ids[:1] if is_hot else cold
    # Both kinds of run differ in where the crowd goes, and in nothing else.
    places = [(crowd if _in_crowd(at) else cold) for at in range(count)]
    requests = [ground.guests.hold(place[at % len(place)], ground.guests.token()) for at, place in enumerate(places)]
    async with wire_to(ground.port, _WIDTH, warm=get("/livez")) as wire:
        answers = await open_loop(wire, requests, poisson(rate_per_s, count, seed))
    if set(answers.statuses) != {201}:
        raise holding.Refused(f"expected 201 only, got {dict(answers.statuses)}")
    await ground.check(holds=count)
    return quantile([wait_ms for at, wait_ms in answers.by_request.items() if not _in_crowd(at)], 0.99)


def _in_crowd(at: int) -> bool:
    return at % 10 < _HOT_OF_TEN


async def beside_a_crowd(ground: Ground, *, rate_per_s: float, seconds: float, seed: int, turns: int) -> list[float]:
    """Return, turn by turn, the p99 of other slots beside a hot one over the p99 without one."""
    ratios = list[float]()
    for turn in range(turns):
        order = (False, True) if turn % 2 else (True, False)
        p99 = {
            is_hot: await others_p99_ms(ground, is_hot=is_hot, rate_per_s=rate_per_s, seconds=seconds, seed=seed + turn)
            for is_hot in order
        }
        ratios.append(p99[True] / p99[False])
    return ratios


@dataclass(frozen=True)
class FlagCost:
    """Processor time of a hold with a flag on and off, and how long a caller alone waits."""

    flag: str
    on_us: float
    off_us: float
    on_alone_ms: float
    off_alone_ms: float

    @property
    def row(self) -> str:
        return (
            f"| `{self.flag}` | {self.on_us:.0f} | {self.off_us:.0f} | {self.on_us - self.off_us:+.0f}"
            f" | {self.on_alone_ms:.2f} / {self.off_alone_ms:.2f} |"
        )


FLAGS_HEAD = (
    "| flag | us per hold, on | off | the flag costs | one caller alone, median ms, on / off |",
    "| --- | ---: | ---: | ---: | ---: |",
)


@contextmanager
def turned(ground: Ground, flag: str, *, on: bool) -> Any:
    """Turn a flag for everybody, and on again afterwards."""
    for_whom = {"reason": "the bench measures what it costs"}
    path = f"/flags/{flag}"
    ground.system.admin("reservation", "PUT", path, json={"enabled": on, **for_whom})
    try:
        yield
    finally:
        ground.system.admin("reservation", "PUT", path, json={"enabled": True, **for_whom})


async def flag_cost(ground: Ground, flag: str, *, holds: int, singles: int, turns: int) -> FlagCost:
    """Measure a flag on and off, in turns."""
    spent: dict[bool, list[float]] = {True: [], False: []}
    alone: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * turns):
        on = turn % 2 == 0
        with turned(ground, flag, on=on):
            spent[on].append((await holding.spread(ground, count=holds)).server_ms * 1000)
            alone[on].append(median((await holding.alone(ground, count=singles)).waits_ms))
    return FlagCost(flag, median(spent[True]), median(spent[False]), median(alone[True]), median(alone[False]))


async def flag_costs(
    ground: Ground, *, holds: int, singles: int, turns: int, goes_on: Callable[[], bool]
) -> Sequence[FlagCost]:
    """Measure every flag that a hold meets, as long as there is time."""
    found = list[FlagCost]()
    for flag in HOLD_FLAGS:
        if goes_on():
            found.append(await flag_cost(ground, flag, holds=holds, singles=singles, turns=turns))
    return found
