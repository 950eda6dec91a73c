"""One repetition: every yardstick and every figure, close together in time, so that a slow minute slows both."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.bench import booking, holding
from tests.bench.figures import Measured
from tests.bench.ground import SLOTS, Ground
from tests.bench.pgbench import Pgbench
from tests.bench.side_by_side import One, Part, compared, measured
from tests.bench.watched_reservation import seen
from tests.load.running import quantile

_MILLION = 1_000_000
_MS_PER_S = 1000
_MS_PER_HOUR = 3_600_000


@dataclass(frozen=True)
class Size:
    """How much is measured; the names say in what."""

    repetitions: int
    pgbench_s: float
    holds: int
    echoes: int
    singles: int
    open_s: float
    bookings: int
    knee_s: float


QUICK = Size(repetitions=5, pgbench_s=1, holds=800, echoes=1500, singles=100, open_s=1.5, bookings=24, knee_s=1)
FULL = Size(repetitions=5, pgbench_s=3, holds=6000, echoes=8000, singles=600, open_s=8, bookings=120, knee_s=3)
TINY = Size(repetitions=2, pgbench_s=1, holds=300, echoes=300, singles=20, open_s=1, bookings=4, knee_s=1)


@dataclass(frozen=True)
class Comparison:
    """What `ours` and its `yardstick`, if it has one, find, and which of that is divided by which."""

    ours: Part
    yardstick: Part | None = None
    ratios: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What a repetition needs to know: `closed_per_s` is what a closed loop has reached, from where the knee is looked for.

    `disturbed` says of which comparisons the machine made nothing.
    """

    ground: Ground
    pgbench: Pgbench
    size: Size
    seed: int
    closed_per_s: float
    say: Callable[[str], None]
    disturbed: list[str] = field(default_factory=list)

    async def repetition(self, number: int) -> One:
        """Measure everything once, in an order of its own."""
        began = time.monotonic()
        parts = [
            Comparison(
                self._spread,
                self._one_core_and_echo,
                {"spread": ("spread_per_s", "pgbench_spread_1"), "cpu": ("hold_ms", "echo_ms")},
            ),
            Comparison(self._hot, self._pgbench_hot, {"hot": ("hot_per_s", "pgbench_hot")}),
            Comparison(self._burst, self._echo, {"burst_echo": ("burst", "echo_burst")}),
            Comparison(self._bookings, self._pgbench_spread, {"bookings": ("bookings_per_s", "pgbench_spread")}),
            Comparison(self._bare),
            Comparison(self._single),
            Comparison(self._open),
        ]
        random.Random(self.seed * 1000 + number).shuffle(parts)
        found: One = {}
        for part in parts:
            found |= await self._compared(part, number)
        gc_ms, lag_ms = seen(self.ground.watch_file, began)
        return found | {"gc": gc_ms, "lag": lag_ms}

    async def _compared(self, comparison: Comparison, number: int) -> One:
        ours, yardstick = comparison.ours, comparison.yardstick
        beside = await (compared(yardstick, ours) if yardstick else measured(ours))
        found = beside.found
        if not beside.is_calm:
            self.disturbed.append(f"repetition {number + 1}, {', '.join(found)}: {beside}, whenever it was tried")
        return found | {name: found[over] / found[under] for name, (over, under) in comparison.ratios.items()}

    async def _one_core_and_echo(self) -> One:
        with self.pgbench.postgres_on_one_core():
            pgbench = await self._pgbench("pgbench_spread_1", SLOTS)
        return pgbench | {"echo_ms": (await self._constant_route()).server_ms}

    async def _pgbench_spread(self) -> One:
        return await self._pgbench("pgbench_spread", SLOTS)

    async def _pgbench_hot(self) -> One:
        return await self._pgbench("pgbench_hot", 1)

    async def _pgbench(self, name: str, slots: int) -> One:
        await self.ground.wipe()
        return {name: self.pgbench.holds_per_s(slots=slots, seconds=self.size.pgbench_s)}

    async def _echo(self) -> One:
        per_s = (await self._constant_route()).answers.per_s
        return {"echo": per_s, "echo_burst": _MS_PER_S * holding.BURST / per_s}

    async def _constant_route(self) -> holding.Costs:
        return await holding.bare(self.ground, "/echo", count=self.size.echoes)

    async def _bare(self) -> One:
        return {"bare": (await holding.bare(self.ground, "/bare", count=self.size.echoes)).answers.per_s}

    async def _spread(self) -> One:
        costs = await holding.spread(self.ground, count=self.size.holds)
        share = costs.answers.generator_share * 100
        return {"spread_per_s": costs.answers.per_s, "hold_ms": costs.server_ms, "generator": share}

    async def _hot(self) -> One:
        return {"hot_per_s": (await holding.hot(self.ground, count=self.size.holds)).answers.per_s}

    async def _burst(self) -> One:
        answers = await holding.rush(self.ground)
        return {"burst": max(answers.waits_ms), "winners": abs(answers.statuses[201] - holding.SEATS)}

    async def _single(self) -> One:
        return {"single": quantile((await holding.alone(self.ground, count=self.size.singles)).waits_ms, 0.99)}

    async def _open(self) -> One:
        """Look for the knee of this minute, and let guests come at half of it and at 80 %."""
        knee_per_s = await holding.knee(
            self.ground, closed_per_s=self.closed_per_s, seconds=self.size.knee_s, seed=self.seed, say=self.say
        )
        found = {"knee_per_s": knee_per_s}
        for share in (50, 80):
            answers = await holding.as_they_come(
                self.ground, rate_per_s=knee_per_s * share / 100, seconds=self.size.open_s, seed=self.seed + share
            )
            found[f"open_{share}"] = quantile(answers.waits_ms, 0.99)
        return found

    async def _bookings(self) -> One:
        before = self.ground.serving_ms()
        done = await booking.bookings(self.ground, count=self.size.bookings)
        each_ms = (self.ground.serving_ms() - before) / self.size.bookings
        return {
            "booking_cpu": each_ms,
            "core_hours": each_ms * _MILLION / _MS_PER_HOUR,
            "bookings_per_s": done.per_s,
            "booking_p50": done.quantile_ms(0.5),
            "booking_p99": done.quantile_ms(0.99),
        }


def together(repetitions: list[One]) -> Measured:
    """Return each figure's values, repetition by repetition."""
    names = dict.fromkeys(name for one in repetitions for name in one)
    return {name: [one[name] for one in repetitions if name in one] for name in names}
