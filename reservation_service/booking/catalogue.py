"""What operators do to the catalogue: add experiences and slots, change a slot's capacity or close it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from reservation_service.booking.currencies import is_sellable, step_minor
from reservation_service.errors import CapacityBelowTaken, ExperienceNotFound, SlotClosed, TimeSlotNotFound
from reservation_service.states import SlotStatus
from reservation_service.store import catalogue
from shared.clock import Clock
from shared.database import Database
from shared.identifiers import new_id
from shared.problems import invalid_member

_OFFERS_MAX = 10_000
_OFFER_LIFE_S = 5.0


class Offers:
    """What may be bought on a slot and on which terms, remembered for a few seconds.

    Only terms: whether the slot sells and how many seats it has is decided by the statement that takes them. A slot
    that is not there is not remembered.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[UUID, tuple[float, dict[str, Any]]] = {}

    async def of_slot(self, slot_id: UUID) -> dict[str, Any] | None:
        known = self._known.get(slot_id)
        if known is not None and known[0] > self._clock.monotonic():
            return known[1]
        async with self._database.reading() as connection:
            row = await catalogue.offer(connection, slot_id)
        if row is None:
            return None
        if len(self._known) >= _OFFERS_MAX:
            self._known.clear()
        self._known[slot_id] = (self._clock.monotonic() + _OFFER_LIFE_S, dict(row))
        return dict(row)


async def add_experience(
    database: Database, experience: Mapping[str, Any], tickets: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Add an experience with its ticket types, all in its currency. Raises ValidationFailed (422)."""
    _check_time_zone(experience["time_zone"])
    if len({ticket["code"] for ticket in tickets}) < len(tickets):
        raise invalid_member("/ticket_types", "each ticket type needs a code of its own")
    if any(ticket["currency"] != experience["currency"] for ticket in tickets):
        raise invalid_member("/ticket_types", "prices are in the experience's currency")
    if not is_sellable(experience["currency"]):
        raise invalid_member("/currency", "Stripe does not count this currency in its ISO 4217 minor unit")
    if any(ticket["price_minor"] % step_minor(experience["currency"]) for ticket in tickets):
        raise invalid_member("/ticket_types", "cards are charged in tens of this currency's minor unit")
    experience_id = new_id()
    rows = [
        {"id": new_id(), "experience_id": experience_id, "position": position}
        | {name: ticket[name] for name in ("code", "title", "price_minor", "seats")}
        for position, ticket in enumerate(tickets)
    ]
    async with database.transaction("add_experience") as tx:
        await catalogue.add_experience(tx, {**experience, "id": experience_id}, rows)
        added = await catalogue.experience(tx, experience_id)
    if added is None:
        raise ExperienceNotFound
    return added


def _check_time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise invalid_member("/time_zone", "not a time zone of the IANA database") from None


async def add_time_slot(
    database: Database, experience_id: UUID, *, starts_at: datetime, ends_at: datetime, capacity: int
) -> UUID:
    """Add a departure. Raises ExperienceNotFound, or ValidationFailed when it would end before it starts."""
    if ends_at <= starts_at:
        raise invalid_member("/ends_at", "must be after starts_at")
    slot_id = new_id()
    async with database.transaction("add_time_slot") as tx:
        sold = await catalogue.experience(tx, experience_id)
        if sold is None:
            raise ExperienceNotFound
        try:
            sells_until = starts_at.astimezone(UTC) - timedelta(minutes=sold["cutoff_minutes"])
        except OverflowError:
            raise invalid_member("/starts_at", "out of range") from None
        slot = {
            "id": slot_id,
            "experience_id": experience_id,
            "starts_at": starts_at,
            "ends_at": ends_at,
            "sells_until": sells_until,
            "capacity": capacity,
        }
        await catalogue.add_time_slot(tx, slot)
    return slot_id


async def change_time_slot(database: Database, slot_id: UUID, *, capacity: int | None, status: str | None) -> None:
    """Change how many seats there are, or whether the slot sells. Raises CapacityBelowTaken (409)."""
    async with database.transaction("change_time_slot") as tx:
        slot = await catalogue.lock_time_slot(tx, slot_id)
        if slot is None:
            raise TimeSlotNotFound
        if slot["status"] == SlotStatus.CANCELLED:
            raise SlotClosed("A cancelled slot stays cancelled.")
        if capacity is not None and capacity < slot["taken"]:
            raise CapacityBelowTaken(taken=slot["taken"])
        changes = {"capacity": capacity, "status": status}
        wanted = {name: value for name, value in changes.items() if value is not None}
        if wanted:
            await catalogue.change_time_slot(tx, slot_id, wanted)
