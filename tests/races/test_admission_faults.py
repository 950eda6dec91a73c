"""Groups of holds meet trouble: a cut wire, a silent one, locked rows; each caller gets their own right answer."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from shared.crashpoints import arm
from shared.database import Database
from tests.answers import answered, refused
from tests.doubles.fault_proxy import BLACK_HOLE, LOSE_RESPONSE, Fault, FaultProxy
from tests.figures import tell
from tests.races.callers import (
    PATIENT,
    a_crowd,
    all_hold,
    all_until_held,
    ask,
    assert_one_hold_each,
    groups,
    locking,
    until,
    until_blocked,
    until_held,
    until_waiting,
)
from tests.reservation.box_office import BoxOffice, open_box_office
from tests.scenarios import fired


@asynccontextmanager
async def behind_a_wire(database_url: str, **changed: object) -> AsyncIterator[tuple[BoxOffice, FaultProxy]]:
    """The service, with a proxy between it and its database."""
    address = urlsplit(database_url)
    assert address.port is not None
    with FaultProxy(address.port) as wire:
        netloc = address.netloc.replace(f":{address.port}", f":{wire.port}")
        async with open_box_office(urlunsplit(address._replace(netloc=netloc)), **changed) as office:
            yield office, wire
            arm(None)
            wire.heal()
            await office.assert_consistent()


def once_at(point: str, wire: FaultProxy, fault: Fault) -> None:
    """Let the wire fail from the moment this point is passed."""
    arm(point, lambda: wire.inject(fault))


async def test_a_cut_commit_is_decided_by_reading_the_keys(reservation_database_url: str, other: Database) -> None:
    """P02, C02, L10, I3, I21: the group's commit arrives, its answer does not; every caller gets the hold that it made."""
    async with behind_a_wire(reservation_database_url, admission_group_s=10.0, **PATIENT) as (office, wire):
        offers = [await office.offer(capacity=20) for _ in range(3)]
        crowd = a_crowd(office, offers, 45)
        await all_hold(a_crowd(office, offers, 3))  # wire and price list are in use before the one fails
        before = wire.fired
        once_at("flush_holds.before", wire, LOSE_RESPONSE)
        calls = asyncio.create_task(all_hold(crowd))
        keys = [key for _, _, key in crowd]
        committed = await until(lambda: ask(other, "SELECT key FROM idempotency WHERE key = ANY(:k)", k=keys))
        wire.heal()
        answers = await calls
        await assert_one_hold_each(other, crowd, answers)
        assert groups(office, "settled_alone") >= 1
        replayed = await all_hold(crowd)
        assert [answer.content for answer in replayed] == [answer.content for answer in answers]
        assert all("idempotent-replayed" in answer.headers for answer in replayed)
        tell(f"commit cut: callers={len(crowd)} committed unheard={len(committed)} answered right={len(answers)}")
        fired("P02", wire.fired - before)


async def test_a_silent_database_costs_nobody_more_than_the_deadline(
    reservation_database_url: str, other: Database
) -> None:
    """P08, I26: black hole in the middle of a flush: 503 by the deadline, nothing half done, well again unaided."""
    patience = {"admission_deadline_s": 1.5, "admission_group_s": 0.5, "database_pool_timeout_s": 1.0}
    async with behind_a_wire(reservation_database_url, **patience) as (office, wire):
        offer = await office.offer(capacity=31)
        crowd = a_crowd(office, [offer], 30)
        await all_hold(a_crowd(office, [offer], 1))  # wire and price list are in use before the one fails
        before = wire.fired
        once_at("flush_holds.before", wire, BLACK_HOLE)
        began = time.monotonic()
        for answer in await all_hold(crowd):
            refused(answer, 503, "SLOT_BUSY", "SERVICE_UNAVAILABLE")
        took_s = time.monotonic() - began
        assert (await office.http.get("/livez")).status_code == 200
        assert not await ask(other, "SELECT 1 FROM idempotency WHERE key = ANY(:k)", k=[key for _, _, key in crowd])
        fired("P08", wire.fired - before)
        wire.heal()
        began = time.monotonic()
        answers = await all_until_held(crowd)
        tell(
            f"black hole: callers={len(crowd)} refused after {took_s:.2f} s, well again after {time.monotonic() - began:.2f} s"
        )
        await assert_one_hold_each(other, crowd, answers)


@pytest.mark.parametrize("discounted", [False, True], ids=["price list", "discount"])
async def test_a_database_that_was_silent_before_anybody_came(reservation_database_url: str, discounted: bool) -> None:
    """P08, I26: prices and codes are asked of a database that says nothing: 503 in time, and nothing is held."""
    async with behind_a_wire(reservation_database_url, admission_price_s=0.5) as (office, wire):
        offer, code = await office.offer(capacity=5), await office.discount()
        if discounted:
            await all_hold(a_crowd(office, [offer], 1))  # the price list is known, so only the code is asked for
        free, before, began = await office.free(offer), wire.fired, time.monotonic()
        wire.inject(BLACK_HOLE)
        more = {"discount_code": code["code"]} if discounted else {}
        answers = await asyncio.gather(*(office.customer().hold(offer, **more) for _ in range(5)))
        took_s = time.monotonic() - began
        for answer in answers:
            refused(answer, 503, "SLOT_BUSY")
        tell(f"black hole before prices were known: callers={len(answers)} refused after {took_s:.2f} s")
        assert took_s < 4, "what the connections themselves take to give up is twice as long"
        fired("P08", wire.fired - before)
        wire.heal()
        answered(*await all_until_held(a_crowd(office, [offer], 1)), 201)
        assert await office.free(offer) == free - 1


async def test_a_locked_slot_delays_nobody_else(reservation_database_url: str, other: Database) -> None:
    """K09, I1, peers B5.68: while somebody keeps one slot's row locked, every other slot sells; its own callers are served after."""
    async with open_box_office(reservation_database_url, **PATIENT) as office:
        slow, *quick = [await office.offer(capacity=40) for _ in range(5)]
        async with locking(other, slow):
            blocked = a_crowd(office, [slow], 30)
            waiting = asyncio.create_task(all_until_held(blocked))  # who waits for the lock gives up after 3 s
            await until_blocked(office)
            crowd = a_crowd(office, quick, 120)
            answers = await all_hold(crowd)
            assert not waiting.done()
            assert {answer.status_code for answer in answers} == {201}
            assert groups(office, "blocked") <= 2, "a slot that is known to be locked is not tried with every group"
            assert (await office.http.get(f"/v1/time-slots/{slow.slot_id}")).status_code == 200
        late = await waiting
        await assert_one_hold_each(other, crowd, answers)
        await assert_one_hold_each(other, blocked, late)
        told = {outcome: int(groups(office, outcome)) for outcome in ("written", "blocked", "settled_alone")}
        tell(f"one slot locked: others={len(answers)} x 201 meanwhile, its own={len(late)} x 201 after, groups={told}")
        fired("K09", told["blocked"])


async def test_whoever_waits_too_long_takes_nothing_afterwards(reservation_database_url: str, other: Database) -> None:
    """K09, I1: the deadline passes before the lock is free: 503, and no seat is taken for that caller ever after."""
    async with open_box_office(reservation_database_url, admission_deadline_s=0.6, admission_group_s=0.3) as office:
        slow = await office.offer(capacity=10)
        async with locking(other, slow):
            for answer in await all_hold(a_crowd(office, [slow], 8)):
                refused(answer, 503, "SLOT_BUSY")
        answered(*await all_until_held(a_crowd(office, [slow], 1)), 201)  # behind whatever was still on its way
        assert await office.free(slow) == 9


async def test_whoever_has_gone_takes_nothing(reservation_database_url: str, other: Database) -> None:
    """K09, I1: callers who give up while they wait are dropped before their turn."""
    async with open_box_office(reservation_database_url, **PATIENT) as office:
        slow = await office.offer(capacity=10)
        async with locking(other, slow):
            (first,) = a_crowd(office, [slow], 1)
            stays = asyncio.create_task(until_held(first))
            await until_blocked(office)  # it stands before the lock, and everybody else behind it
            leaving = [asyncio.create_task(office.customer().hold(slow)) for _ in range(5)]
            await until_waiting(office, 6)
            for call in leaving:
                call.cancel()
            await asyncio.wait(leaving)
        answered(await stays, 201)
        assert await office.free(slow) == 9


async def test_the_queue_has_an_end(reservation_database_url: str, other: Database) -> None:
    """I26, K09: when as many wait as may, the next are told at once to come again; those in the queue are served."""
    async with open_box_office(reservation_database_url, admission_queue_max=5, **PATIENT) as office:
        slow = await office.offer(capacity=40)
        async with locking(other, slow):
            calls = asyncio.create_task(all_until_held(a_crowd(office, [slow], 5)))
            await until_waiting(office, 5)
            for answer in await all_hold(a_crowd(office, [slow], 20)):
                refused(answer, 503, "SLOT_BUSY")
        assert Counter(answer.status_code for answer in await calls) == {201: 5}
        assert await office.free(slow) == 35
