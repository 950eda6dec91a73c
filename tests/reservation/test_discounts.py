"""Discount codes over HTTP: what they take off, who may use them when and how often, and how a use comes back."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice, Customer, Offer


def fixed(amount: int, currency: str = "EUR") -> dict[str, Any]:
    return {"type": "fixed", "amount": amount, "currency": currency}


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


async def hold_with(guest: Customer, offer: Offer, discount: dict[str, Any], **more: Any) -> httpx.Response:
    return await guest.hold(offer, discount_code=discount["code"], **more)


def reason(answer: httpx.Response) -> str:
    return str(refused(answer, 422, "DISCOUNT_INVALID")["reason"])


async def test_a_percentage_and_a_fixed_amount_come_off_the_price(office: BoxOffice) -> None:
    """V03: the lines are untouched, the discount stands beside them, and the snapshot names the code."""
    offer, guest = await office.offer(prices={"adult": (1999, 1)}), office.customer()
    code = await office.discount(code="summer-10")
    assert (code["code"], code["off"]) == ("SUMMER-10", {"type": "percentage", "basis_points": 1000})
    answer = await guest.hold(offer, 3, key="k", discount_code=" Summer-10 ")
    assert (await guest.hold(offer, 3, key="k", discount_code=" Summer-10 ")).content == answer.content
    price = answered(answer, 201)["price"]
    assert [price[name]["amount"] for name in ("subtotal", "discount", "total")] == [5997, 600, 5397]
    assert [line["amount"]["amount"] for line in price["lines"]] == [5997]
    assert price["discount_code"] == "SUMMER-10"
    off = await office.discount(off=fixed(1500), experience_id=offer.experience_id)
    price = answered(await hold_with(guest, offer, off, seats=3), 201)["price"]
    assert [price[name]["amount"] for name in ("subtotal", "discount", "total")] == [5997, 1500, 4497]


async def test_a_discount_of_everything_needs_no_payment(office: BoxOffice) -> None:
    """V04: a fixed amount takes off no more than there is; a total of zero is confirmed without a payment."""
    offer, guest = await office.offer(), office.customer()
    gift = await office.discount(off=fixed(10_000))
    hold = answered(await hold_with(guest, offer, gift), 201)
    assert hold["price"]["total"]["amount"] == 0
    assert hold["price"]["discount"] == hold["price"]["subtotal"]
    booking = answered(await guest.convert(hold["id"]), 201)
    assert booking["outcome"] == {"type": "succeeded"}
    assert office.payments.of(UUID(hold["id"])) == []


async def test_what_no_card_could_pay_is_refused(office: BoxOffice) -> None:
    """V04: a discount that leaves less than Stripe's minimum is AMOUNT_TOO_SMALL, not a hold that nobody can pay."""
    offer, guest = await office.offer(), office.customer()
    almost = await office.discount(off=fixed(4451))
    problem = refused(await hold_with(guest, offer, almost), 422, "AMOUNT_TOO_SMALL")
    assert problem["minimum"] == {"amount": 50, "currency": "EUR"}
    assert await office.free(offer) == 10


async def test_every_refusal_has_its_reason(office: BoxOffice) -> None:
    """V03: unknown, not yet, over, of another experience, of another currency; an inactive code is unknown."""
    offer, other, guest = await office.offer(), await office.offer(), office.customer()
    unknown = await guest.hold(offer, discount_code="NEVER-WAS")
    off = await office.discount()
    await office.change_discount(off, active=False)
    inactive = await hold_with(guest, offer, off)
    assert reason(unknown) == reason(inactive) == "unknown"
    varying = {"request_id", "trace_id", "instance"}
    assert {k: v for k, v in unknown.json().items() if k not in varying} == {
        k: v for k, v in inactive.json().items() if k not in varying
    }
    for terms, why in (
        ({"valid_from": in_hours(1)}, "not_yet_valid"),
        ({"valid_until": in_hours(-1)}, "expired"),
        ({"experience_id": other.experience_id}, "not_for_this"),
        ({"off": fixed(100, "USD")}, "currency"),
    ):
        assert reason(await hold_with(guest, offer, await office.discount(**terms))) == why
    answered(
        await hold_with(guest, offer, await office.discount(valid_from=in_hours(-1), valid_until=in_hours(1))), 201
    )


async def test_the_experiences_own_code_goes_first(office: BoxOffice) -> None:
    """One code may stand once for all experiences and once for one; a second time is DISCOUNT_EXISTS."""
    offer, other, guest = await office.offer(), await office.offer(), office.customer()
    everywhere = await office.discount()
    await office.discount(code=everywhere["code"], experience_id=offer.experience_id, off=fixed(1000))
    assert answered(await hold_with(guest, offer, everywhere), 201)["price"]["discount"]["amount"] == 1000
    assert answered(await hold_with(guest, other, everywhere), 201)["price"]["discount"]["amount"] == 450
    body = {"code": everywhere["code"].lower(), "off": fixed(1)}
    for scope in ({}, {"experience_id": offer.experience_id}):
        answer = await office.operator().ask("POST", "/admin/v1/discounts", json=body | scope)
        refused(answer, 409, "DISCOUNT_EXISTS")


async def test_a_use_comes_back_with_the_booking(office: BoxOffice) -> None:
    """A released, lapsed or failed booking gives its use back by itself; replays take none and see none gone."""
    offer, guest, other = await office.offer(), office.customer(), office.customer()
    single = await office.discount(max_uses=1)
    first = answered(await hold_with(guest, offer, single, key="one"), 201)
    assert await office.used(single) == 1
    again = await hold_with(guest, offer, single, key="one")
    assert again.json() == first
    assert again.headers["idempotent-replayed"] == "true"
    assert reason(await hold_with(other, offer, single)) == "used_up"
    answered(await guest.release(first["id"]))
    assert await office.used(single) == 0
    second = answered(await hold_with(other, offer, single), 201)
    await office.let_expire(second["id"])
    assert await office.used(single) == 0
    third = answered(await hold_with(guest, offer, single), 201)
    assert await office.status(second["id"]) == "expired"
    answered(await guest.convert(third["id"]), 201)
    await office.let_payment_time_run_out(third["id"])
    assert await office.status(third["id"]) == "failed"
    answered(await hold_with(other, offer, single), 201)


async def test_a_customers_own_limit(office: BoxOffice) -> None:
    """`max_uses_per_customer` counts one customer's bookings, on whatever slot; others have their own."""
    offer, elsewhere, guest = await office.offer(), await office.offer(), office.customer()
    each = await office.discount(max_uses_per_customer=1)
    answered(await hold_with(guest, offer, each), 201)
    assert reason(await hold_with(guest, elsewhere, each)) == "used_up"
    answered(await hold_with(office.customer(), offer, each), 201)
    answered(await guest.hold(elsewhere), 201)


@pytest.mark.parametrize("limits", [{}, {"max_uses": 1}])
async def test_a_renewal_asks_for_the_discount_again(office: BoxOffice, limits: dict[str, int]) -> None:
    """A lapsed hold is renewed with its own use; once the code is over the same call is refused, never dearer."""
    offer, guest = await office.offer(), office.customer()
    code = await office.discount(**limits)
    old = answered(await hold_with(guest, offer, code, key="k"), 201)
    await office.let_expire(old["id"])
    renewed = await hold_with(guest, offer, code, key="k")
    new = answered(renewed, 201)
    assert renewed.headers["idempotency-renewed"] == "true"
    assert (new["supersedes"], new["price"]) == (old["id"], old["price"])
    assert await office.used(code) == 1
    await office.change_discount(code, valid_until=in_hours(-1))
    assert (await hold_with(guest, offer, code, key="k")).json() == new
    await office.let_expire(new["id"])
    assert reason(await hold_with(guest, offer, code, key="k")) == "expired"
    await office.change_discount(code, valid_until=None)
    last = answered(await hold_with(guest, offer, code, key="k"), 201)
    assert last["supersedes"] == new["id"]


async def test_a_renewal_finds_its_use_gone(office: BoxOffice) -> None:
    """The use of a lapsed hold can go to somebody else; then the renewal is `used_up`, and the hold is left lapsed."""
    offer, guest, other = await office.offer(), office.customer(), office.customer()
    single = await office.discount(max_uses=1)
    old = answered(await hold_with(guest, offer, single, key="k"), 201)
    await office.let_expire(old["id"])
    answered(await hold_with(other, offer, single), 201)
    assert reason(await hold_with(guest, offer, single, key="k")) == "used_up"
    assert await office.free(offer) == 9


async def test_a_code_is_part_of_the_request(office: BoxOffice) -> None:
    """V07: the same key with another code, or without it, is IDEMPOTENCY_KEY_REUSED."""
    offer, guest, code = await office.offer(), office.customer(), await office.discount(max_uses=5)
    answered(await hold_with(guest, offer, code, key="k"), 201)
    refused(await guest.hold(offer, key="k"), 422, "IDEMPOTENCY_KEY_REUSED")
    other = await office.discount(max_uses=5)
    refused(await hold_with(guest, offer, other, key="k"), 422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_lower_limit_only_stops_new_uses(office: BoxOffice) -> None:
    """Lowering `max_uses` below what is used takes nothing away, and the audit knows which uses were there before."""
    offer, guests = await office.offer(), [office.customer() for _ in range(4)]
    code = await office.discount(max_uses=3)
    held = [answered(await hold_with(guest, offer, code), 201) for guest in guests[:3]]
    assert (await office.change_discount(code, max_uses=1))["used"] == 3
    assert reason(await hold_with(guests[3], offer, code)) == "used_up"
    await office.assert_consistent()
    for guest, hold in zip(guests, held, strict=False):
        answered(await guest.release(hold["id"]))
    answered(await hold_with(guests[3], offer, code), 201)
    assert (await office.change_discount(code, max_uses=None))["max_uses"] is None


async def test_the_audit_sees_a_use_too_many_and_a_price_that_does_not_add_up(office: BoxOffice) -> None:
    """Bookings that got past the limit, and an amount that somebody changed, are found."""
    offer, code = await office.offer(), await office.discount(max_uses=1)
    first = answered(await hold_with(office.customer(), offer, code), 201)
    plain = answered(await office.customer().hold(offer), 201)
    use = "UPDATE reservations SET discount_id = :code, caller = caller WHERE id = :id"
    await office.sql(use, code=UUID(code["id"]), id=UUID(plain["id"]))
    with pytest.raises(AssertionError, match="discount-uses"):
        await office.assert_consistent()
    await office.sql(use, code=None, id=UUID(plain["id"]))
    dearer = "UPDATE reservations SET total_minor = total_minor + :more WHERE id = :id"
    await office.sql(dearer, more=1, id=UUID(first["id"]))
    with pytest.raises(AssertionError, match="price-sums"):
        await office.assert_consistent()
    await office.sql(dearer, more=-1, id=UUID(first["id"]))


async def test_operators_list_and_read_and_viewers_only_read(office: BoxOffice) -> None:
    """The list is paged, newest first; a viewer may read, and neither may a guest."""
    added = [await office.discount() for _ in range(3)]
    viewer, path = office.customer(roles=["viewer"]), "/admin/v1/discounts"
    page = answered(await viewer.ask("GET", f"{path}?limit=2"))
    assert [row["id"] for row in page["data"]] == [added[2]["id"], added[1]["id"]]
    assert page["has_more"]
    after = answered(await viewer.ask("GET", f"{path}?limit=1&starting_after={page['next_cursor']}"))
    assert after["data"][0] == added[0]
    assert answered(await viewer.ask("GET", f"{path}/{added[0]['id']}")) == added[0]
    for path_of_none in (f"{path}/{uuid4()}", f"{path}/x"):
        refused(await viewer.ask("GET", path_of_none), 404, "DISCOUNT_NOT_FOUND")
        refused(await office.operator().ask("PATCH", path_of_none, json={}), 404, "DISCOUNT_NOT_FOUND")
    refused(await viewer.ask("PATCH", f"{path}/{added[0]['id']}", json={"active": False}), 403, "FORBIDDEN")
    refused(await viewer.ask("POST", path, json={}), 403, "FORBIDDEN")
    refused(await office.customer().ask("GET", path), 403, "FORBIDDEN")


@pytest.mark.parametrize(
    "terms",
    [
        {"off": {"type": "percentage", "basis_points": 0}},
        {"off": {"type": "percentage", "basis_points": 10_001}},
        {"off": {"type": "percentage", "basis_points": 12.5}},
        {"off": fixed(0)},
        {"off": fixed(100_000_000)},
        {"off": fixed(1005, "KWD")},
        {"off": fixed(500, "ISK")},
        {"code": "a b"},
        {"max_uses": 0},
        {"max_uses_per_customer": 0},
        {"valid_from": "2030-01-02T00:00:00Z", "valid_until": "2030-01-01T00:00:00Z"},
    ],
)
async def test_impossible_discounts_are_refused(office: BoxOffice, terms: dict[str, Any]) -> None:
    """V03: a discount that could not be priced exactly, or never be used, is refused when it is made."""
    body = {"code": "IMPOSSIBLE", "off": fixed(100), **terms}
    refused(await office.operator().ask("POST", "/admin/v1/discounts", json=body), 422, "VALIDATION_FAILED")


async def test_a_fixed_amount_is_in_the_experiences_currency(office: BoxOffice) -> None:
    """V03: a discount of one experience in another currency is refused when it is made; an unknown experience is 404."""
    offer = await office.offer(currency="JPY")
    body = {"code": "ELSEWHERE", "off": fixed(100), "experience_id": offer.experience_id}
    refused(await office.operator().ask("POST", "/admin/v1/discounts", json=body), 422, "VALIDATION_FAILED")
    body["experience_id"] = str(uuid4())
    refused(await office.operator().ask("POST", "/admin/v1/discounts", json=body), 404, "EXPERIENCE_NOT_FOUND")
    code = await office.discount()
    path = f"/admin/v1/discounts/{code['id']}"
    backwards = {"valid_from": in_hours(2), "valid_until": in_hours(1)}
    refused(await office.operator().ask("PATCH", path, json=backwards), 422, "VALIDATION_FAILED")
