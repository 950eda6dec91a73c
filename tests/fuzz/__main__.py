"""`make fuzz`: twenty thousand requests at every operation of both services, well-formed, forbidden and broken.

Exits 0 only if nothing was answered with 5xx or in another shape than ours, both audits are clean, memory is flat, and
every operation succeeds often enough when it is asked as it should be. The same `--seed` makes the same requests.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import httpx

from deploy.embedded.stack import Stack
from tests.fuzz.campaign import run
from tests.fuzz.generated import thorough_draw
from tests.surroundings import STACK_ENV, clean_environment
from tests.system import System


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--budget", type=float, default=900.0, help="seconds")
    options = parser.parse_args()
    print(f"fuzz: seed={options.seed} requests={options.requests}", flush=True)
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-fuzz-", ignore_cleanup_errors=True) as folder,
        Stack(Path(folder), environ=clean_environment(), durable=False, extra_env=STACK_ENV) as stack,
        httpx.Client(timeout=20.0, trust_env=False) as http,
    ):
        system = System(stack, http)
        found = run(
            system, thorough_draw(options.seed), count=options.requests, number=options.seed, budget_s=options.budget
        )
        system.assert_consistent()
    for bug in found.bugs[:20]:
        print(f"  BUG {bug}")
    barren = found.barren()
    for name in barren:
        print(f"  BARREN {name}")
    print(f"{found.line()} barren={len(barren)} in {time.monotonic() - began:.0f} s")
    good = not found.bugs and not barren and found.flat()
    if not good:
        print(f"fuzz: RED; the same requests again: make fuzz SEED={options.seed}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
