"""What is sold and on which terms: operators add and change it, holds are priced from it."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from reservation_service.booking.currencies import is_sellable, step_minor
from reservation_service.booking.one_flight import OneFlight
from reservation_service.booking.pricing import PricedParty, price_party
from reservation_service.errors import ExperienceNotFound, TermsFixed, TicketCodeTaken, TicketTypeNotFound
from reservation_service.store import catalogue
from shared.clock import Clock
from shared.database import Connection, Database, Row
from shared.identifiers import new_id
from shared.operator_actions import Act, record, record_change
from shared.problems import invalid_member

_OFFERS_MAX = 10_000
_OFFER_LIFE_S = 5.0
_PARTIES_MAX = 2_000


class Offers:
    """What may be bought on a slot and on which terms, remembered for a few seconds.

    Only terms: whether the slot sells and how many seats it has is decided by the statement that takes them. A slot
    that is not there is not remembered.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[UUID, tuple[float, dict[str, Any]]] = {}
        self._parties: dict[tuple[object, ...], tuple[Mapping[str, Any], PricedParty]] = {}
        self._asked = OneFlight(self._ask)

    def remembered(self, slot_id: UUID) -> dict[str, Any] | None:
        """Return an offer that was asked for a moment ago; None says nothing."""
        known = self._known.get(slot_id)
        return known[1] if known is not None and known[0] > self._clock.monotonic() else None

    async def of_slot(self, slot_id: UUID) -> dict[str, Any] | None:
        """Return the offer of a slot, None if there is no such slot. Raises DatabaseAway."""
        return self.remembered(slot_id) or await self._asked.answer(slot_id)

    async def _ask(self, slot_id: UUID) -> dict[str, Any] | None:
        async with self._database.reading() as connection:
            row = await catalogue.offer(connection, slot_id)
        if row is None:
            return None
        if len(self._known) >= _OFFERS_MAX:
            self._known.clear()
        offer = dict(row)
        self._known[slot_id] = (self._clock.monotonic() + _OFFER_LIFE_S, offer)
        return offer

    def party(self, slot_id: UUID, offer: Mapping[str, Any], wanted: Sequence[tuple[UUID, int]]) -> PricedParty:
        """Price a party without a discount, or remember what the same one came to on this very offer.

        Raises what `price_party` raises.
        """
        asked = (slot_id, *wanted)
        known = self._parties.get(asked)
        if known is not None and known[0] is offer:
            return known[1]
        party = price_party(offer, wanted)
        if len(self._parties) >= _PARTIES_MAX:
            self._parties.clear()
        self._parties[asked] = (offer, party)
        return party


async def add_experience(
    database: Database, experience: Mapping[str, Any], tickets: Sequence[Mapping[str, Any]], act: Act
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
        await record(tx, act, experience_id, after={**experience, "ticket_types": list(tickets)})
        added = await catalogue.experience(tx, experience_id)
    if added is None:
        raise ExperienceNotFound
    return added


@cache
def _time_zones() -> frozenset[str]:
    # This machine's own is none that the database knows by that name, and the other one says that none was chosen.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _check_time_zone(name: str) -> None:
    if name not in _time_zones():
        raise invalid_member("/time_zone", "not a time zone of the IANA database")


async def change_experience(
    database: Database, experience_id: UUID, changes: Mapping[str, Any], act: Act
) -> dict[str, Any]:
    """Change the terms for what is sold from now on; holds and bookings keep theirs.

    Another cutoff moves the end of sales of all coming slots. Currency and time zone are what prices and days of slots
    were made in: with the first slot they are fixed. Raises ExperienceNotFound, ValidationFailed, TermsFixed (409).
    """
    if "time_zone" in changes:
        _check_time_zone(changes["time_zone"])
    async with database.transaction("change_experience") as tx:
        sold = await catalogue.lock_experience(tx, experience_id)
        if sold is None:
            raise ExperienceNotFound
        await _check_fixed(tx, sold, changes)
        if changes:
            await catalogue.change_experience(tx, experience_id, changes)
            await record_change(tx, act, experience_id, sold, changes)
        if changes.get("cutoff_minutes", sold["cutoff_minutes"]) != sold["cutoff_minutes"]:
            await catalogue.move_end_of_sales(tx, experience_id, changes["cutoff_minutes"])
        changed = await catalogue.experience(tx, experience_id)
    if changed is None:
        raise ExperienceNotFound
    return changed


async def _check_fixed(tx: Connection, sold: Row, changes: Mapping[str, Any]) -> None:
    fixed = [name for name in ("currency", "time_zone") if changes.get(name, sold[name]) != sold[name]]
    if fixed and await catalogue.has_slots(tx, sold["id"]):
        raise TermsFixed(fixed=fixed)


async def add_ticket_type(
    database: Database, experience_id: UUID, ticket: Mapping[str, Any], act: Act
) -> dict[str, Any]:
    """Add a ticket type at the end of the list. Raises ExperienceNotFound, ValidationFailed, TicketCodeTaken (409)."""
    async with database.transaction("add_ticket_type") as tx:
        sold = await catalogue.lock_experience(tx, experience_id)
        if sold is None:
            raise ExperienceNotFound
        _check_currency(sold, ticket)
        known = await catalogue.tickets_of(tx, experience_id)
        if any(other["code"] == ticket["code"] for other in known):
            raise TicketCodeTaken
        row = {name: ticket[name] for name in ("code", "title", "price_minor", "seats")}
        row |= {"id": new_id(), "experience_id": experience_id, "position": len(known), "active": True}
        await catalogue.add_ticket_type(tx, row)
        await record(tx, act, row["id"], after=row)
    return {**row, "currency": sold["currency"]}


async def change_ticket_type(
    database: Database, experience_id: UUID, ticket_type_id: UUID, changes: Mapping[str, Any], act: Act
) -> dict[str, Any]:
    """Change what a ticket costs from now on, its title, or whether it is sold. Raises TicketTypeNotFound."""
    async with database.transaction("change_ticket_type") as tx:
        sold = await catalogue.lock_experience(tx, experience_id)
        if sold is None:
            raise ExperienceNotFound
        _check_currency(sold, changes)
        values = {name: value for name, value in changes.items() if name != "currency"}
        known = {str(row["id"]): row for row in await catalogue.tickets_of(tx, experience_id)}
        was = known.get(str(ticket_type_id))
        row = await catalogue.change_ticket_type(tx, experience_id, ticket_type_id, values)
        if was is None or row is None:
            raise TicketTypeNotFound
        if values:
            await record_change(tx, act, ticket_type_id, was, values)
    return {**row, "currency": sold["currency"]}


def _check_currency(sold: Row, ticket: Mapping[str, Any]) -> None:
    if ticket.get("currency", sold["currency"]) != sold["currency"]:
        raise invalid_member("/price/currency", "prices are in the experience's currency")
