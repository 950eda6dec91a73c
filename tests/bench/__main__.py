"""`make bench` and `make bench-quick`: how fast a hold and a booking are, as ratios to what this machine can do at all.

Everything is as in production (durable, signed, limited, traced, logged); only the limits' numbers are out of the way.
Exits 0 when every must is reached, 1 when one is not, 2 when the books or an answer were wrong, and 3, without a table, when the
machine was too noisy to believe any figure.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import booking, fairness, footprint, growth, holding, switches
from tests.bench.figures import Measured, missed, table
from tests.bench.ground import Ground, WrongBooks, open_ground
from tests.bench.machine import Calm, described, noise, usage
from tests.bench.pgbench import Pgbench
from tests.bench.plots import drawing
from tests.bench.repetition import FULL, QUICK, TINY, Bench, Size, together
from tests.bench.side_by_side import One
from tests.doubles.stripe_sandbox import Stripe
from tests.load import confirm_bench
from tests.load.running import commit

_SIZES = {"quick": QUICK, "full": FULL, "tiny": TINY}
_REPETITIONS_MIN = 5
_ANEW_MAX = 3  # so many disturbed repetitions are made anew
_REACHED, _MISSED, _WRONG, _NOISY = 0, 1, 2, 3


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Run:
    """One run of the bench; what does not fit into the budget is left out, and then it was not reached."""

    def __init__(self, ground: Ground, folder: Path, options: argparse.Namespace) -> None:
        self._ground = ground
        self._size: Size = _SIZES[options.size]
        self._pgbench = Pgbench(ground, folder)
        self._seed: int = options.seed
        self._ends_at = time.monotonic() + options.budget
        self._growth_rows: int = options.growth_rows
        self.switches: Sequence[switches.Cost] = ()
        self.disturbed: list[str] = []
        self.made_anew = 0

    def _left_s(self) -> float:
        return self._ends_at - time.monotonic()

    async def measure(self) -> Measured:
        """Warm up, repeat, and then measure once what takes long."""
        await holding.spread(self._ground, count=min(1000, self._size.holds))
        closed = await holding.spread(self._ground, count=self._size.holds)
        bench = Bench(self._ground, self._pgbench, self._size, self._seed, closed.answers.per_s, say)
        done = await self._repetitions(bench)
        once = One()
        for part in (self._slow_stripe, self._webhook):
            once |= await self._if_it_fits(part)
        once |= self._footprint()
        found = {**together(done), **{name: [value] for name, value in once.items()}}
        return found | await self._with_and_without(median(found["knee_per_s"]))

    async def _repetitions(self, bench: Bench) -> list[One]:
        """Repeat until there are enough that nobody disturbed; disturbed ones only fill up, and then the run is refused."""
        calm, spoilt = list[One](), list[tuple[One, list[str]]]()
        for number in range(self._size.repetitions + _ANEW_MAX):
            began = time.monotonic()
            found = await bench.repetition(number)
            if bench.disturbed:
                spoilt.append((found, [*bench.disturbed]))
                bench.disturbed.clear()
            else:
                calm.append(found)
            say(
                f"  repetition {number + 1}{' (disturbed)' if spoilt and spoilt[-1][0] is found else ''}: {_short(found)}"
            )
            if len(calm) == self._size.repetitions or self._left_s() < time.monotonic() - began:
                break
        self.made_anew = len(spoilt)
        for found, reasons in spoilt[: self._size.repetitions - len(calm)]:
            calm.append(found)
            self.disturbed += reasons
        return calm

    async def _with_and_without(self, knee_per_s: float) -> Measured:
        """Measure what is compared in turns: a crowd beside others, flags, and full tables last."""
        if self._size is QUICK:
            return {}
        rate_per_s, seconds, turns = knee_per_s / 2, self._size.open_s, self._size.repetitions
        ratios = await fairness.beside_a_crowd(
            self._ground, rate_per_s=rate_per_s, seconds=seconds, seed=self._seed, turns=turns
        )
        counts = switches.Counts(
            holds=self._size.holds // 5, singles=self._size.singles // 5, bookings=max(1, self._size.bookings // 5)
        )
        self.switches = await switches.costs(self._ground, counts, goes_on=lambda: self._left_s() > 0)
        grown = await self._if_it_fits(self._growth)
        return {"fairness": ratios, **{name: [value] for name, value in grown.items()}}

    async def _if_it_fits(self, part: Callable[[], Awaitable[One]]) -> One:
        if self._size is not FULL or self._left_s() <= 0:
            return {}
        return await part()

    def _footprint(self) -> One:
        memory = {f"memory_{name}": mb for name, mb in footprint.memory_mb(self._ground).items()}
        return memory | {"image": footprint.image_mb()}

    async def _slow_stripe(self) -> One:
        with Stripe(self._ground.system).fault("delay_before", operation="*", delay_ms=200):
            found = await booking.bookings(self._ground, count=self._size.bookings)
        return {
            "bookings_200_per_s": found.per_s,
            "booking_200_p50": found.quantile_ms(0.5),
            "booking_200_p99": found.quantile_ms(0.99),
        }

    async def _webhook(self) -> One:
        """Measure how soon paid bookings are confirmed, 50 of them a second."""
        options = argparse.Namespace(rate=50.0, seconds=10.0, seed=self._seed)
        waits_ms, _paid_per_s, _cost = await confirm_bench.measure(self._ground.system, options)
        return {"webhook": sorted(waits_ms)[int(0.99 * len(waits_ms))]}

    async def _growth(self) -> One:
        ratio = await growth.hold_ratio(self._ground, rows=self._growth_rows, left_s=self._left_s(), say=say)
        return {} if ratio is None else {"growth": ratio}


def _short(one: One) -> str:
    names = ("spread", "hot", "winners", "burst", "open_80", "single", "cpu", "bookings")
    return ", ".join(f"{name} {one[name]:.3g}" for name in names)


def main() -> int:
    options = _options()
    load_before, before = os.getloadavg()[0], usage()
    say(f"bench ({options.size}), seed {options.seed}, commit {commit()}, load {load_before:.1f} before")
    if not options.anyway and (reasons := noise((), Calm(0, 0), load_before)):
        return _refuse(reasons)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            with open_ground(folder) as ground:
                run = Run(ground, folder, options)
                measured = dict(asyncio.run(run.measure()))
            if options.size != "quick":
                measured["start_up"] = footprint.warm_starts_s(folder / "start", times=_REPETITIONS_MIN)
            calm = Calm.between(before, usage())
        except (WrongBooks, holding.Refused, footprint.NoBooking) as error:
            say(f"WRONG: {error}")
            return _WRONG
    reasons = noise(run.disturbed, calm, load_before)
    if (repetitions := len(measured["echo"])) < _REPETITIONS_MIN:
        reasons.append(f"{repetitions} repetitions are not {_REPETITIONS_MIN}")
    if reasons and not options.anyway:
        return _refuse(reasons)
    if reasons:
        say("NOT A MEASUREMENT, the machine was too noisy:\n" + "\n".join(f"- {reason}" for reason in reasons))
    whole = options.size != "quick"
    lines = [
        *table(measured, whole=whole),
        *(["", *switches.HEAD, *(cost.row for cost in run.switches)] if run.switches else []),
    ]
    say("\n".join(lines))
    unmet = missed(measured, whole=whole)
    if not reasons:
        _keep(measured, lines, calm, options, run.made_anew)
    say("every must is reached" if not unmet else "not reached: " + "; ".join(unmet))
    return _NOISY if reasons else _MISSED if unmet else _REACHED


def _refuse(reasons: list[str]) -> int:
    say("The machine is too noisy to measure on, so no figure is printed, and nothing counts as reached:")
    say("\n".join(f"- {reason}" for reason in reasons))
    return _NOISY


def _keep(measured: Measured, lines: Sequence[str], calm: Calm, options: argparse.Namespace, made_anew: int) -> None:
    """Write the figures and their picture, with all that is needed to judge or repeat them."""
    at = datetime.now(UTC).replace(microsecond=0)
    about: dict[str, Any] = {
        "command": f"make bench{'' if options.size == 'full' else '-quick'} SEED={options.seed}",
        "seed": options.seed,
        "commit": commit(),
        "at": at.isoformat(),
        "machine": described(),
        "disturbed_by": asdict(calm),
        "repetitions_made_anew": made_anew,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"bench-{options.size}.json"
    path.write_text(json.dumps({**about, "figures": measured}, indent=1) + "\n")
    title = f"{about['command']}, commit {about['commit']}, {at.date()}"
    path.with_suffix(".svg").write_text(drawing(measured, title))
    shown_on(options.page, [*_links(path, options.page), "", *lines], title)
    say(f"kept in {path}, as a drawing beside it, and in {options.page}")


def _links(path: Path, page: Path) -> list[str]:
    """Return where the page finds the figures and the drawing."""
    at = os.path.relpath(path, page.parent)
    return [f"[All repetitions]({at}), with the machine and what disturbed it.", "", f"![{path.stem}]({at[:-5]}.svg)"]


def shown_on(page: Path, lines: Sequence[str], title: str) -> None:
    """Put the figures where the page keeps a place for them."""
    before, mark, rest = page.read_text().partition("<!-- bench -->\n")
    _old, end, after = rest.partition("<!-- end of bench -->\n")
    if not (mark and end):
        raise ValueError(f"{page} keeps no place for figures")
    page.write_text("\n".join([before + mark + f"`{title}`", "", *lines, end + after]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--size", choices=sorted(_SIZES), default="full", help="tiny is for trying out the bench itself"
    )
    parser.add_argument("--budget", type=float, default=1200.0, help="seconds; what does not fit was not reached")
    parser.add_argument("--seed", type=int, default=1, help="of arrivals and of the order of measurements")
    parser.add_argument("--growth-rows", type=int, default=10_000_000, help="how many holds there are at the end")
    parser.add_argument("--results", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--page", type=Path, default=Path("docs/explanation/performance.md"), help="shows the figures")
    parser.add_argument("--anyway", action="store_true", help="print what a noisy machine gives; it never counts")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
