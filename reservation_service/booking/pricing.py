"""What a party pays: exact integers in minor units, from our own price list, never from the request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from reservation_service.booking.currencies import LARGEST_MINOR, smallest_minor, step_minor
from reservation_service.errors import AmountTooLarge, AmountTooSmall, PartySizeInvalid
from shared.problems import ValidationFailed

_WHOLE_BPS = 10_000


@dataclass(frozen=True)
class Reduction:
    """What a discount takes off: hundredths of a percent, or an amount in the currency that is paid in."""

    code: str
    basis_points: int | None = None
    amount_minor: int | None = None

    def off(self, subtotal_minor: int, currency: str) -> int:
        """Return how much is taken off, never more than there is.

        A percentage is rounded to the nearest amount that can be charged (a minor unit; ten of them in currencies of
        three decimals), and half of one goes to the guest.
        """
        if self.basis_points is None:
            return min(self.amount_minor or 0, subtotal_minor)
        step = step_minor(currency)
        steps = (2 * subtotal_minor * self.basis_points + _WHOLE_BPS * step) // (2 * _WHOLE_BPS * step)
        return min(steps * step, subtotal_minor)


@dataclass(frozen=True)
class PricedParty:
    """A party with its price, as it is stored with the hold and never changes again."""

    items: list[dict[str, Any]]
    seats: int
    price: dict[str, Any]
    total_minor: int


def price_party(
    offer: Mapping[str, Any], wanted: Sequence[tuple[UUID, int]], reduction: Reduction | None = None
) -> PricedParty:
    """Price `wanted` (ticket type, quantity) pairs, less a discount.

    Raises ValidationFailed for a ticket type of another experience, PartySizeInvalid, AmountTooSmall, AmountTooLarge.
    """
    tickets = {UUID(ticket["id"]): ticket for ticket in offer["tickets"]}
    quantities = _quantities(tickets, wanted)
    if sum(quantities.values()) > offer["max_party"]:
        raise PartySizeInvalid(max_party=offer["max_party"])
    seats = sum(tickets[ticket_id]["seats"] * quantity for ticket_id, quantity in quantities.items())
    if seats == 0:
        raise PartySizeInvalid("A party needs at least one seat.")
    currency = offer["currency"]
    lines = [_line(tickets[ticket_id], quantity, currency) for ticket_id, quantity in quantities.items()]
    price, total_minor = _price(lines, currency, reduction)
    items = [{"ticket_type_id": str(ticket_id), "quantity": quantity} for ticket_id, quantity in quantities.items()]
    return PricedParty(items, seats, price, total_minor)


def _quantities(tickets: Mapping[UUID, Any], wanted: Sequence[tuple[UUID, int]]) -> dict[UUID, int]:
    """Add up how many of each ticket are wanted, so that naming one twice walks around no limit."""
    quantities: dict[UUID, int] = {}
    for index, (ticket_id, quantity) in enumerate(wanted):
        if ticket_id not in tickets:
            pointer = {"in": "body", "pointer": f"/items/{index}/ticket_type_id", "type": "unknown_ticket_type"}
            raise ValidationFailed(errors=[pointer | {"detail": "not a ticket type of this experience"}])
        quantities[ticket_id] = quantities.get(ticket_id, 0) + quantity
    return quantities


def money(amount_minor: int, currency: str) -> dict[str, Any]:
    return {"amount": amount_minor, "currency": currency}


def _line(ticket: Mapping[str, Any], quantity: int, currency: str) -> dict[str, Any]:
    return {
        "ticket_type_id": ticket["id"],
        "code": ticket["code"],
        "title": ticket["title"],
        "quantity": quantity,
        "unit": money(ticket["price_minor"], currency),
        "amount": money(ticket["price_minor"] * quantity, currency),
    }


def _price(lines: list[dict[str, Any]], currency: str, reduction: Reduction | None) -> tuple[dict[str, Any], int]:
    """Return the price as it is stored, and its total."""
    subtotal_minor = sum(line["amount"]["amount"] for line in lines)
    off_minor = reduction.off(subtotal_minor, currency) if reduction else 0
    total_minor = subtotal_minor - off_minor
    _check_payable(total_minor, currency)
    price = {
        "subtotal": money(subtotal_minor, currency),
        "discount": money(off_minor, currency),
        "total": money(total_minor, currency),
        "currency": currency,
        "lines": lines,
        "discount_code": reduction.code if reduction else None,
    }
    return price, total_minor


def _check_payable(total_minor: int, currency: str) -> None:
    """A total of zero needs no payment; anything between that and the smallest card payment cannot be paid."""
    smallest = smallest_minor(currency)
    if 0 < total_minor < smallest:
        raise AmountTooSmall(minimum=money(smallest, currency))
    if total_minor > LARGEST_MINOR:
        raise AmountTooLarge(maximum=money(LARGEST_MINOR, currency))
