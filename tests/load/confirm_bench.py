"""How soon a paid booking is confirmed: `python -m tests.load.confirm_bench`.

Guests with a payment set up pay at moments drawn beforehand. Counted is, by the one database clock that both services
share here, from the row that the `authorised` webhook left (committed before its 200) to `confirmed_at`.
"""

import argparse
import asyncio
import sys
import time

import asyncpg
import httpx

from tests.builders import a_slot
from tests.load.guests import Crowd, a_few_at_once, open_loop
from tests.load.processor_time import per_booking, spent_ms
from tests.load.running import poisson, report, running_system, told
from tests.system import System

_AUTHORISED = """
SELECT p.reservation_id, min(e.received_at) AS at FROM webhook_events AS e JOIN payments AS p ON p.intent_id = e.object_id
WHERE e.type = 'payment_intent.amount_capturable_updated' GROUP BY 1
"""
_CONFIRMED = "SELECT id, confirmed_at AS at FROM reservations WHERE confirmed_at IS NOT NULL"
_SETTLES_WITHIN_S = 60.0
_SETTLES_AFTER_S = 2.0


async def payments_to_make(crowd: Crowd, system: System, count: int) -> list[str]:
    """Return the secrets of so many bookings that only wait for their guests."""
    held = await a_few_at_once([a_slot(system, capacity=count)] * count, crowd.hold)
    answers = await a_few_at_once(held, crowd.convert)
    return [answer.json()["outcome"]["client_secret"] for answer in answers]


async def waits_ms(system: System, count: int) -> list[float]:
    """Return how long each booking took from its webhook to its confirmation, once all are through."""
    urls = [system.stack.database_url(service).replace("+asyncpg", "") for service in ("payment", "reservation")]
    payment, reservation = [await asyncpg.connect(url) for url in urls]
    give_up = time.monotonic() + _SETTLES_WITHIN_S
    try:
        while True:
            confirmed = {row["id"]: row["at"] for row in await reservation.fetch(_CONFIRMED)}
            if len(confirmed) >= count or time.monotonic() > give_up:
                break
            await asyncio.sleep(0.2)
        authorised = {row["reservation_id"]: row["at"] for row in await payment.fetch(_AUTHORISED)}
    finally:
        await payment.close()
        await reservation.close()
    return [(at - authorised[who]).total_seconds() * 1000 for who, at in confirmed.items() if who in authorised]


async def measure(system: System, options: argparse.Namespace) -> tuple[list[float], float, str]:
    """Return the waits, how many guests really paid per second, and what a booking cost from there on."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    count = int(options.rate * options.seconds)
    async with httpx.AsyncClient(timeout=30.0, limits=limits, trust_env=False) as http:
        crowd = Crowd(system, http)
        secrets = await payments_to_make(crowd, system, count)
        await asyncio.sleep(_SETTLES_AFTER_S)
        before, began = spent_ms(system), time.perf_counter()
        await open_loop(secrets, poisson(options.rate, count, options.seed), crowd.pay)
        paid_per_s = count / (time.perf_counter() - began)
        found = await waits_ms(system, count)
        return found, paid_per_s, per_booking(before, spent_ms(system), count)


def main() -> int:
    options = _options()
    count = int(options.rate * options.seconds)
    with running_system(stripe_ms=options.stripe_ms) as system:
        found, paid_per_s, cost = asyncio.run(measure(system, options))
    report(f"confirm: {cost}")
    report(
        f"webhook to confirmed, {paid_per_s:.1f} paid/s, Stripe at {options.stripe_ms} ms: {told(found)},"
        f" seen={len(found)} of {count}, seed={options.seed}"
    )
    return 0 if len(found) == count else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load.confirm_bench", description=__doc__)
    parser.add_argument("--rate", type=float, default=50.0, help="bookings paid per second")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--stripe-ms", type=int, default=0, help="what Stripe takes on top of the sandbox's own time")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
