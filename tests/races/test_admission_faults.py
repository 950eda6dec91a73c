"""Groups of holds meet trouble: a cut wire, a silent one, locked rows, poison; each caller gets their own right answer."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from shared.crashpoints import arm
from shared.database import Database
from tests.answers import answered, refused
from tests.doubles.fault_proxy import BLACK_HOLE, LOSE_RESPONSE, Fault, FaultProxy
from tests.figures import tell
from tests.reservation.box_office import BoxOffice, Customer, Offer, open_box_office
from tests.scenarios import fired

Call = tuple[Customer, Offer, str]
GENEROUS_S = 20.0
T = TypeVar("T")


UNCOUNTED = """
SELECT taken - (SELECT sum(seats) FROM reservations WHERE time_slot_id = slot.id AND seats_pinned)
FROM time_slots AS slot WHERE id = :id
"""


@asynccontextmanager
async def outsider(database_url: str) -> AsyncIterator[Database]:
    """Somebody else on the same database, whose wire is always good."""
    database = Database.connect(database_url, application_name="outsider")
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def locking(other: Database, *offers: Offer) -> AsyncIterator[None]:
    """Keep the rows of these slots locked meanwhile."""
    async with other.transaction("test") as tx:
        ids = [UUID(offer.slot_id) for offer in offers]
        await tx.execute(text("SELECT FROM time_slots WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"), {"ids": ids})
        yield


async def ask(database: Database, statement: str, **values: object) -> Sequence[object]:
    async with database.reading() as connection:
        return (await connection.execute(text(statement), values)).scalars().all()


def a_crowd(office: BoxOffice, offers: Sequence[Offer], size: int) -> list[Call]:
    return [(office.customer(), offers[n % len(offers)], f"key-{uuid4()}") for n in range(size)]


async def all_hold(crowd: Sequence[Call]) -> list[httpx.Response]:
    async with asyncio.timeout(GENEROUS_S):
        return await asyncio.gather(*(guest.hold(offer, key=key) for guest, offer, key in crowd))


async def assert_one_hold_each(other: Database, crowd: Sequence[Call], answers: Sequence[httpx.Response]) -> None:
    """Each caller has exactly the hold they were told of, and each slot counts exactly its rows."""
    keys = [key for _, _, key in crowd]
    holds = await ask(other, "SELECT hold_id::text FROM idempotency WHERE key = ANY(:keys)", keys=keys)
    assert sorted(map(str, holds)) == sorted(answered(answer, 201)["id"] for answer in answers)
    for slot_id in {offer.slot_id for _, offer, _ in crowd}:
        (difference,) = await ask(other, UNCOUNTED, id=UUID(slot_id))
        assert difference == 0


def sample(office: BoxOffice, name: str, **labels: str) -> float:
    return office.parts.metrics.registry.get_sample_value(name, labels) or 0.0


def groups(office: BoxOffice, outcome: str) -> float:
    return sample(office, "reservation_admission_groups_total", outcome=outcome)


async def until(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is something."""
    async with asyncio.timeout(GENEROUS_S):
        while True:
            if found := await ask():
                return found
            await asyncio.sleep(0.005)


@pytest.fixture
async def other(reservation_database_url: str) -> AsyncIterator[Database]:
    async with outsider(reservation_database_url) as database:
        yield database


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
    async with behind_a_wire(reservation_database_url, admission_group_s=3.0) as (office, wire):
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
        assert took_s < 4, "the deadline is 1.5 s"
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


async def all_until_held(crowd: Sequence[Call]) -> list[httpx.Response]:
    """Let everybody make the same call again until it is not 503."""

    async def one(call: Call) -> httpx.Response:
        guest, offer, key = call
        while True:
            if (answer := await guest.hold(offer, key=key)).status_code != 503:
                return answer
            await asyncio.sleep(0.1)

    async with asyncio.timeout(GENEROUS_S):
        return await asyncio.gather(*map(one, crowd))


async def test_a_locked_slot_delays_nobody_else(reservation_database_url: str, other: Database) -> None:
    """K09, I1: while somebody keeps one slot's row locked, every other slot sells; its own callers are served after."""
    async with open_box_office(reservation_database_url) as office:
        slow, *quick = [await office.offer(capacity=40) for _ in range(5)]
        async with locking(other, slow):
            blocked = a_crowd(office, [slow], 30)
            waiting = asyncio.create_task(all_hold(blocked))
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
        answered(await office.customer().hold(slow), 201)  # behind whatever was still on its way
        assert await office.free(slow) == 9


async def test_whoever_has_gone_takes_nothing(reservation_database_url: str, other: Database) -> None:
    """K09, I1: callers who give up while they wait are dropped before their turn."""
    async with open_box_office(reservation_database_url) as office:
        slow = await office.offer(capacity=10)
        async with locking(other, slow):
            calls = [asyncio.create_task(office.customer().hold(slow)) for _ in range(6)]
            await until_waiting(office, 6)
            await until_blocked(office)
            for call in calls[1:]:
                call.cancel()
            await asyncio.wait(calls[1:])
        answered(await calls[0], 201)
        assert await office.free(slow) == 9


async def until_waiting(office: BoxOffice, count: int) -> None:
    async def enough() -> bool:
        return sample(office, "reservation_admission_waiting") >= count

    await until(enough)


async def until_blocked(office: BoxOffice) -> None:
    """Wait until a group has met the lock, so that everybody who came waits for it and nobody is being written."""

    async def met() -> bool:
        return groups(office, "blocked") >= 1

    await until(met)


async def test_the_queue_has_an_end(reservation_database_url: str, other: Database) -> None:
    """I26, K09: when as many wait as may, the next are told at once to come again; those in the queue are served."""
    async with open_box_office(reservation_database_url, admission_queue_max=5) as office:
        slow = await office.offer(capacity=40)
        async with locking(other, slow):
            calls = asyncio.create_task(all_hold(a_crowd(office, [slow], 5)))
            await until_waiting(office, 5)
            for answer in await all_hold(a_crowd(office, [slow], 20)):
                refused(answer, 503, "SLOT_BUSY")
        assert Counter(answer.status_code for answer in await calls) == {201: 5}
        assert await office.free(slow) == 35


PLANT = """
CREATE SEQUENCE planted;
CREATE FUNCTION plant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('planted') <= {times} THEN RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER plant BEFORE INSERT ON reservations FOR EACH ROW WHEN (NEW.client_reference = 'hit') EXECUTE FUNCTION plant();
"""


async def plant(office: BoxOffice, code: str, times: int) -> None:
    """Let the database end the first so many inserts of marked holds with this error."""
    for statement in PLANT.format(code=code, times=times).split(";\nCREATE"):
        await office.sql(statement if statement.lstrip().startswith("CREATE") else f"CREATE{statement}")


@pytest.mark.parametrize(("scenario", "code"), [("P03", "40P01"), ("P04", "40001")])
async def test_the_database_ends_a_transaction_in_favour_of_another(
    reservation_database_url: str, scenario: str, code: str
) -> None:
    """P03, P04, I1: deadlock or serialization failure five times over: tried again inside, the caller sees 201."""
    async with open_box_office(reservation_database_url) as office:
        offer = await office.offer(capacity=10)
        await plant(office, code, times=5)
        answers = await asyncio.gather(
            office.customer().hold(offer, client_reference="hit"), *(office.customer().hold(offer) for _ in range(5))
        )
        assert {answer.status_code for answer in answers} == {201}
        assert await office.free(offer) == 4
        (planted,) = await office.sql("SELECT last_value FROM planted")
        fired(scenario, min(5, planted["last_value"]))
        await office.assert_consistent()


@pytest.mark.parametrize("code", ["40P01", "40001"])
async def test_trying_again_has_an_end(reservation_database_url: str, code: str) -> None:
    """P03, P04, I26: the same for ever: 503 SLOT_BUSY after a bounded number of tries, never 500."""
    async with open_box_office(reservation_database_url) as office:
        offer = await office.offer(capacity=10)
        await plant(office, code, times=1_000_000)
        bad, *good = await asyncio.gather(
            office.customer().hold(offer, client_reference="hit"), *(office.customer().hold(offer) for _ in range(5))
        )
        refused(bad, 503, "SLOT_BUSY")
        assert {answer.status_code for answer in good} == {201}
        (planted,) = await office.sql("SELECT last_value FROM planted")
        assert planted["last_value"] <= 50
        assert await office.free(offer) == 5


async def test_poison_hurts_only_the_one_who_brought_it(reservation_database_url: str) -> None:
    """I1: one hold of a group breaks a constraint: that caller meets a bug of ours, the forty others get their holds."""
    async with open_box_office(reservation_database_url) as office:
        offer = await office.offer(capacity=60)
        await plant(office, "23514", times=1_000_000)
        poison, *others = await asyncio.gather(
            office.customer().hold(offer, client_reference="hit"),
            *(office.customer().hold(offer) for _ in range(40)),
            return_exceptions=True,
        )
        assert isinstance(poison, Exception)
        assert [other.status_code for other in others if isinstance(other, httpx.Response)] == [201] * 40
        assert await office.free(offer) == 20
        assert groups(office, "settled_alone") >= 1
        await office.assert_consistent()


async def test_a_small_pool_serves_a_crowd(reservation_database_url: str) -> None:
    """P05, I26: two connections, two hundred callers: everybody is answered, at worst 503, and the process stays alive."""
    async with open_box_office(reservation_database_url, database_pool_size=2, database_pool_timeout_s=0.5) as office:
        offer = await office.offer(capacity=100)
        looks = [office.customer().ask("GET", "/v1/reservations") for _ in range(100)]
        calls = asyncio.gather(all_hold(a_crowd(office, [offer], 100)), asyncio.gather(*looks))
        waited = 0.0
        while not calls.done():
            waited = max(waited, sample(office, "db_client_connections", state="waiting"))
            assert (await office.http.get("/livez")).status_code == 200
            await asyncio.sleep(0.01)
        held, seen = (Counter(answer.status_code for answer in answers) for answers in await calls)
        assert held.keys() <= {201, 503}
        assert seen.keys() <= {200, 503}
        assert held[201] > 0
        assert await office.free(offer) == 100 - held[201]
        assert (await office.http.get("/readyz")).status_code == 200
        tell(f"pool of 2: holds={dict(held)} looks={dict(seen)}, waiting for a connection at once={waited:.0f}")
        fired("P05", int(waited))


async def test_keys_that_cross_cannot_deadlock(reservation_database_url: str, other: Database) -> None:
    """P03, I2: two processes meet the same two keys in opposite orders, behind two slots: no deadlock, two holds."""
    async with open_box_office(reservation_database_url) as one, open_box_office(reservation_database_url) as two:
        offers = sorted([await one.offer(capacity=200) for _ in range(2)], key=lambda offer: offer.slot_id)
        rounds = 20
        for _ in range(rounds):
            sub, keys = f"crossing-{uuid4()}", [f"key-{uuid4()}" for _ in range(2)]
            calls = [
                office.customer(sub).hold(offer, key=key)
                for office, ordered in ((one, keys), (two, keys[::-1]))
                for offer, key in zip(offers, ordered, strict=True)
            ]
            tally = Counter(answer.status_code for answer in await asyncio.gather(*calls))
            assert tally == {201: 2, 422: 2}
        (deadlocks,) = await ask(other, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert deadlocks == 0
        assert sum([await one.free(offer) for offer in offers]) == 400 - 2 * rounds
        fired("P03", rounds)


async def test_a_herd_at_one_slot_starves_nobody(reservation_database_url: str) -> None:
    """K09: a thousand want one slot and fifty, who come last, want others: the fifty are served before the herd is."""
    async with open_box_office(reservation_database_url) as office:
        hot, *others = [await office.offer(capacity=100) for _ in range(6)]
        await all_hold(a_crowd(office, others, 5))
        order: list[str] = []

        async def one(call: Call, who: str) -> int:
            guest, offer, key = call
            answer = await guest.hold(offer, key=key)
            order.append(who)
            return answer.status_code

        herd, few = a_crowd(office, [hot], 1000), a_crowd(office, others, 50)
        async with asyncio.timeout(60):
            told = await asyncio.gather(*(one(call, "herd") for call in herd), *(one(call, "few") for call in few))
        assert told[:1000].count(201) == 100
        assert set(told[:1000]) <= {201, 409, 503}
        assert set(told[1000:]) == {201}
        last = {who: len(order) - order[::-1].index(who) for who in ("herd", "few")}
        tell(
            f"herd of 1000 and 50 others who came last: their last answer was number {last['few']}, the herd's {last['herd']}"
        )
        assert last["few"] < last["herd"]
        fired("K09", told[:1000].count(409))
