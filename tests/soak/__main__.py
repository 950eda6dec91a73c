"""`make soak`: guests come and go for as long as it is given, and nothing that the processes hold on to may grow.

A few do everything that guests do, round after round; every few seconds memory and open files of both services are
read. Exits 0 only if neither grows from the second quarter to the last, rounds take no longer, and the books agree.
Under load the whole heap is tidied every ten minutes only (decision 0036), so much less than half an hour sees growth.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.embedded.stack import Stack
from tests.doubles.stripe_sandbox import Stripe
from tests.soak.watching_processes import Sample, grown, look_at, slower
from tests.surroundings import STACK_ENV, clean_environment
from tests.system import SERVICES, System
from tests.watching.drills import Scene, an_ordinary_day

_LOOKS = 60
_GUESTS = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument(
        "--budget",
        type=float,
        default=1800.0,
        help="seconds; less than the default sees what the collector has not come to yet",
    )
    options = parser.parse_args()
    print(f"soak: budget={options.budget:g} s", flush=True)
    with _running_system() as scene:
        soak = Soak(scene, time.monotonic() + options.budget, every_s=options.budget / _LOOKS)
        wrong = soak.run()
        scene.system.assert_consistent()
        scene.system.assert_books_agree(within_s=60)
    for line in wrong:
        print(f"  WRONG {line}")
    print(soak.line() + f" wrong={len(wrong)}")
    return int(bool(wrong))


@contextmanager
def _running_system() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="holdfast-soak-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder), environ=clean_environment(), durable=False, extra_env=STACK_ENV)
        with stack, httpx.Client(timeout=20.0, trust_env=False) as http:
            system = System(stack, http)
            yield Scene(system, Stripe(system), lambda: None)


class Soak:
    """One run, and what was seen in it."""

    def __init__(self, scene: Scene, ends: float, *, every_s: float) -> None:
        self._scene = scene
        self._ends = ends
        self._every_s = every_s
        self._took_s: list[float] = []
        self._seen: dict[str, list[Sample]] = defaultdict(list)
        self._over = threading.Event()

    def run(self) -> list[str]:
        """Let guests come until the time is over; return what is wrong."""
        with ThreadPoolExecutor(_GUESTS) as guests:
            coming = [guests.submit(self._come_and_go) for _ in range(_GUESTS)]
            try:
                self._watch()
            finally:
                self._over.set()
            for guest in coming:
                guest.result()
        return [line for samples in self._seen.values() for line in grown(samples)] + slower(self._took_s)

    def _come_and_go(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            an_ordinary_day(self._scene)
            self._took_s.append(time.monotonic() - began)

    def _watch(self) -> None:
        while time.monotonic() < self._ends:
            time.sleep(self._every_s)
            children = self._scene.system.stack.children()
            for service in SERVICES:
                self._seen[service].append(look_at(service, children[service][0]))

    def line(self) -> str:
        sizes = ", ".join(
            f"{service} {samples[len(samples) // 4].memory_mib:.0f} -> {samples[-1].memory_mib:.0f} MiB,"
            f" {samples[len(samples) // 4].handles} -> {samples[-1].handles} open files"
            for service, samples in self._seen.items()
        )
        return f"soak: rounds={len(self._took_s)} bookings={4 * len(self._took_s)} {sizes}"


if __name__ == "__main__":
    sys.exit(main())
