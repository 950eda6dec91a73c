"""A price is exact, from our own list, and refused where no card could pay it."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation_service.booking.catalogue import Offers
from reservation_service.booking.pricing import PricedParty, price_party
from reservation_service.errors import AmountTooLarge, AmountTooSmall, PartySizeInvalid
from shared.clock import SystemClock
from shared.problems import ValidationFailed

ADULT, CHILD, BABY = uuid4(), uuid4(), uuid4()
NOBODY: Any = None  # a database that nobody may ask


def offer(currency: str = "EUR", *, adult: int = 4500, child: int = 2000, max_party: int = 1000) -> dict[str, Any]:
    tickets = [(ADULT, "adult", adult, 1), (CHILD, "child", child, 1), (BABY, "baby", 0, 0)]
    return {
        "currency": currency,
        "max_party": max_party,
        "tickets": [
            {"id": str(ticket), "code": code, "title": code.title(), "price_minor": minor, "seats": seats}
            for ticket, code, minor, seats in tickets
        ],
    }


def priced(*wanted: tuple[UUID, int], **terms: Any) -> PricedParty:
    return price_party(offer(**terms), wanted)


def test_lines_add_up_to_the_total() -> None:
    """V03: two adults and a child, in minor units, with a line each and no discount."""
    party = priced((ADULT, 2), (CHILD, 1))
    assert (party.total_minor, party.seats) == (11_000, 3)
    assert [(line["code"], line["quantity"], line["amount"]["amount"]) for line in party.price["lines"]] == [
        ("adult", 2, 9000),
        ("child", 1, 2000),
    ]
    assert party.price["total"] == party.price["subtotal"] == {"amount": 11_000, "currency": "EUR"}
    assert party.price["discount"] == {"amount": 0, "currency": "EUR"}


def test_the_same_ticket_twice_is_one_line() -> None:
    """Items that name one ticket type twice are added up, so that no limit can be walked around."""
    party = priced((ADULT, 1), (ADULT, 2))
    assert party.items == [{"ticket_type_id": str(ADULT), "quantity": 3}]
    with pytest.raises(PartySizeInvalid):
        priced((ADULT, 3), (ADULT, 3), max_party=5)


def test_a_party_has_a_largest_size() -> None:
    """PARTY_SIZE_INVALID says how many may come; exactly that many may."""
    assert priced((ADULT, 4), (BABY, 1), max_party=5).seats == 4
    with pytest.raises(PartySizeInvalid) as refusal:
        priced((ADULT, 4), (BABY, 2), max_party=5)
    assert refusal.value.extra == {"max_party": 5}


def test_a_party_needs_a_seat() -> None:
    """Babies on laps alone are no party."""
    with pytest.raises(PartySizeInvalid):
        priced((BABY, 2))


def test_a_ticket_of_another_experience_is_refused() -> None:
    """V03: the pointer says which item; its id is not repeated."""
    stranger = uuid4()
    with pytest.raises(ValidationFailed) as refusal:
        priced((ADULT, 1), (stranger, 1))
    (error,) = refusal.value.extra["errors"]
    assert error["pointer"] == "/items/1/ticket_type_id"
    assert str(stranger) not in str(refusal.value.document())


@pytest.mark.parametrize(
    ("currency", "smallest"), [("EUR", 50), ("JPY", 50), ("GBP", 30), ("HUF", 17_500), ("KWD", 50), ("XTS", 50)]
)
def test_the_smallest_amount_of_each_currency(currency: str, smallest: int) -> None:
    """V04: one minor unit below what a card can pay is AMOUNT_TOO_SMALL, with the limit; the limit itself is fine."""
    assert priced((ADULT, 1), currency=currency, adult=smallest).total_minor == smallest
    with pytest.raises(AmountTooSmall) as refusal:
        priced((ADULT, 1), currency=currency, adult=smallest - 1)
    assert refusal.value.extra == {"minimum": {"amount": smallest, "currency": currency}}


def test_free_is_not_too_small() -> None:
    """A total of zero needs no payment."""
    assert priced((ADULT, 2), adult=0).total_minor == 0


def test_the_largest_amount() -> None:
    """V04: eight digits can be charged, nine cannot."""
    assert priced((ADULT, 1), adult=99_999_999).total_minor == 99_999_999
    with pytest.raises(AmountTooLarge):
        priced((ADULT, 2), adult=50_000_000)


@given(
    adults=st.integers(0, 400),
    children=st.integers(0, 400),
    babies=st.integers(0, 100),
    adult=st.integers(50, 100_000),
    child=st.integers(0, 50_000),
)
def test_every_party_is_exact(adults: int, children: int, babies: int, adult: int, child: int) -> None:
    """V04: whatever the party, the total is the plain sum in integers, or one of the documented refusals."""
    wanted = [(ticket, n) for ticket, n in ((ADULT, adults), (CHILD, children), (BABY, babies)) if n]
    try:
        party = price_party(offer(adult=adult, child=child), wanted)
    except (PartySizeInvalid, AmountTooSmall, AmountTooLarge):
        total = adults * adult + children * child
        assert adults + children == 0 or 0 < total < 50 or total > 99_999_999
        return
    assert party.total_minor == adults * adult + children * child
    assert party.seats == adults + children
    assert sum(line["amount"]["amount"] for line in party.price["lines"]) == party.total_minor
    assert all(type(line["amount"]["amount"]) is int for line in party.price["lines"])


def test_what_a_party_costs_is_remembered_for_one_offer_only() -> None:
    """The same party on the same offer is priced once; an offer that was read anew, or another party, is priced anew."""
    offers, slot, party = Offers(NOBODY, SystemClock()), uuid4(), [(ADULT, 2)]
    before, after = offer(), offer(adult=5000)
    first = offers.party(slot, before, party)
    assert first.total_minor == 9000
    assert offers.party(slot, before, party) is first
    assert offers.party(slot, after, party).total_minor == 10_000
    assert offers.party(slot, after, [(ADULT, 3)]).total_minor == 15_000


def test_a_party_that_is_refused_is_refused_again() -> None:
    """Nothing is remembered of a refusal, nor does one that is remembered elsewhere help."""
    offers, slot = Offers(NOBODY, SystemClock()), uuid4()
    small = offer(max_party=1)
    assert offers.party(slot, small, [(ADULT, 1)]).seats == 1
    for _ in range(2):
        with pytest.raises(PartySizeInvalid):
            offers.party(slot, small, [(ADULT, 2)])
