"""`make chaos`: two hundred bookings while services die, and webhooks are lost, doubled, late and out of order.

Exits 0 only if nothing drifted, nothing is stuck, and nearly every guest with a good card has a booking: all undone
would be consistent too, and worthless. The same `--seed` makes the same guests, faults and moments.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.embedded.stack import Stack
from tests.builders import Slot, a_slot
from tests.chaos.guests import Booking, Visitor
from tests.chaos.killing import Killer
from tests.chaos.reckoning import Reckoning, reckon, wait_for_quiet
from tests.doubles.stripe_sandbox import Stripe
from tests.surroundings import STACK_ENV, clean_environment
from tests.system import System

_GUESTS_AT_ONCE = 10
_SLOTS = 8
_PAYMENT_WINDOW_S = 45
_MUST_BE_CONFIRMED = 0.95
_BAD_WEBHOOKS = (
    {"event": "*", "action": "lose", "probability": 0.10},
    {"event": "*", "action": "double", "probability": 0.15, "copies": 2},
    {"event": "*", "action": "delay", "probability": 0.15, "delay_ms": 1500},
    {"event": "*", "action": "reorder", "probability": 0.10},
)


def main() -> int:
    options = _options()
    began = time.monotonic()
    print(
        f"chaos: seed={options.seed} commit={_commit()} bookings={options.bookings} kills>={options.kills}", flush=True
    )
    with _running_system(options.seed) as (system, stripe):
        bookings, kills = _one_day(system, stripe, options, began)
        loud = wait_for_quiet(system, within_s=_PAYMENT_WINDOW_S + 45)
        result = reckon(system, stripe, bookings, loud)
    return _report(result, bookings, kills, options, time.monotonic() - began)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--bookings", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds; guests who come later are not let in")
    return parser.parse_args()


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, timeout=10
    )
    return found.stdout.strip() or "unknown"


@contextmanager
def _running_system(seed: int) -> Iterator[tuple[System, Stripe]]:
    window = {"PAYMENT_WINDOW_SECONDS": str(_PAYMENT_WINDOW_S), "UNKNOWN_GRACE_SECONDS": "20"}
    settings = {**STACK_ENV, "reservation": {**STACK_ENV["reservation"], **window}}
    with tempfile.TemporaryDirectory(prefix="holdfast-chaos-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder), environ=clean_environment(), durable=False, extra_env=settings)
        limits = httpx.Limits(max_keepalive_connections=0)
        with stack, httpx.Client(timeout=20.0, limits=limits, trust_env=False) as http:
            system = System(stack, http)
            faults = [{**fault, "seed": seed + number} for number, fault in enumerate(_BAD_WEBHOOKS)]
            system.call("sandbox", "POST", "/_sandbox/faults", json={"faults": faults}).raise_for_status()
            yield system, Stripe(system)


def _one_day(system: System, stripe: Stripe, options: argparse.Namespace, began: float) -> tuple[list[Booking], int]:
    """Let the guests in, ten at a time, while services die; return what they have seen and how often one died."""
    slots = [a_slot(system, capacity=options.bookings) for _ in range(_SLOTS)]
    killer = Killer(system, options.seed, every_s=2.0)
    dying = threading.Thread(target=killer.run, args=(options.kills,), name="killer")
    dying.start()
    bookings = []
    with ThreadPoolExecutor(_GUESTS_AT_ONCE) as guests:
        visits = [
            guests.submit(_visit, system, stripe, slots[number % _SLOTS], number, options, began)
            for number in range(options.bookings)
        ]
        bookings = [booking for visit in as_completed(visits) if (booking := visit.result()) is not None]
    killer.stop()
    dying.join()
    return bookings, len(killer.killed)


def _visit(
    system: System, stripe: Stripe, slot: Slot, number: int, options: argparse.Namespace, began: float
) -> Booking | None:
    if time.monotonic() - began > options.budget:
        return None
    return Visitor(system, stripe, slot, number, options.seed).play()


def _report(result: Reckoning, bookings: list[Booking], kills: int, options: argparse.Namespace, took_s: float) -> int:
    for outcome, count in sorted(result.statuses.items()):
        print(f"  {count:4d}  {outcome}")
    for wrong in [*result.drift, *result.stuck]:
        print(f"  WRONG {wrong}")
    print(
        f"chaos: kills={kills} bookings={len(bookings)} confirmed={result.confirmed_share:.1%} of good cards "
        f"drift={len(result.drift)} stuck={len(result.stuck)} in {took_s:.0f} s"
    )
    good = (
        not result.drift
        and not result.stuck
        and result.confirmed_share >= _MUST_BE_CONFIRMED
        and kills >= options.kills
    )
    if not good:
        print(f"chaos: RED; the same day again: make chaos SEED={options.seed}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
