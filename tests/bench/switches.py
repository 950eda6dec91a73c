"""What each flag, and telemetry, costs a hold or a booking: with and without, in turns; `make bench-switches` measures that alone."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench import booking, holding
from tests.bench.ground import Ground, open_ground
from tests.load.running import commit, report
from tests.system import Service

Turned = Callable[[Ground, bool], AbstractContextManager[None]]

_PRODUCTION = 0.01  # the default of TRACE_SAMPLE_RATIO

HEAD = (
    "| on and off in turns | what is measured | processor time, on | off | it costs | median wait, ms, on / off |",
    "| --- | --- | ---: | ---: | ---: | ---: |",
)


@dataclass(frozen=True)
class Switch:
    """Something that is on or off; `each` is what is measured meanwhile, and `turned` has it so for as long."""

    title: str
    each: str
    turned: Turned


@dataclass(frozen=True)
class Cost:
    """Processor time of one of them with it on and off, and how long whoever asked has waited."""

    title: str
    each: str
    on_us: float
    off_us: float
    on_wait_ms: float
    off_wait_ms: float

    @property
    def row(self) -> str:
        return (
            f"| {self.title} | {self.each} | {self.on_us:,.0f} us | {self.off_us:,.0f} us"
            f" | {self.on_us - self.off_us:+,.0f} us | {self.on_wait_ms:.2f} / {self.off_wait_ms:.2f} |"
        )


@dataclass(frozen=True)
class Counts:
    """How much is measured in each turn."""

    holds: int
    singles: int
    bookings: int
    turns: int = 2


@contextmanager
def _flag(name: str, services: Sequence[Service], ground: Ground, on: bool) -> Iterator[None]:
    """Turn a flag for everybody, and on again afterwards; whoever is called forgoes a thing first, and asks for it last."""
    _put(name, services if on else services[::-1], ground, on=on)
    try:
        yield
    finally:
        _put(name, services, ground, on=True)


def _put(name: str, services: Sequence[Service], ground: Ground, *, on: bool) -> None:
    for service in services:
        asked = {"enabled": on, "reason": "the bench measures what it costs"}
        ground.system.admin(service, "PUT", f"/flags/{name}", json=asked)


@contextmanager
def _traced(share: float, ground: Ground, on: bool) -> Iterator[None]:
    """Have so many requests recorded, or none; a process learns of that when it starts."""
    ground.system.stack.restart("reservation", env={"TRACE_SAMPLE_RATIO": str(share if on else 0)})
    try:
        yield
    finally:
        ground.system.stack.restart("reservation", env={"TRACE_SAMPLE_RATIO": str(_PRODUCTION)})


def _of_hold(name: str) -> Switch:
    return Switch(f"`{name}`", "a hold", partial(_flag, name, ("reservation",)))


def _of_booking(name: str, *services: Service) -> Switch:
    return Switch(f"`{name}`", "a booking", partial(_flag, name, services))


SWITCHES = (
    _of_hold("smart_idempotency"),
    _of_hold("group_admission"),
    _of_hold("lean_hold_door"),
    _of_hold("replace_own_hold"),
    _of_hold("distributed_lock"),
    _of_hold("rate_limiting"),
    _of_hold("metrics"),
    _of_hold("pool_metrics"),
    Switch("telemetry: one request of a hundred", "a hold", partial(_traced, _PRODUCTION)),
    Switch("telemetry: every request", "a hold", partial(_traced, 1.0)),
    _of_booking("structured_logging", "reservation", "payment"),
    _of_booking("signed_internal_calls", "reservation", "payment"),
    _of_booking("saga_orchestration", "reservation"),
    _of_booking("hold_cleanup", "reservation"),
    _of_booking("webhook_inbox", "payment"),
    _of_booking("settle_at_the_door", "payment"),
    _of_booking("payment_retries", "payment"),
    _of_booking("circuit_breaker", "payment"),
    _of_booking("reconciliation", "payment"),
)


async def costs(ground: Ground, counts: Counts, *, goes_on: Callable[[], bool], only: str = "") -> list[Cost]:
    """Measure every switch with `only` in its title, as long as there is time."""
    return [await _cost(ground, switch, counts) for switch in SWITCHES if only in switch.title and goes_on()]


async def _cost(ground: Ground, switch: Switch, counts: Counts) -> Cost:
    """Measure a switch on and off, in turns."""
    once = _hold if switch.each == "a hold" else _booking
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for turn in range(2 * counts.turns):
        on = turn % 2 == 0
        with switch.turned(ground, on):
            found[on].append(await once(ground, counts))
    middle = {on: [median(values) for values in zip(*seen, strict=True)] for on, seen in found.items()}
    (on_us, on_ms), (off_us, off_ms) = middle[True], middle[False]
    return Cost(switch.title, switch.each, on_us, off_us, on_ms, off_ms)


async def _hold(ground: Ground, counts: Counts) -> tuple[float, float]:
    """Return what a hold costs reservation_service, in us, and how long a caller alone waits for one, in ms."""
    each_ms = (await holding.spread(ground, count=counts.holds)).server_ms
    return each_ms * 1000, median((await holding.alone(ground, count=counts.singles)).waits_ms)


async def _booking(ground: Ground, counts: Counts) -> tuple[float, float]:
    """Return what a booking costs all processes, in us, and how long one takes, in ms."""
    before = ground.serving_ms()
    done = await booking.bookings(ground, count=counts.bookings)
    return (ground.serving_ms() - before) / counts.bookings * 1000, done.quantile_ms(0.5)


async def _alone(ground: Ground, counts: Counts, only: str) -> list[Cost]:
    await holding.spread(ground, count=counts.holds)
    await booking.bookings(ground, count=counts.bookings)
    return await costs(ground, counts, goes_on=lambda: True, only=only)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.switches", description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="how often each is measured on, and off")
    parser.add_argument("--only", default="", help="measure those with this in their name")
    options = parser.parse_args()
    counts = Counts(holds=2000, singles=100, bookings=40, turns=options.turns)
    with tempfile.TemporaryDirectory() as folder, open_ground(Path(folder)) as ground:
        found = asyncio.run(_alone(ground, counts, options.only))
    sys.stdout.write("\n".join([*HEAD, *(cost.row for cost in found)]) + "\n")
    report(f"bench-switches: medians of {options.turns} turns each, commit {commit()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
