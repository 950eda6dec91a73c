"""A small catalogue to look at, made through the same admin endpoints an operator uses.

Safe to repeat: an experience is known by its title, a slot by its start, and only what is missing is added. So each
start tops up the coming days.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx

_DAYS_AHEAD = 3


@dataclass(frozen=True)
class Ticket:
    """One kind of ticket; the price is in minor units of the experience's currency."""

    code: str
    title: str
    price_minor: int
    seats: int = 1


@dataclass(frozen=True)
class Offer:
    """One experience of the demo and the local times at which it departs each day."""

    title: str
    description: str
    time_zone: str
    currency: str
    tickets: tuple[Ticket, ...]
    departures: tuple[time, ...]
    lasts: timedelta
    capacity: int


OFFERS = (
    Offer(
        "The lamp at dusk",
        "Climb 190 steps with the keeper and light the lamp of the old lighthouse. Bring a jacket.",
        "Europe/Lisbon",
        "EUR",
        (Ticket("adult", "Adult", 2400), Ticket("child", "Child", 1200)),
        (time(17, 0), time(18, 30)),
        timedelta(minutes=75),
        12,
    ),
    Offer(
        "First tea above the clouds",
        "A small railway climbs into the tea fields before sunrise; breakfast is served in the signal box.",
        "Asia/Tokyo",
        "JPY",
        (Ticket("seat", "Seat", 6800), Ticket("box", "Family box for four", 22000, seats=4)),
        (time(5, 30),),
        timedelta(hours=3),
        16,
    ),
    Offer(
        "Songs of the pearl divers",
        "An evening on a wooden boat: the songs that kept the crews together, and grilled fish.",
        "Asia/Kuwait",
        "KWD",
        (Ticket("guest", "Guest", 9500),),
        (time(18, 0),),
        timedelta(hours=2, minutes=30),
        8,
    ),
)


@dataclass(frozen=True)
class Seeded:
    """How much was missing."""

    experiences: int
    slots: int


def seed(base_url: str, operator_token: str, *, now: datetime) -> Seeded:
    """Add what is missing of the demo catalogue from tomorrow (of each place) on. Raises httpx.HTTPError."""
    headers = {"Authorization": f"Bearer {operator_token}"}
    with httpx.Client(base_url=base_url, headers=headers, timeout=10) as client:
        known = {one["title"]: one["id"] for one in _all(client, "/v1/experiences", {})}
        new_slots = 0
        for offer in OFFERS:
            experience_id = known.get(offer.title) or _add_experience(client, offer)
            new_slots += _top_up(client, experience_id, offer, now)
    return Seeded(sum(offer.title not in known for offer in OFFERS), new_slots)


def _all(client: httpx.Client, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Walk a list to its end."""
    while True:
        page = client.get(path, params={"limit": "100", **query}).raise_for_status().json()
        yield from page["data"]
        if not page["has_more"]:
            return
        query = {**query, "starting_after": page["next_cursor"]}


def _add_experience(client: httpx.Client, offer: Offer) -> str:
    ticket_types = [
        {
            "code": ticket.code,
            "title": ticket.title,
            "price": {"amount": ticket.price_minor, "currency": offer.currency},
            "seats": ticket.seats,
        }
        for ticket in offer.tickets
    ]
    body = {
        "title": offer.title,
        "description": offer.description,
        "time_zone": offer.time_zone,
        "currency": offer.currency,
        "ticket_types": ticket_types,
    }
    made: str = client.post("/admin/v1/experiences", json=body).raise_for_status().json()["id"]
    return made


def _top_up(client: httpx.Client, experience_id: str, offer: Offer, now: datetime) -> int:
    """Add the missing departures of the coming days; return how many."""
    coming = _all(client, "/v1/time-slots", {"experience_id": experience_id})
    there = {datetime.fromisoformat(slot["starts_at"]) for slot in coming}
    missing = [starts_at for starts_at in departures(offer, now) if starts_at not in there]
    for starts_at in missing:
        body = {
            "experience_id": experience_id,
            "starts_at": _instant(starts_at),
            "ends_at": _instant(starts_at + offer.lasts),
            "capacity": offer.capacity,
        }
        client.post("/admin/v1/time-slots", json=body).raise_for_status()
    return len(missing)


def departures(offer: Offer, now: datetime) -> list[datetime]:
    """Return the instants (UTC) at which the offer departs on the coming days of its own place, from its tomorrow on."""
    zone = ZoneInfo(offer.time_zone)
    today = now.astimezone(zone).date()
    return [
        datetime.combine(today + timedelta(days=ahead), departure, zone).astimezone(UTC)
        for ahead in range(1, _DAYS_AHEAD + 1)
        for departure in offer.departures
    ]


def _instant(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
