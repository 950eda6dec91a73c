"""When all is quiet, and whether all is right then: the services' own audits, and both their books against Stripe's."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from tests.answers import answered
from tests.faults.forked.paths import Path
from tests.faults.forked.stories import UNKNOWN_INTENT, Case
from tests.faults.forked.town import Town

_QUIET_WITHIN_S = 60.0
_PAUSE_S = 0.1
# What our statuses of a payment mean at Stripe, as far as both sides have come to rest.
_AT_STRIPE = {
    "requires_payment": {"requires_payment_method"},
    "authorized": {"requires_capture"},
    "captured": {"succeeded"},
    "partially_refunded": {"succeeded"},
    "refunded": {"succeeded"},
    "disputed": {"succeeded"},
    "canceled": {"canceled"},
}


async def wait_for_quiet(town: Town) -> list[str]:
    """Wait until nobody has anything left to do; return what is still going on when patience ends."""
    end = time.monotonic() + _QUIET_WITHIN_S
    while True:
        busy = [line async for line in _busy(town)]
        if not busy or time.monotonic() > end:
            return busy
        await asyncio.sleep(_PAUSE_S)


async def _busy(town: Town) -> AsyncIterator[str]:
    """Yield what is unfinished, cheapest question first."""
    for database, what, query in (
        (town.reservation_database, "live sagas", "SELECT id FROM sagas WHERE due_at IS NOT NULL"),
        (town.reservation_database, "pending bookings", "SELECT id FROM reservations WHERE status = 'pending'"),
        (town.payment_database, "events due", "SELECT id FROM webhook_events WHERE due_at IS NOT NULL"),
        (town.payment_database, "news due", "SELECT id FROM outbox WHERE due_at IS NOT NULL"),
    ):
        if rows := await town.sql(database, query):
            yield f"{len(rows)} {what}: {rows[0]['id']}"
    deliveries = (await town.look_at_stripe("deliveries"))["deliveries"]
    if waiting := [one["event_id"] for one in deliveries if one["state"] == "pending"]:
        yield f"{len(waiting)} webhooks on their way: {waiting[0]}"


async def wrong_with(town: Town, path: Path, case: Case) -> list[str]:
    """Return everything that is not as it must be: of this case in particular, and of all that happened before."""
    wrong = await wrong_anywhere(town)
    book = (await town.look_at_stripe("book"))["payment_intents"]
    bookings = await town.sql(town.reservation_database, "SELECT * FROM reservations")
    wrong += _net(path, case, book, bookings)
    slot = answered(await town.reservation.get(f"/v1/time-slots/{case.offer.slot_id}"))
    if (taken := slot["capacity"] - slot["available"]) != path.seats:
        wrong.append(f"{taken} seats are taken, not {path.seats}")
    return wrong


async def wrong_anywhere(town: Town) -> list[str]:
    """Return what breaks an invariant of either service, waits for a person, or differs between our books and Stripe's."""
    wrong: list[str] = []
    for door in (town.reservation, town.payment):
        audit = answered(await town.operator(door).ask("GET", "/admin/v1/invariants"))
        wrong += [f"invariant {one['id']}: {one['examples']}" for one in audit["checks"] if one["violations"]]
    wrong += await _left_to_people(town)
    book = (await town.look_at_stripe("book"))["payment_intents"]
    bookings = await town.sql(town.reservation_database, "SELECT * FROM reservations")
    payments = await town.sql(town.payment_database, "SELECT * FROM payments")
    return [*wrong, *_drift(book, payments), *_money(book, bookings)]


async def _left_to_people(town: Town) -> list[str]:
    """No case needs a person; the only event that may be dead is the one that a story wrote for that."""
    sagas = await town.sql(town.reservation_database, "SELECT reason FROM sagas WHERE status = 'needs_attention'")
    dead = await town.sql(
        town.payment_database,
        "SELECT reason, intent_id FROM webhook_events WHERE status = 'dead' AND NOT starts_with(intent_id, :unknown)",
        unknown=UNKNOWN_INTENT,
    )
    return [f"saga needs attention: {row['reason']}" for row in sagas] + [
        f"dead event: {row['reason']} {row['intent_id']}" for row in dead
    ]


def _drift(book: Sequence[Mapping[str, Any]], payments: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Compare payment_service's rows with Stripe's book, line by line, in both directions."""
    rows = {row["intent_id"]: row for row in payments if row["intent_id"]}
    for line in book:
        row = rows.pop(line["payment_intent"], None)
        if row is None:
            yield f"Stripe has {line['payment_intent']} ({line['status']}), and we know nothing of it"
        elif (row["captured"], row["refunded"]) != (line["captured"], line["refunded"]):
            yield f"{line['payment_intent']}: we say {row['captured']} - {row['refunded']}, Stripe {line}"
        elif line["status"] not in _AT_STRIPE.get(row["status"], ()):
            yield f"{line['payment_intent']}: {row['status']} here, {line['status']} at Stripe"
    for intent_id in rows:
        yield f"we know {intent_id}, and Stripe does not"


def _money(book: Sequence[Mapping[str, Any]], bookings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Compare Stripe's money with what reservation_service believes of its bookings."""
    lines = defaultdict(list)
    for line in book:
        lines[line["metadata"].get("reservation_id")].append(line)
    for booking in bookings:
        ours = lines[str(booking["id"])]
        kept = "captured" if booking["status"] == "confirmed" else "net"
        captured = [line[kept] for line in ours if line[kept]]
        if any(line["authorized"] for line in ours):
            yield f"{booking['id']} is {booking['status']}, and an authorisation is left open"
        if captured != ([booking["total_minor"]] if booking["status"] == "confirmed" else []):
            yield f"{booking['id']} is {booking['status']} for {booking['total_minor']}, captured: {captured}"


def _net(
    path: Path, case: Case, book: Sequence[Mapping[str, Any]], bookings: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Compare the net money of the case's own bookings with what its path says."""
    ids = {str(booking["id"]) for booking in bookings if str(booking["time_slot_id"]) == case.offer.slot_id}
    net = sum(line["net"] for line in book if line["metadata"].get("reservation_id") in ids)
    if net != path.net_minor:
        yield f"Stripe holds {net} for this case, not {path.net_minor}"
