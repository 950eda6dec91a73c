"""`make drills`: the rules' own tests, then a real Prometheus that watches the running system on good and on bad days.

Exits 0 only if every panel has shown something, nothing was on while all was well, and each fault that was made set off
its alerts, which went again when it was mended; 3 when there is no Prometheus to be had.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.embedded.stack import Stack
from tests.doubles.stripe_sandbox import Stripe
from tests.surroundings import STACK_ENV, clean_environment
from tests.system import System
from tests.watching.drills import DRILLS, Fault, Scene, an_ordinary_day, in_force
from tests.watching.panels import queries
from tests.watching.prometheus import RATE_INTERVAL, NoPrometheus, Prometheus, programs
from tests.watching.rules import FOLDER

_COMES_WITHIN_S = 60
_GOES_WITHIN_S = 100
_QUIET_S = 10
_PERIOD_S = 20
_NO_PROMETHEUS = 3
_ALWAYS_ON = {"Watchdog"}
# What neither a good day nor a drill brings about: a panel of it may stay empty.
_SELDOM = {"reservation_late_money_total": "guests who pay when their time is over have journeys of their own"}


def main() -> int:
    options = _options()
    print(f"drills: seed={options.seed}", flush=True)
    try:
        with programs() as found:
            return _all(options, found)
    except NoPrometheus as lack:
        print(lack)
        return _NO_PROMETHEUS


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.watching", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the drills' order")
    parser.add_argument("--budget", type=float, default=900.0, help="seconds after which no further drill begins")
    parser.add_argument("--only", action="append", help="the name of a drill; again for more")
    return parser.parse_args()


def _all(options: argparse.Namespace, found: Mapping[str, str]) -> int:
    for arguments in (["check", "rules", *_paths("rules")], ["test", "rules", *_paths("rules_test")]):
        if subprocess.run([found["promtool"], *arguments], check=False).returncode:
            return 1
    order = [drill for drill in DRILLS if not options.only or drill.__name__ in options.only]
    random.Random(options.seed).shuffle(order)
    with _watched_system(found["prometheus"]) as (scene, prometheus):
        return Watch(scene, prometheus, ends=time.monotonic() + options.budget).run(order, every_panel=not options.only)


def _paths(folder: str) -> list[str]:
    return [str(path) for path in sorted((FOLDER / folder).glob("*.yml"))]


@contextmanager
def _watched_system(binary: str) -> Iterator[tuple[Scene, Prometheus]]:
    """Start everything; what is looked at every few minutes is looked at every second, and limits are the shipped ones."""
    soon = {"INVARIANTS_CHECK_SECONDS": "1"}
    more = {
        "reservation": {**soon, "RATE_LIMIT_HOLDS_PER_MINUTE": "10", "SAGA_COUNT_SECONDS": "1"},
        "payment": {**soon, "GAUGES_REFRESH_SECONDS": "1", "WEBHOOK_TYPES_CHECK_SECONDS": "1"},
    }
    settings = {**STACK_ENV, **{part: STACK_ENV[part] | more[part] for part in more}}
    with tempfile.TemporaryDirectory(prefix="holdfast-drills-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder) / "stack", environ=clean_environment(), durable=False, extra_env=settings)
        limits = httpx.Limits(max_keepalive_connections=0)
        with stack, httpx.Client(timeout=20.0, limits=limits, trust_env=False) as http:
            system = System(stack, http)
            targets = {f"{part}_service": stack.url(part).removeprefix("http://") for part in more}
            scene = Scene(system, Stripe(system), lambda: time.sleep(_PERIOD_S))
            with Prometheus(binary, Path(folder) / "prometheus", targets) as prometheus:
                yield scene, prometheus


class Watch:
    """One run: a good day, the drills, and what was seen of them."""

    def __init__(self, scene: Scene, prometheus: Prometheus, *, ends: float) -> None:
        self._scene = scene
        self._prometheus = prometheus
        self._ends = ends
        self._wrong: list[str] = []

    def run(self, order: Sequence[Fault], *, every_panel: bool) -> int:
        began, first = time.monotonic(), time.time()
        an_ordinary_day(self._scene)
        self._expect_quiet()
        made = 0
        for fault in order:
            if time.monotonic() > self._ends:
                print("  the budget is spent")
                break
            self._drill(fault)
            made += 1
        shown, panels = self._panels(first) if every_panel else (0, 0)
        self._wrong += self._prometheus.broken_rules()
        for wrong in self._wrong:
            print(f"  WRONG {wrong}")
        came = sum(len(DRILLS[fault]) for fault in order[:made])
        print(
            f"drills: {made}/{len(order)} made, {came} alerts expected, panels {shown}/{panels} have shown something, "
            f"wrong {len(self._wrong)}, {time.monotonic() - began:.0f} s"
        )
        return int(bool(self._wrong) or made < len(order))

    def _expect_quiet(self) -> None:
        """Nothing is on once Prometheus knows everybody, and nothing comes on for a while."""
        self._wait(lambda on: on == _ALWAYS_ON, _GOES_WITHIN_S)
        if self._wait(lambda on: on != _ALWAYS_ON, _QUIET_S):
            self._wrong.append(f"all is well, and yet: {sorted(self._prometheus.firing() - _ALWAYS_ON)}")

    def _drill(self, fault: Fault) -> None:
        expected, seen, began = set(DRILLS[fault]), set[str](), time.monotonic()

        def have_come(on: set[str]) -> bool:
            seen.update(on)
            return expected <= seen

        with in_force(fault, self._scene):
            if not self._wait(have_come, _COMES_WITHIN_S):
                self._wrong.append(f"{fault.__name__}: {sorted(expected - seen)} never came")
        mended = time.monotonic()
        an_ordinary_day(self._scene)
        if not self._wait(lambda on: on == _ALWAYS_ON, _GOES_WITHIN_S):
            left = sorted(self._prometheus.firing() - _ALWAYS_ON)
            self._wrong.append(f"{fault.__name__}: {left} still on when all is mended")
        print(
            f"  {fault.__name__:36} {', '.join(sorted(expected))} after {mended - began:.0f} s, quiet "
            f"{time.monotonic() - mended:.0f} s after the mending; also {sorted(seen - expected - _ALWAYS_ON)}",
            flush=True,
        )

    def _wait(self, is_so: Callable[[set[str]], bool], within_s: float) -> bool:
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            if is_so(self._prometheus.firing()):
                return True
            time.sleep(0.5)
        return False

    def _panels(self, first: float) -> tuple[int, int]:
        asked = queries()
        empty = [
            f"{dashboard}: {title} shows nothing: {expression}"
            for dashboard, title, expression in asked
            if not self._prometheus.shows(expression.replace("$__rate_interval", RATE_INTERVAL), first, time.time())
        ]
        self._wrong += [line for line in empty if not any(metric in line for metric in _SELDOM)]
        return len(asked) - len(empty), len(asked)


if __name__ == "__main__":
    sys.exit(main())
