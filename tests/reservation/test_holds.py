"""A guest's hold from outside: made, replayed byte for byte, renewed, extended, given back, seen by nobody else."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from reservation_service.flags import SMART_IDEMPOTENCY
from shared.flags import Override
from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice, Customer, Offer
from tests.scenarios import fired


async def held(customer: Customer, offer: Offer, seats: int = 1, **more: Any) -> str:
    return str(answered(await customer.hold(offer, seats, **more), 201)["id"])


async def test_a_hold_takes_its_seats_and_shows_its_price(office: BoxOffice) -> None:
    """A hold has a price from our list, a time to live, and its seats are gone for everybody else at once."""
    offer, guest = await office.offer(capacity=5, prices={"adult": (4500, 1), "child": (2000, 1)}), office.customer()
    items = [{"ticket_type_id": offer.tickets[code], "quantity": n} for code, n in (("adult", 2), ("child", 1))]
    body = {"time_slot_id": offer.slot_id, "items": items, "metadata": {"b": "2", "a": "1"}, "client_reference": "r-7"}
    answer = await guest.ask("POST", "/v1/holds", key="k", json=body)
    hold = answered(answer, 201)
    assert (hold["status"], hold["seats"], hold["price"]["total"]) == (
        "active",
        3,
        {"amount": 11_000, "currency": "EUR"},
    )
    assert (hold["metadata"], hold["client_reference"], hold["supersedes"]) == ({"a": "1", "b": "2"}, "r-7", None)
    assert 595_000 < int(answer.headers["expires-in-ms"]) <= 600_000
    assert {"idempotent-replayed", "idempotency-renewed"}.isdisjoint(answer.headers)
    assert await office.free(offer) == 2
    assert answered(await guest.see_hold(hold["id"])) == hold
    assert (await guest.ask("POST", "/v1/holds", key="k", json=body)).content == answer.content


async def test_the_same_call_again_is_answered_byte_for_byte(office: BoxOffice) -> None:
    """I20, V12: a replay shows the hold as it was made, whatever happened since, whatever the JSON's spacing."""
    offer, guest = await office.offer(), office.customer()
    first = await guest.hold(offer, 2, key="k", metadata={"z": "1", "a": "2"})
    hold_id = answered(first, 201)["id"]
    await guest.extend(hold_id, 1500)
    again = await guest.hold(offer, 2, key='"k"', metadata={"a": "2", "z": "1"})
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    await guest.convert(hold_id)
    later = await guest.hold(offer, 2, key="k", metadata={"a": "2", "z": "1"})
    assert (later.status_code, later.content) == (201, first.content)
    assert answered(await guest.see_hold(hold_id))["status"] == "converted"
    assert await office.free(offer) == 8


@pytest.mark.parametrize("changed", ["quantity", "more", "ticket"])
async def test_a_key_cannot_carry_another_body(office: BoxOffice, changed: str) -> None:
    """V07: the same key with another body is refused, and nothing is taken for it."""
    offer, guest = await office.offer(prices={"adult": (4500, 1), "child": (2000, 1)}), office.customer()
    await held(guest, offer, key="k")
    others = {
        "quantity": guest.hold(offer, 2, key="k"),
        "more": guest.hold(offer, 1, key="k", client_reference="x"),
        "ticket": guest.hold(offer, 1, key="k", ticket="child"),
    }
    refused(await others[changed], 422, "IDEMPOTENCY_KEY_REUSED")
    for name, unused in others.items():
        if name != changed:
            unused.close()
    assert await office.free(offer) == 9


async def test_a_key_belongs_to_its_caller(office: BoxOffice) -> None:
    """V08, I24: the same key of another caller is another key; neither sees the other's hold."""
    offer, one, other = await office.offer(), office.customer(), office.customer()
    first, second = await held(one, offer, key="k"), await held(other, offer, 2, key="k")
    assert first != second
    missing = refused(await other.see_hold(first), 404, "HOLD_NOT_FOUND")
    absent = refused(await other.see_hold(str(uuid4())), 404, "HOLD_NOT_FOUND")
    named = {"instance", "request_id", "trace_id"}
    assert {n: v for n, v in missing.items() if n not in named} == {n: v for n, v in absent.items() if n not in named}
    for attempt in (other.extend(first, 60), other.release(first), other.convert(first)):
        refused(await attempt, 404, "HOLD_NOT_FOUND")


async def test_an_expired_hold_is_renewed_by_its_key(office: BoxOffice) -> None:
    """V11, I21: the same key makes a new hold that names the old one; the old one is closed, its seats counted once."""
    offer, guest = await office.offer(capacity=3), office.customer()
    first = await held(guest, offer, 3, key="k")
    await office.let_expire(first)
    answer = await guest.hold(offer, 3, key="k")
    renewed = answered(answer, 201)
    assert answer.headers["idempotency-renewed"] == "true"
    assert "idempotent-replayed" not in answer.headers
    assert (renewed["supersedes"], renewed["status"]) == (first, "active")
    assert answered(await guest.see_hold(first))["status"] == "expired"
    assert await office.free(offer) == 0
    replay = await guest.hold(offer, 3, key="k")
    assert replay.content == answer.content
    refused(await guest.hold(offer, 2, key="k"), 422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize("how", ["swept", "system", "operator", "failed"])
async def test_what_was_not_the_guests_choice_is_renewed(office: BoxOffice, how: str) -> None:
    """V11: expired and swept, released by the house, or failed: the same key starts again."""
    offer, guest = await office.offer(), office.customer()
    first = await held(guest, offer, key="k")
    if how == "swept":
        await office.let_expire(first)
        assert await office.sweep() == 1
    elif how == "failed":
        await guest.convert(first)
        await office.let_payment_time_run_out(first)
    else:
        await guest.release(first)
        await office.sql("UPDATE reservations SET released_by = :how WHERE id = :id", how=how, id=first)
    answer = await guest.hold(offer, key="k")
    assert answered(answer, 201)["supersedes"] == first
    assert answer.headers["idempotency-renewed"] == "true"
    assert await office.free(offer) == 9


@pytest.mark.parametrize("how", ["released", "pending", "confirmed"])
async def test_what_was_the_guests_choice_is_replayed(office: BoxOffice, how: str) -> None:
    """V11: given back by the guest, or a booking already: the key shows the hold it made and makes no other."""
    offer, guest = await office.offer(), office.customer()
    first = await guest.hold(offer, key="k")
    hold_id = answered(first, 201)["id"]
    if how == "released":
        await guest.release(hold_id)
    else:
        await guest.convert(hold_id)
    if how == "confirmed":
        await office.pay(hold_id)
    assert await office.status(hold_id) == how
    again = await guest.hold(offer, key="k")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_key_does_not_grow_old(office: BoxOffice) -> None:
    """V13, I21: a day and an hour later the key of a booking still replays it, and still refuses another body."""
    offer, guest = await office.offer(), office.customer()
    first = await guest.hold(offer, key="k")
    hold_id = answered(first, 201)["id"]
    await guest.convert(hold_id)
    aged = await office.sql(
        "UPDATE idempotency SET created_at = created_at - interval '25 hours' WHERE hold_id = :id RETURNING key",
        id=hold_id,
    )
    await office.sweep()
    again = await guest.hold(offer, key="k")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    refused(await guest.hold(offer, 2, key="k"), 422, "IDEMPOTENCY_KEY_REUSED")
    assert await office.free(offer) == 9
    fired("V13", len(aged))


async def test_without_smart_idempotency_an_expired_hold_replays(office: BoxOffice) -> None:
    """X14: flag off: the expired hold is shown as it was made, no new one appears, no seats are taken."""
    offer, guest = await office.offer(), office.customer()
    first = await guest.hold(offer, key="k")
    await office.let_expire(answered(first, 201)["id"])
    flags, database = office.parts.flags, office.parts.database
    await flags.set(database, SMART_IDEMPOTENCY, Override(enabled=False), by="test", reason="test")
    again = await guest.hold(offer, key="k")
    await flags.set(database, SMART_IDEMPOTENCY, Override(enabled=True), by="test", reason="test")
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    assert await office.free(offer) == 10


async def test_expired_seats_are_free_before_any_sweeper_comes(office: BoxOffice) -> None:
    """I2, T10: nobody sweeps; the page shows the seats as free, and the next guest gets them."""
    offer, late, quick = await office.offer(capacity=2), office.customer(), office.customer()
    lapsed = await held(late, offer, 2)
    refused(await quick.hold(offer, 1), 409, "SLOT_UNAVAILABLE")
    await office.let_expire(lapsed)
    assert await office.free(offer) == 2
    shown = await late.see_hold(lapsed)
    assert (answered(shown)["status"], shown.headers["expires-in-ms"]) == ("expired", "0")
    await held(quick, offer, 2)
    assert await office.status(lapsed) == "expired"
    refused(await late.convert(lapsed), 410, "HOLD_EXPIRED")
    refused(await late.extend(lapsed), 410, "HOLD_EXPIRED")
    fired("T10", 1)


async def test_a_renewal_of_a_full_slot_is_refused_and_can_heal(office: BoxOffice) -> None:
    """I21: somebody else has the seats now: 409; the refusal is not stored, the same call works when they are free."""
    offer, late, quick = await office.offer(capacity=1), office.customer(), office.customer()
    lapsed = await held(late, offer, key="k")
    await office.let_expire(lapsed)
    taken = await held(quick, offer)
    assert refused(await late.hold(offer, key="k"), 409, "SLOT_UNAVAILABLE")["available"] == 0
    await quick.release(taken)
    assert answered(await late.hold(offer, key="k"), 201)["supersedes"] == lapsed


async def test_a_refusal_heals_under_the_same_key(office: BoxOffice) -> None:
    """I20: only successes are stored; the refused call is made again with its key and succeeds."""
    offer, one, other = await office.offer(capacity=3), office.customer(), office.customer()
    first = await held(one, offer, 2)
    refusal = refused(await other.hold(offer, 2, key="k"), 409, "SLOT_UNAVAILABLE")
    assert refusal["available"] == 1
    await one.release(first)
    assert (await other.hold(offer, 2, key="k")).status_code == 201


async def test_a_hundred_of_the_same_call_make_one_hold(office: BoxOffice) -> None:
    """K02, I21: one key a hundred times at once: one hold, one body."""
    offer, guest = await office.offer(capacity=100), office.customer()
    answers = await asyncio.gather(*(guest.hold(offer, 2, key="k") for _ in range(100)))
    assert Counter(answer.status_code for answer in answers) == {201: 100}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert await office.free(offer) == 98
    fired("K02", sum("idempotent-replayed" in answer.headers for answer in answers))


async def test_a_hundred_renewals_make_one_hold(office: BoxOffice) -> None:
    """K02, V11: the same expired hold renewed many times at once is superseded by exactly one."""
    offer, guest = await office.offer(capacity=3), office.customer()
    first = await held(guest, offer, 2, key="k")
    await office.let_expire(first)
    answers = await asyncio.gather(*(guest.hold(offer, 2, key="k") for _ in range(40)))
    assert Counter(answer.status_code for answer in answers) == {201: 40}
    (body,) = {answer.content for answer in answers}
    assert sum("idempotency-renewed" in answer.headers for answer in answers) == 1
    assert await office.free(offer) == 1
    assert first.encode() in body
    fired("K02", len(answers) - 1)


async def test_two_hundred_guests_and_twenty_seats(office: BoxOffice) -> None:
    """K01, I1, peers B1.16: exactly twenty win, everybody else is told how many seats are left, nobody sees an error."""
    offer = await office.offer(capacity=20)
    answers = await asyncio.gather(*(office.customer().hold(offer) for _ in range(200)))
    assert Counter(answer.status_code for answer in answers) == {201: 20, 409: 180}
    for answer in answers:
        if answer.status_code == 409:
            refused(answer, 409, "SLOT_UNAVAILABLE")
    assert await office.free(offer) == 0
    fired("K01", len(answers) - 20)


async def test_a_customer_keeps_few_holds(office: BoxOffice) -> None:
    """K10: the sixth active hold is refused; one that is over, given back or converted does not count."""
    offer, guest = await office.offer(capacity=20), office.customer()
    holds = [await held(guest, offer) for _ in range(5)]
    assert refused(await guest.hold(offer), 409, "TOO_MANY_ACTIVE_HOLDS")["maximum"] == 5
    await guest.release(holds[0])
    await office.let_expire(holds[1])
    await guest.convert(holds[2])
    for _ in range(3):
        await held(guest, offer)
    refused(await guest.hold(offer), 409, "TOO_MANY_ACTIVE_HOLDS")
    await held(office.customer(), offer)
    assert await office.free(offer) == 13
