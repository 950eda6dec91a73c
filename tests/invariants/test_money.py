"""Money is counted in whole minor units: what a guest pays is price times quantity, to the last of them."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reservation_service.booking.pricing import price_party
from tests.answers import answered
from tests.reservation.box_office import BoxOffice

_LARGEST_MINOR = 99_999_999


def an_offer(prices_minor: list[int]) -> dict[str, Any]:
    tickets = [
        {"id": str(uuid4()), "code": f"t{n}", "title": f"Ticket {n}", "price_minor": price_minor, "seats": 1}
        for n, price_minor in enumerate(prices_minor)
    ]
    return {"tickets": tickets, "max_party": 1000, "currency": "EUR"}


@settings(max_examples=200, database=None, deadline=None)
@given(st.lists(st.tuples(st.integers(50, 400_000), st.integers(1, 60)), min_size=1, max_size=4))
def test_a_total_is_exact(party: list[tuple[int, int]]) -> None:
    """V04: for any price list and party, the total and each line are exact, and they are integers."""
    offer = an_offer([price_minor for price_minor, _ in party])
    wanted = [(UUID(ticket["id"]), quantity) for ticket, (_, quantity) in zip(offer["tickets"], party, strict=True)]
    total_minor = sum(price_minor * quantity for price_minor, quantity in party)
    if total_minor > _LARGEST_MINOR:
        return
    priced = price_party(offer, wanted)
    assert priced.total_minor == priced.price["total"]["amount"] == total_minor
    assert [line["amount"]["amount"] for line in priced.price["lines"]] == [price * count for price, count in party]
    assert all(type(line["amount"]["amount"]) is int for line in priced.price["lines"])


@pytest.mark.parametrize(
    ("currency", "price_minor", "seats", "total_minor"),
    [("EUR", 1999, 3, 5997), ("JPY", 333, 7, 2331), ("KWD", 1010, 3, 3030), ("USD", 110, 3, 330)],
)
async def test_a_hold_costs_what_its_seats_cost(
    office: BoxOffice, currency: str, price_minor: int, seats: int, total_minor: int
) -> None:
    """V04: over the wire too, in currencies of two, no and three decimals."""
    offer = await office.offer(prices={"adult": (price_minor, 1)}, currency=currency)
    hold = answered(await office.customer().hold(offer, seats), 201)
    assert hold["price"]["total"] == {"amount": total_minor, "currency": currency}
