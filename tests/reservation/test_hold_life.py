"""What a guest may do with a hold and what nobody may: extend, release, sizes, amounts, closed slots."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from reservation_service.flags import GROUP_ADMISSION
from shared.flags import Override
from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice, Customer, Offer


async def held(customer: Customer, offer: Offer, seats: int = 1, **more: Any) -> str:
    return str(answered(await customer.hold(offer, seats, **more), 201)["id"])


async def seconds_left(office: BoxOffice, hold_id: str) -> float:
    (row,) = await office.sql(
        "SELECT extract(epoch FROM expires_at - clock_timestamp()) AS left_s FROM reservations WHERE id = :id",
        id=hold_id,
    )
    return float(row["left_s"])


async def test_extending_never_shortens_and_has_limits(office: BoxOffice) -> None:
    """A hold is kept until now + seconds if that is later, twice at most, and never beyond half an hour."""
    offer, guest = await office.offer(hold_ttl_seconds=300), office.customer()
    hold_id = await held(guest, offer)
    shown = answered(await guest.extend(hold_id, 60))
    assert shown["extendable"] is True
    assert 290 < await seconds_left(office, hold_id) <= 300
    answer = await guest.extend(hold_id, 1800)
    assert answered(answer)["extendable"] is False
    assert 1780 < await seconds_left(office, hold_id) <= 1800
    assert 1_780_000 < int(answer.headers["expires-in-ms"]) <= 1_800_000
    assert refused(await guest.extend(hold_id, 60), 409, "HOLD_EXTENSION_LIMIT")["maximum"] == 2


async def test_no_extension_outlives_the_longest_life(office: BoxOffice) -> None:
    """A hold that is 25 minutes old gets five more minutes, however many it asks for."""
    offer, guest = await office.offer(), office.customer()
    hold_id = await held(guest, offer, ttl_seconds=1800)
    await office.sql(
        "UPDATE reservations SET created_at = created_at - interval '25 minutes',"
        " expires_at = expires_at - interval '25 minutes' WHERE id = :id",
        id=hold_id,
    )
    await guest.extend(hold_id, 1800)
    assert 295 < await seconds_left(office, hold_id) <= 300


@pytest.mark.parametrize("seconds", [0, -1, 1801, 1.5, "60"])
async def test_an_extension_has_a_form(office: BoxOffice, seconds: Any) -> None:
    """V01: out of range or of another type: 422, and the hold stays as it was."""
    offer, guest = await office.offer(), office.customer()
    hold_id = await held(guest, offer)
    refused(await guest.extend(hold_id, seconds), 422, "VALIDATION_FAILED")
    assert answered(await guest.see_hold(hold_id))["extendable"] is True


async def test_releasing_gives_the_seats_back_once(office: BoxOffice) -> None:
    """I3: ten releases at once and one more: 200 each time, the seats are back once."""
    offer, guest = await office.offer(capacity=5), office.customer()
    await held(office.customer(), offer, 1)
    hold_id = await held(guest, offer, 2)
    answers = await asyncio.gather(*(guest.release(hold_id) for _ in range(10)))
    assert [answered(answer)["status"] for answer in answers] == ["released"] * 10
    assert answered(await guest.release(hold_id))["extendable"] is False
    assert await office.free(offer) == 4
    refused(await guest.extend(hold_id, 60), 409, "INVALID_HOLD_STATUS")
    refused(await guest.convert(hold_id), 409, "INVALID_HOLD_STATUS")


async def test_a_booking_is_not_released_as_a_hold(office: BoxOffice) -> None:
    """Once converted, only a cancel takes a booking back."""
    offer, guest = await office.offer(), office.customer()
    hold_id = await held(guest, offer, 2)
    await guest.convert(hold_id)
    refused(await guest.release(hold_id), 409, "INVALID_HOLD_STATUS")
    refused(await guest.extend(hold_id), 409, "INVALID_HOLD_STATUS")
    assert await office.free(offer) == 8


async def test_an_expired_hold_can_be_released_without_effect(office: BoxOffice) -> None:
    """I3: expired and swept: DELETE answers 200 with what it is, and no seat goes back a second time."""
    offer, guest = await office.offer(capacity=3), office.customer()
    hold_id = await held(guest, offer, 2)
    await office.let_expire(hold_id)
    await office.sweep()
    assert answered(await guest.release(hold_id))["status"] == "expired"
    assert await office.free(offer) == 3


async def test_a_party_that_does_not_fit(office: BoxOffice) -> None:
    """PARTY_SIZE_INVALID, AMOUNT_TOO_SMALL, AMOUNT_TOO_LARGE: nothing is taken, and the limit is told."""
    prices = {"adult": (4500, 1), "cheap": (10, 1), "yacht": (99_999_999, 1), "lap": (0, 0)}
    offer, guest = await office.offer(prices=prices, max_party=4), office.customer()
    assert refused(await guest.hold(offer, 5), 422, "PARTY_SIZE_INVALID")["max_party"] == 4
    refused(await guest.hold(offer, 2, ticket="lap"), 422, "PARTY_SIZE_INVALID")
    too_small = refused(await guest.hold(offer, 4, ticket="cheap"), 422, "AMOUNT_TOO_SMALL")
    assert too_small["minimum"] == {"amount": 50, "currency": "EUR"}
    refused(await guest.hold(offer, 2, ticket="yacht"), 422, "AMOUNT_TOO_LARGE")
    refused(await guest.hold(offer, discount_code="SUMMER"), 422, "DISCOUNT_INVALID")
    assert await office.free(offer) == 10


async def test_an_unknown_slot_and_a_foreign_ticket(office: BoxOffice) -> None:
    """V03: a slot that is not there is 404; a ticket of another experience is 422 and named by its pointer."""
    offer, other, guest = await office.offer(), await office.offer(), office.customer()
    body = offer.order() | {"time_slot_id": str(uuid4())}
    refused(await guest.ask("POST", "/v1/holds", key="k", json=body), 404, "TIME_SLOT_NOT_FOUND")
    body = offer.order() | {"items": other.order()["items"]}
    problem = refused(await guest.ask("POST", "/v1/holds", key="k", json=body), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["pointer"] == "/items/0/ticket_type_id"


async def test_a_closed_slot_sells_nothing_and_loses_nothing(office: BoxOffice) -> None:
    """SLOT_CLOSED on hold and convert while closed; opened again, both work; a hold that exists is replayed throughout."""
    offer, guest, operator = await office.offer(), office.customer(), office.operator()
    path = f"/admin/v1/time-slots/{offer.slot_id}"
    first = await guest.hold(offer, key="k")
    hold_id = answered(first, 201)["id"]
    answered(await operator.ask("PATCH", path, json={"status": "closed", "reason": "storm"}))
    refused(await guest.hold(offer), 409, "SLOT_CLOSED")
    assert (await guest.hold(offer, key="k")).content == first.content
    refused(await guest.convert(hold_id), 409, "SLOT_CLOSED")
    assert await office.status(hold_id) == "held"
    answered(await operator.ask("PATCH", path, json={"status": "open", "reason": "sun"}))
    assert (await guest.convert(hold_id)).status_code == 201


async def test_a_slot_that_has_started_sells_nothing(office: BoxOffice) -> None:
    """T08: past its start or its cutoff, hold and convert are SLOT_CLOSED and the page says closed."""
    offer, guest = await office.offer(), office.customer()
    hold_id = await held(guest, offer)
    await office.sql("UPDATE time_slots SET sells_until = now() - interval '1 second' WHERE id = :id", id=offer.slot_id)
    refused(await guest.hold(offer), 409, "SLOT_CLOSED")
    refused(await guest.convert(hold_id), 409, "SLOT_CLOSED")
    assert answered(await office.http.get(f"/v1/time-slots/{offer.slot_id}"))["status"] == "closed"


@pytest.mark.parametrize("ahead_s", [-30, 1800])
async def test_a_cutoff_counts_from_the_start(office: BoxOffice, ahead_s: float) -> None:
    """T08: an experience with an hour's cutoff does not sell a slot that starts in half an hour."""
    offer, guest = await office.offer(cutoff_minutes=60), office.customer()
    late = Offer(await office.slot(offer.experience_id, in_s=ahead_s), offer.experience_id, offer.tickets)
    refused(await guest.hold(late), 409, "SLOT_CLOSED")
    assert (await guest.hold(offer)).status_code == 201


async def test_a_slot_without_seats(office: BoxOffice) -> None:
    """I1: capacity zero is never sold, and says that nothing is available."""
    offer = await office.offer(capacity=0)
    assert refused(await office.customer().hold(offer), 409, "SLOT_UNAVAILABLE")["available"] == 0


async def hold_with_keys(office: BoxOffice, offer: Offer, *keys: bytes) -> httpx.Response:
    """POST a hold with these lines of `Idempotency-Key`, byte for byte."""
    guest = office.customer()
    lines = [(b"authorization", f"Bearer {guest.token}".encode()), *((b"idempotency-key", key) for key in keys)]
    return await office.http.post("/v1/holds", json=offer.order(), headers=lines)


@pytest.mark.parametrize("key", [b"", b" ", b"a b", b"x" * 256, b"\xe9", b"\xc3\xa9", b'""'])
async def test_a_key_has_a_form(office: BoxOffice, key: bytes) -> None:
    """V10: empty, blank, too long or not visible ASCII: 400, and nothing is taken."""
    offer = await office.offer()
    refused(await hold_with_keys(office, offer, key), 400, "IDEMPOTENCY_KEY_INVALID")
    assert await office.free(offer) == 10


async def test_a_key_is_needed_once(office: BoxOffice) -> None:
    """V10: no key, or two: 400."""
    offer = await office.offer()
    refused(await hold_with_keys(office, offer), 400, "IDEMPOTENCY_KEY_MISSING")
    refused(await hold_with_keys(office, offer, b"a", b"b"), 400, "IDEMPOTENCY_KEY_INVALID")
    assert (await hold_with_keys(office, offer, b"a")).status_code == 201


async def test_a_forgotten_key_is_a_new_request(office: BoxOffice) -> None:
    """V13, I21: a key that is no longer kept makes another hold; the one that it once made stays as it is."""
    offer, guest = await office.offer(), office.customer()
    once = answered(await guest.hold(offer, 2, key="k"), 201)
    await office.sql("DELETE FROM idempotency WHERE hold_id = :id", id=UUID(once["id"]))
    again = await guest.hold(offer, 2, key="k")
    assert "idempotent-replayed" not in again.headers
    new = answered(again, 201)
    assert (new["id"] != once["id"], new["supersedes"]) == (True, None)
    assert answered(await guest.see_hold(once["id"])) == once
    assert await office.free(offer) == 6


@pytest.mark.parametrize("grouped", [True, False])
async def test_both_lanes_answer_the_same(office: BoxOffice, grouped: bool) -> None:
    """X14: with and without group admission: the same winners, the same refusals, the same replays."""
    flags, database = office.parts.flags, office.parts.database
    await flags.set(database, GROUP_ADMISSION, Override(enabled=grouped), by="test", reason="test")
    offer, guest = await office.offer(capacity=7), office.customer()
    first, again = await guest.hold(offer, 2, key="k"), await guest.hold(offer, 2, key="k")
    answers = await asyncio.gather(*(office.customer().hold(offer, 2) for _ in range(10)))
    await flags.set(database, GROUP_ADMISSION, Override(enabled=True), by="test", reason="test")
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 8
    assert {answer.json()["available"] for answer in answers if answer.status_code == 409} == {1}
    assert await office.free(offer) == 1
