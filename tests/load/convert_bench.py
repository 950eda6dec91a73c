"""How long guests wait for convert while Stripe takes its time: `python -m tests.load.convert_bench`.

Open loop: arrivals are drawn beforehand, and each wait is counted from the drawn moment. Every answer must be a 201 that
says `action_required`; anything else ends the bench with exit code 1.
"""

import argparse
import asyncio
import statistics
import sys
from collections import Counter

import httpx

from tests.builders import a_slot
from tests.load.guests import Crowd, a_few_at_once, open_loop
from tests.load.processor_time import per_booking, spent_ms
from tests.load.running import poisson, quantile, report, running_system, told
from tests.system import System


async def repetition(system: System, options: argparse.Namespace, number: int) -> tuple[list[float], Counter[str], str]:
    """Return the waits in ms, what the answers said, and what a convert cost."""
    slot = a_slot(system, capacity=options.guests)
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with httpx.AsyncClient(timeout=30.0, limits=limits, trust_env=False) as http:
        crowd = Crowd(system, http)
        held = await a_few_at_once([slot] * options.guests, crowd.hold)
        starts = poisson(options.rate, options.guests, options.seed + number)
        before = spent_ms(system)
        answers, waits_ms = await open_loop(held, starts, crowd.convert)
        cost = per_booking(before, spent_ms(system), options.guests)
    said = [f"{answer.status_code} {answer.json().get('outcome', {}).get('type')}" for answer in answers]
    return waits_ms, Counter(said), cost


def main() -> int:
    options = _options()
    p99s, wrong = list[float](), 0
    with running_system(stripe_ms=options.stripe_ms) as system:
        for number in range(options.repetitions):
            waits_ms, said, cost = asyncio.run(repetition(system, options, number))
            p99s.append(quantile(waits_ms, 0.99))
            wrong += options.guests - said["201 action_required"]
            report(f"convert {number + 1}: {told(waits_ms)}  {dict(said)}  {cost}")
    report(
        f"convert with Stripe at {options.stripe_ms} ms, {options.rate:.0f}/s, {options.repetitions} x {options.guests}:"
        f" p99 median={statistics.median(p99s):.0f} min={min(p99s):.0f} max={max(p99s):.0f} ms,"
        f" other answers={wrong}, seed={options.seed}"
    )
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load.convert_bench", description=__doc__)
    parser.add_argument("--stripe-ms", type=int, default=200, help="how long Stripe takes for each call")
    parser.add_argument("--rate", type=float, default=5.0, help="converts per second")
    parser.add_argument("--guests", type=int, default=100, help="per repetition")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
