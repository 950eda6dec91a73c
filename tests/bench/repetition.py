"""One repetition: every yardstick and every figure, close together in time, so that a slow minute slows both."""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.bench import booking, holding
from tests.bench.figures import Measured
from tests.bench.ground import SLOTS, Ground
from tests.bench.pgbench import Pgbench
from tests.bench.watched_reservation import seen
from tests.load.processor_time import spent_ms
from tests.load.running import quantile

_MILLION = 1_000_000
_MS_PER_HOUR = 3_600_000
One = dict[str, float]


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


QUICK = Size(repetitions=5, pgbench_s=1, holds=1200, echoes=2500, singles=120, open_s=1.5, bookings=24, knee_s=1)
FULL = Size(repetitions=5, pgbench_s=4, holds=8000, echoes=15_000, singles=600, open_s=8, bookings=120, knee_s=3)
TINY = Size(repetitions=2, pgbench_s=1, holds=300, echoes=300, singles=20, open_s=1, bookings=4, knee_s=1)


@dataclass(frozen=True)
class Bench:
    """What a repetition needs to know."""

    ground: Ground
    pgbench: Pgbench
    size: Size
    seed: int
    knee_per_s: float

    async def repetition(self, number: int) -> One:
        """Measure everything once, in an order of its own."""
        began = time.monotonic()
        parts: list[Callable[[], Awaitable[One]]] = [
            self._pgbench, self._bare, self._spread, self._hot, self._burst, self._single, self._open, self._bookings,
        ]  # fmt: skip
        random.Random(self.seed * 1000 + number).shuffle(parts)
        found: One = {}
        for part in parts:
            found |= await part()
        gc_ms, lag_ms = seen(self.ground.watch_file, began)
        return found | {"gc": gc_ms, "lag": lag_ms} | _ratios(found)

    async def _pgbench(self) -> One:
        found = One()
        with self.pgbench.postgres_on_one_core():
            await self.ground.wipe()
            found["pgbench_spread_1"] = self.pgbench.holds_per_s(slots=SLOTS, seconds=self.size.pgbench_s)
        await self.ground.wipe()
        found["pgbench_spread"] = self.pgbench.holds_per_s(slots=SLOTS, seconds=self.size.pgbench_s)
        await self.ground.wipe()
        found["pgbench_hot"] = self.pgbench.holds_per_s(slots=1, seconds=self.size.pgbench_s)
        return found

    async def _bare(self) -> One:
        echo = await holding.bare(self.ground, "/echo", count=self.size.echoes)
        asgi = await holding.bare(self.ground, "/bare", count=self.size.echoes)
        return {"echo": echo.answers.per_s, "bare": asgi.answers.per_s, "echo_ms": echo.server_ms}

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
        found = One()
        for share in (50, 80):
            answers = await holding.as_they_come(
                self.ground, rate_per_s=self.knee_per_s * share / 100, seconds=self.size.open_s, seed=self.seed + share
            )
            found[f"open_{share}"] = quantile(answers.waits_ms, 0.99)
        return found

    async def _bookings(self) -> One:
        before = self._spent_ms()
        done = await booking.bookings(self.ground, count=self.size.bookings)
        each_ms = (self._spent_ms() - before) / self.size.bookings
        return {
            "booking_cpu": each_ms,
            "core_hours": each_ms * _MILLION / _MS_PER_HOUR,
            "bookings_per_s": done.per_s,
            "booking_p50": done.quantile_ms(0.5),
            "booking_p99": done.quantile_ms(0.99),
        }

    def _spent_ms(self) -> float:
        """Return what everything that serves guests has used so far."""
        return sum(spent for part, spent in spent_ms(self.ground.system).items() if part != "guests")


def _ratios(found: One) -> One:
    return {
        "spread": found["spread_per_s"] / found["pgbench_spread_1"],
        "hot": found["hot_per_s"] / found["pgbench_hot"],
        "burst_echo": found["burst"] / (1000 * holding.BURST / found["echo"]),
        "cpu": found["hold_ms"] / found["echo_ms"],
        "bookings": found["bookings_per_s"] / found["pgbench_spread"],
    }


def together(repetitions: list[One]) -> Measured:
    """Return each figure's values, repetition by repetition."""
    names = dict.fromkeys(name for one in repetitions for name in one)
    return {name: [one[name] for one in repetitions if name in one] for name in names}
