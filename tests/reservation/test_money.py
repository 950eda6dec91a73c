"""Money is exact in every currency there is: lines, percentages, fixed amounts, zero, Stripe's smallest and largest."""

from fractions import Fraction
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.stripe_sandbox.currencies import AMOUNT_MAX_MINOR, SUPPORTED, check_amount
from reservation_service.booking.currencies import LARGEST_MINOR, is_sellable, smallest_minor, step_minor
from reservation_service.booking.pricing import PricedParty, Reduction, price_party
from reservation_service.errors import AmountTooLarge, AmountTooSmall
from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice

# ISO 4217, list one (2026): every code with a minor unit, by the number of decimals that it stands for.
_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_FOUR = "CLF UYW"
_TWO = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY "
    "COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS "
    "INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR "
    "MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD "
    "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
CURRENCIES = sorted({*_NONE.split(), *_TWO.split(), *_THREE.split(), *_FOUR.split()})
COUNTED_OTHERWISE = {"ISK", "MGA", "UGX"}
TICKET = uuid4()

currencies = st.sampled_from(CURRENCIES)
prices = st.integers(0, LARGEST_MINOR // 10)
percentages = st.integers(1, 10_000)


def offer(currency: str, price_minor: int) -> dict[str, Any]:
    ticket = {"id": str(TICKET), "code": "adult", "title": "Adult", "price_minor": price_minor, "seats": 1}
    return {"currency": currency, "max_party": 1_000_000, "tickets": [ticket]}


def priced(currency: str, price_minor: int, quantity: int, reduction: Reduction | None = None) -> PricedParty:
    wanted: list[tuple[UUID, int]] = [(TICKET, quantity)]
    return price_party(offer(currency, price_minor), wanted, reduction)


def percent(basis_points: int) -> Reduction:
    return Reduction("PERCENT", basis_points=basis_points)


def amounts(party: PricedParty) -> tuple[int, int, int]:
    subtotal, discount, total = (party.price[name]["amount"] for name in ("subtotal", "discount", "total"))
    return subtotal, discount, total


@pytest.mark.parametrize("currency", CURRENCIES)
def test_every_currency_is_exact(currency: str) -> None:
    """V04, peers B6.76: in each ISO 4217 currency, whatever its decimals: an odd price, a third off, a fixed amount off, nothing left."""
    step = step_minor(currency)
    price_minor = 99_991 * step
    assert amounts(priced(currency, price_minor, 3)) == (299_973 * step, 0, 299_973 * step)
    third = priced(currency, price_minor, 1, percent(3333))
    assert amounts(third) == (99_991 * step, 33_327 * step, 66_664 * step)  # 33.33 % of 99991 is 33327.0003
    fixed = Reduction("FIXED", amount_minor=999 * step)
    assert amounts(priced(currency, price_minor, 1, fixed)) == (99_991 * step, 999 * step, 98_992 * step)
    assert amounts(priced(currency, price_minor, 2, percent(10_000)))[2] == 0
    assert {party["currency"] for party in (third.price["total"], third.price["lines"][0]["unit"])} == {currency}


@pytest.mark.parametrize("currency", CURRENCIES)
def test_the_limits_of_every_currency(currency: str) -> None:
    """V04: Stripe's smallest amount is sold, also as what a discount leaves; one step less is refused, zero is not."""
    smallest, step = smallest_minor(currency), step_minor(currency)
    for leaves, fits in ((smallest, True), (smallest - step, False), (step, False), (0, True)):
        off = Reduction("FIXED", amount_minor=100_000 - leaves)
        if fits:
            assert priced(currency, 100_000, 1, off).total_minor == leaves
        else:
            with pytest.raises(AmountTooSmall):
                priced(currency, 100_000, 1, off)
    with pytest.raises(AmountTooLarge):
        priced(currency, LARGEST_MINOR // 2 + 1, 2)
    assert priced(currency, LARGEST_MINOR, 1).total_minor == LARGEST_MINOR
    assert priced(currency, LARGEST_MINOR, 1000, percent(9999)).total_minor < LARGEST_MINOR


@given(
    currency=st.sampled_from(sorted(code.upper() for code in SUPPORTED)),
    price=prices,
    n=st.integers(1, 9),
    off=percentages,
)
def test_what_is_sold_can_be_charged(currency: str, price: int, n: int, off: int) -> None:
    """V04: no total that leaves us is one that Stripe would refuse, discount or not (three decimals go in tens)."""
    if not is_sellable(currency):
        return
    step = step_minor(currency)
    for reduction in (None, percent(off), Reduction("FIXED", amount_minor=off * step)):
        try:
            party = priced(currency, price // step * step, n, reduction)
        except (AmountTooSmall, AmountTooLarge):
            continue
        if party.total_minor:
            check_amount(party.total_minor, currency.lower())
    assert LARGEST_MINOR == AMOUNT_MAX_MINOR


@given(currency=currencies, subtotal=st.integers(0, LARGEST_MINOR * 1000), off=percentages)
def test_a_percentage_is_the_nearest_amount(currency: str, subtotal: int, off: int) -> None:
    """V04: against exact fractions: at most half a step away, half a step itself goes to the guest, never below zero."""
    step = step_minor(currency)
    subtotal = subtotal // step * step
    taken, exact = percent(off).off(subtotal, currency), Fraction(subtotal * off, 10_000)
    assert type(taken) is int
    assert 0 <= taken <= subtotal
    assert taken % step == 0
    assert -Fraction(step, 2) < taken - exact <= Fraction(step, 2)


@given(currency=currencies, subtotal=prices, more=prices, off=percentages, further=st.integers(0, 10_000), fixed=prices)
def test_discounts_grow_with_what_they_are_of(
    currency: str, subtotal: int, more: int, off: int, further: int, fixed: int
) -> None:
    """V04: monotone: a larger party never gets less off nor pays less, and a larger percentage never takes off less."""
    small, large, higher = percent(off), Reduction("FIXED", amount_minor=fixed), percent(min(10_000, off + further))
    step = step_minor(currency)
    subtotal, more = subtotal // step * step, more // step * step
    for reduction in (small, large):
        before, after = reduction.off(subtotal, currency), reduction.off(subtotal + more, currency)
        assert before <= after
        assert subtotal - before <= subtotal + more - after
        assert 0 <= after <= subtotal + more
    assert small.off(subtotal, currency) <= higher.off(subtotal, currency)


@given(
    currency=currencies,
    party=st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 50)), min_size=1, max_size=6),
    reduction=st.one_of(st.none(), percentages.map(percent), st.builds(Reduction, st.just("F"), amount_minor=prices)),
)
def test_the_sum_laws(currency: str, party: list[tuple[int, int]], reduction: Reduction | None) -> None:
    """V03, V04: unit x quantity = line, lines = subtotal, subtotal - discount = total >= 0, all of them integers."""
    step = step_minor(currency)
    tickets = [
        {"id": str(uuid4()), "code": f"t{n}", "title": f"T{n}", "price_minor": price * step, "seats": 1}
        for n, (price, _) in enumerate(party)
    ]
    wanted = [(UUID(str(ticket["id"])), quantity) for ticket, (_, quantity) in zip(tickets, party, strict=True)]
    try:
        priced_party = price_party({"currency": currency, "max_party": 1000, "tickets": tickets}, wanted, reduction)
    except (AmountTooSmall, AmountTooLarge):
        return
    subtotal, discount, total = amounts(priced_party)
    lines = priced_party.price["lines"]
    assert all(line["unit"]["amount"] * line["quantity"] == line["amount"]["amount"] for line in lines)
    assert sum(line["amount"]["amount"] for line in lines) == subtotal == sum(p * step * n for p, n in party)
    assert subtotal - discount == total == priced_party.total_minor >= 0
    assert {type(amount) for amount in (subtotal, discount, total)} == {int}


def test_which_currencies_are_sold_in() -> None:
    """V04: where Stripe counts in another unit than ISO 4217, our integer would mean another amount: not for sale."""
    assert {code for code in CURRENCIES if not is_sellable(code)} == COUNTED_OTHERWISE
    assert {code for code in CURRENCIES if step_minor(code) == 10} == set(_THREE.split())


@pytest.mark.parametrize(("currency", "price_minor"), [("ISK", 5000), ("MGA", 5000), ("UGX", 5000), ("KWD", 1005)])
async def test_nothing_is_put_on_sale_that_no_card_could_pay(
    office: BoxOffice, currency: str, price_minor: int
) -> None:
    """V04: refused when the experience is made, not when a guest stands there with a card."""
    ticket = {"code": "adult", "title": "Adult", "price": {"amount": price_minor, "currency": currency}, "seats": 1}
    body = {"title": "Tour", "time_zone": "Asia/Kuwait", "currency": currency, "ticket_types": [ticket]}
    refused(await office.operator().ask("POST", "/admin/v1/experiences", json=body), 422, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    ("currency", "price_minor", "basis_points", "off_minor"),
    [("EUR", 1999, 1250, 500), ("JPY", 333, 1500, 100), ("KWD", 1230, 1000, 250), ("HUF", 990_000, 1, 198)],
)
async def test_a_percentage_over_the_wire(
    office: BoxOffice, currency: str, price_minor: int, basis_points: int, off_minor: int
) -> None:
    """V03, V04: two seats at a percentage, in currencies of two, no and three decimals, as the answer and the row say."""
    sold = await office.offer(prices={"adult": (price_minor, 1)}, currency=currency)
    code = await office.discount(off={"type": "percentage", "basis_points": basis_points})
    hold = answered(await office.customer().hold(sold, 2, discount_code=code["code"]), 201)
    (row,) = await office.sql("SELECT total_minor, price FROM reservations WHERE id = :id", id=UUID(hold["id"]))
    assert hold["price"] == row["price"]
    assert hold["price"]["discount"] == {"amount": off_minor, "currency": currency}
    assert row["total_minor"] == hold["price"]["total"]["amount"] == 2 * price_minor - off_minor
