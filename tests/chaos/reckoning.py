"""After the chaos: wait until all is quiet, then hold every booking against the books."""

import time
from collections import Counter
from dataclasses import dataclass

from tests.chaos.guests import Booking
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System

_LIVE = ("running", "waiting", "unwinding")
_NO_MONEY = ("canceled", "requires_payment_method")


@dataclass(frozen=True)
class Reckoning:
    """What the day came to. `drift` and `stuck` name what is wrong; both are empty on a good day."""

    statuses: Counter[str]
    confirmed_share: float
    drift: list[str]
    stuck: list[str]


def wait_for_quiet(system: System, *, within_s: float) -> list[str]:
    """Wait until no saga lives, no webhook waits and no hold is due; return what is still not quiet."""
    end = time.monotonic() + within_s
    while (loud := _what_is_loud(system)) and time.monotonic() < end:
        time.sleep(0.5)
    return loud


def _what_is_loud(system: System) -> list[str]:
    waiting = system.admin("payment", "GET", "/webhook-events?status=received&limit=100")["data"]
    return _live_sagas(system) + [f"event {row['stripe_event_id']} waits" for row in waiting]


def _live_sagas(system: System) -> list[str]:
    found = []
    for status in _LIVE:
        page = system.admin("reservation", "GET", f"/sagas?status={status}&limit=100")
        found += [f"saga {row['id']} is {status}" for row in page["data"]]
    return found


def reckon(system: System, stripe: Stripe, bookings: list[Booking], loud: list[str]) -> Reckoning:
    """Compare what guests were promised, what both databases say, and what Stripe's book says."""
    rows = {row["reservation_id"]: row for row in system.every("payment", "/audit-export")}
    statuses: Counter[str] = Counter()
    drift: list[str] = []
    wanted = confirmed = 0
    for booking in bookings:
        status = booking.status()
        statuses[f"{booking.story}: {status}"] += 1
        wanted += booking.should_be_confirmed
        confirmed += booking.should_be_confirmed and status == "confirmed"
        drift += _money_is_wrong(stripe, booking, status, rows.get(booking.hold_id))
    audit = system.audit()
    drift += [f"{check.service} {check.id}: {check.examples}" for check in audit.checks if check.violations]
    dead = system.admin("payment", "GET", "/webhook-events?status=dead&limit=100")["data"]
    needy = system.admin("reservation", "GET", "/sagas?status=needs_attention&limit=100")["data"]
    stuck = loud + [f"dead event {row['stripe_event_id']}: {row['reason']}" for row in dead]
    stuck += [f"saga {row['id']} needs attention: {row['reason']}" for row in needy]
    return Reckoning(statuses, confirmed / max(1, wanted), drift, stuck)


def _money_is_wrong(stripe: Stripe, booking: Booking, status: str, payment: object) -> list[str]:
    """A confirmed booking has its money exactly once; every other one has none, and nothing left to take."""
    intents = stripe.intents_of(booking.hold_id) if booking.hold_id else []
    net = sum(line["net"] for line in intents)
    captured = [line for line in intents if line["net"]]
    if status == "confirmed":
        return [] if len(captured) == 1 and payment else [f"{booking.hold_id} is confirmed with {net} at Stripe"]
    open_money = [line["status"] for line in intents if line["status"] not in _NO_MONEY]
    return [f"{booking.hold_id} is {status}, Stripe has {net} and {open_money}"] if net or open_money else []
