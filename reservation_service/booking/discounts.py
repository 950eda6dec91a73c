"""Which discount a code stands for, whether it can be used now, and what operators do to it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from reservation_service.booking.currencies import is_sellable, step_minor
from reservation_service.booking.pricing import Reduction
from reservation_service.errors import DiscountExists, DiscountInvalid, DiscountNotFound, ExperienceNotFound
from reservation_service.store import catalogue, discounts
from reservation_service.store.discounts import Discount, Uses
from shared.database import Conflict, Connection, Database
from shared.identifiers import new_id
from shared.operator_actions import Act, record, record_change
from shared.problems import invalid_member

UNKNOWN, EXPIRED, NOT_YET_VALID = "unknown", "expired", "not_yet_valid"
USED_UP, NOT_FOR_THIS, CURRENCY = "used_up", "not_for_this", "currency"


def canonical(code: str) -> str:
    """Return a code as it is stored, however a guest has typed it."""
    return code.strip().upper()


async def usable(connection: Connection, typed: str, *, experience_id: UUID, currency: str) -> Discount:
    """Return the discount that a typed code stands for here. Raises DiscountInvalid, with a stable `reason`.

    The experience's own discount goes before one for all. An inactive code is as unknown as one that never was.
    """
    found = await discounts.active_with_code(connection, canonical(typed))
    here = [row for row in found if row["experience_id"] in {experience_id, None}]
    if not here:
        raise DiscountInvalid(reason=NOT_FOR_THIS if found else UNKNOWN)
    discount = min(here, key=lambda row: row["experience_id"] is None)
    check_dates(discount)
    if discount["currency"] not in {currency, None}:
        raise DiscountInvalid(reason=CURRENCY)
    return discount


def check_dates(discount: Discount) -> None:
    """Raise DiscountInvalid when a discount was turned off, or is not valid at this time."""
    if not discount["active"]:
        raise DiscountInvalid(reason=UNKNOWN)
    if discount["early"]:
        raise DiscountInvalid(reason=NOT_YET_VALID)
    if discount["over"]:
        raise DiscountInvalid(reason=EXPIRED)


def reduction(discount: Discount) -> Reduction:
    """Return what it takes off a price."""
    return Reduction(discount["code"], discount["basis_points"], discount["amount_minor"])


def is_limited(discount: Discount) -> bool:
    """Tell whether its uses have to be counted."""
    return discount["max_uses"] is not None or discount["max_uses_per_customer"] is not None


def uses_left(discount: Discount, uses: Uses) -> int | None:
    """Return how many more uses this customer can have; None when nothing limits them."""
    limits = (discount["max_uses"], uses.total), (discount["max_uses_per_customer"], uses.mine)
    return min((limit - used for limit, used in limits if limit is not None), default=None)


async def add_discount(database: Database, wanted: Mapping[str, Any], act: Act) -> UUID:
    """Add a discount. Raises ExperienceNotFound, DiscountExists (409), or ValidationFailed (422)."""
    _check_period(wanted)
    _check_amount(wanted)
    discount_id = new_id()
    try:
        async with database.transaction("add_discount") as tx:
            await _check_experience(tx, wanted)
            await discounts.add(tx, {**wanted, "id": discount_id, "code": canonical(wanted["code"])})
            await record(tx, act, discount_id, after=wanted)
    except Conflict:
        raise DiscountExists from None
    return discount_id


async def _check_experience(tx: Connection, wanted: Mapping[str, Any]) -> None:
    if wanted["experience_id"] is None:
        return
    sold = await catalogue.experience(tx, wanted["experience_id"])
    if sold is None:
        raise ExperienceNotFound
    if wanted["currency"] not in {sold["currency"], None}:
        raise invalid_member("/amount/currency", "not the currency of this experience")


def _check_amount(wanted: Mapping[str, Any]) -> None:
    if wanted["currency"] is None:
        return
    if not is_sellable(wanted["currency"]):
        raise invalid_member("/amount/currency", "nothing can be sold in this currency")
    if wanted["amount_minor"] % step_minor(wanted["currency"]):
        raise invalid_member("/amount/amount", "cards are charged in tens of this currency's minor unit")


def _check_period(values: Mapping[str, Any]) -> None:
    if values["valid_from"] and values["valid_until"] and values["valid_from"] >= values["valid_until"]:
        raise invalid_member("/valid_until", "must be after valid_from")


async def change_discount(database: Database, discount_id: UUID, changes: Mapping[str, Any], act: Act) -> None:
    """Change when and how often a discount can be used from now on. Raises DiscountNotFound, ValidationFailed.

    Bookings that have it keep it: a limit below what is used only stops new uses.
    """
    async with database.transaction("change_discount") as tx:
        if await discounts.discount(tx, discount_id) is None:
            raise DiscountNotFound
        now = await discounts.lock(tx, discount_id)
        _check_period({**now, **changes})
        others = {name: value for name, value in changes.items() if now[name] != value}
        if others:
            await discounts.change(tx, discount_id, others)
            await record_change(tx, act, discount_id, now, others)


async def read_discount(database: Database, discount_id: UUID) -> Discount:
    """Return a discount with how often it is used. Raises DiscountNotFound."""
    async with database.reading() as connection:
        found = await discounts.discount(connection, discount_id)
    if found is None:
        raise DiscountNotFound
    return found


async def page_of_discounts(database: Database, *, limit: int, after: UUID | None) -> Sequence[Discount]:
    """Return discounts with how often they are used, newest first."""
    async with database.reading() as connection:
        return await discounts.page(connection, limit=limit, after=after)
