"""The whole system as real processes with production's own settings, for figures; only the limits are out of the way."""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx

from deploy.embedded.stack import Stack
from tests.doubles.stripe_sandbox import Stripe
from tests.load.processor_time import yardstick_ms
from tests.surroundings import ROOM_FOR_CROWDS, clean_environment
from tests.system import System


@contextmanager
def running_system(
    *,
    stripe_ms: int,
    settings: Mapping[str, str] = MappingProxyType({}),
    prepare: Callable[[Stack], object] = lambda _stack: None,
) -> Iterator[System]:
    """Start everything, durable as in production, on free ports and fresh databases; each call to Stripe takes so long.

    `settings` are for both services; `prepare` sees the stack before it starts.
    """
    extra = {"reservation": ROOM_FOR_CROWDS, "all": settings}
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "state", environ=clean_environment(), extra_env=extra)
        prepare(stack)
        with stack, httpx.Client(timeout=30.0, trust_env=False) as http:
            system = System(stack, http)
            if stripe_ms:
                with Stripe(system).fault("delay_before", operation="*", delay_ms=stripe_ms):
                    yield system
            else:
                yield system


def commit() -> str:
    """Return the commit that is measured, marked when the working tree differs from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, timeout=10
    )
    return found.stdout.strip() or "unknown"


def poisson(rate_per_s: float, count: int, seed: int) -> list[float]:
    """Return when each of `count` independent callers starts, in seconds from the beginning."""
    dice, at_s, starts = random.Random(seed), 0.0, list[float]()
    for _ in range(count):
        at_s += dice.expovariate(rate_per_s)
        starts.append(at_s)
    return starts


def quantile(figures: Sequence[float], share: float) -> float:
    """Return the smallest figure that at least `share` of all do not exceed."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def told(figures_ms: Sequence[float]) -> str:
    """Return `p50 .. p95 .. p99 .. max` of figures in milliseconds."""
    shares = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    each = [f"{name}={quantile(figures_ms, share):.0f}" for name, share in shares]
    return " ".join([*each, f"max={max(figures_ms):.0f} ms"])


def report(line: str, say: Callable[[str], object] = sys.stdout.write) -> None:
    """Print a line at once, with how busy the machine is: a figure without that is worth little."""
    say(f"{line}  (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, yardstick {yardstick_ms():.0f} ms)\n")
    sys.stdout.flush()
