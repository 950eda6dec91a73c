"""What a party pays: exact integers in minor units, from our own price list, never from the request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from reservation_service.errors import AmountTooLarge, AmountTooSmall, PartySizeInvalid
from shared.problems import ValidationFailed

# The smallest amount that a card payment may have, in minor units of the settlement currency.
# Source: Stripe documentation, "Supported currencies", minimum and maximum charge amounts.
_SMALLEST_MINOR = {
    "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50,
    "GBP": 30, "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50,
    "PLN": 200, "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip
_SMALLEST_ELSEWHERE_MINOR = 50
_LARGEST_MINOR = 99_999_999


@dataclass(frozen=True)
class PricedParty:
    """A party with its price, as it is stored with the hold and never changes again."""

    items: list[dict[str, Any]]
    seats: int
    price: dict[str, Any]
    total_minor: int


def price_party(offer: Mapping[str, Any], wanted: Sequence[tuple[UUID, int]]) -> PricedParty:
    """Price `wanted` (ticket type, quantity) pairs.

    Raises ValidationFailed for a ticket type of another experience, PartySizeInvalid, AmountTooSmall, AmountTooLarge.
    """
    tickets = {UUID(ticket["id"]): ticket for ticket in offer["tickets"]}
    quantities: dict[UUID, int] = {}
    for index, (ticket_id, quantity) in enumerate(wanted):
        if ticket_id not in tickets:
            pointer = {"in": "body", "pointer": f"/items/{index}/ticket_type_id", "type": "unknown_ticket_type"}
            raise ValidationFailed(errors=[pointer | {"detail": "not a ticket type of this experience"}])
        quantities[ticket_id] = quantities.get(ticket_id, 0) + quantity
    if sum(quantities.values()) > offer["max_party"]:
        raise PartySizeInvalid(max_party=offer["max_party"])
    seats = sum(tickets[ticket_id]["seats"] * quantity for ticket_id, quantity in quantities.items())
    if seats == 0:
        raise PartySizeInvalid("A party needs at least one seat.")
    lines = [_line(tickets[ticket_id], quantity, offer["currency"]) for ticket_id, quantity in quantities.items()]
    total_minor = sum(line["amount"]["amount"] for line in lines)
    _check_payable(total_minor, offer["currency"])
    price = {
        "subtotal": money(total_minor, offer["currency"]),
        "discount": money(0, offer["currency"]),
        "total": money(total_minor, offer["currency"]),
        "currency": offer["currency"],
        "lines": lines,
    }
    items = [{"ticket_type_id": str(ticket_id), "quantity": quantity} for ticket_id, quantity in quantities.items()]
    return PricedParty(items, seats, price, total_minor)


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


def _check_payable(total_minor: int, currency: str) -> None:
    """A total of zero needs no payment; anything between that and the smallest card payment cannot be paid."""
    smallest = _SMALLEST_MINOR.get(currency, _SMALLEST_ELSEWHERE_MINOR)
    if 0 < total_minor < smallest:
        raise AmountTooSmall(minimum=money(smallest, currency))
    if total_minor > _LARGEST_MINOR:
        raise AmountTooLarge(maximum=money(_LARGEST_MINOR, currency))
