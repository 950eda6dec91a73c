"""Seats are never sold twice and never lost: they are taken once, given back once, and pinned while money is on its way."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError

from reservation_service.booking.expiry import release_expired
from tests.answers import answered
from tests.reservation.box_office import BoxOffice
from tests.scenarios import fired


async def test_a_crowd_gets_exactly_the_seats_there_are(office: BoxOffice) -> None:
    """K01, I1, peers B1.10: forty customers at once on seven seats: seven holds, everybody else is refused."""
    offer = await office.offer(capacity=7)
    answers = await asyncio.gather(*(office.customer().hold(offer) for _ in range(40)))
    assert Counter(answer.status_code for answer in answers) == {201: 7, 409: 33}
    assert await office.free(offer) == 0
    fired("K01", len(answers) - 7)


async def test_a_party_that_does_not_fit_takes_no_seat(office: BoxOffice) -> None:
    """I1: three seats are left and four are wanted: refused whole, and the three can still be had."""
    offer = await office.offer(capacity=3)
    assert (await office.customer().hold(offer, 4)).status_code == 409
    assert await office.free(offer) == 3
    answered(await office.customer().hold(offer, 3), 201)


@pytest.mark.parametrize("taken", [3, -1])
async def test_the_database_itself_refuses_an_impossible_count(office: BoxOffice, taken: int) -> None:
    """I1, peers B1.14: whatever statement some future code may send, no slot counts more seats than it has, or fewer than none."""
    offer = await office.offer(capacity=2)
    with pytest.raises(IntegrityError):
        await office.sql("UPDATE time_slots SET taken = :taken WHERE id = :id", taken=taken, id=UUID(offer.slot_id))


async def test_giving_a_hold_back_again_gives_nothing_more(office: BoxOffice) -> None:
    """I2, I3, peers B4.56: a release that is repeated changes nothing; the seats of somebody else stay taken."""
    offer, customer = await office.offer(capacity=10), office.customer()
    answered(await office.customer().hold(offer, 4), 201)
    mine = answered(await customer.hold(offer, 3), 201)
    for _ in range(3):
        assert answered(await customer.release(mine["id"]))["status"] == "released"
        assert await office.free(offer) == 6


async def test_a_hold_that_ran_out_and_is_then_released_counts_once(office: BoxOffice) -> None:
    """I2, I3: the sweeper came first; the guest's release finds nothing left to give back."""
    offer, customer = await office.offer(capacity=10), office.customer()
    answered(await office.customer().hold(offer, 4), 201)
    mine = answered(await customer.hold(offer, 3), 201)
    await office.let_expire(mine["id"])
    assert await release_expired(office.parts.database, office.parts.metrics, batch=100) == 1
    await customer.release(mine["id"])
    assert await office.free(offer) == 6


async def test_the_sweeper_leaves_alone_what_is_being_paid_for(office: BoxOffice) -> None:
    """T01, I23: once converted, the hold's own end means nothing: neither the sweeper nor a full slot frees its seats."""
    offer, customer = await office.offer(capacity=2), office.customer()
    hold = answered(await customer.hold(offer, 2), 201)
    answered(await customer.convert(hold["id"]), 201)
    await office.let_expire(hold["id"])
    assert await release_expired(office.parts.database, office.parts.metrics, batch=100) == 0
    assert (await office.customer().hold(offer, 1)).status_code == 409
    assert await office.status(hold["id"]) == "pending"
    assert await office.free(offer) == 0
