"""Crowds with trouble among them: poison, deadlocks, too few connections, a herd; each gets their own right answer."""

import asyncio
from collections import Counter
from uuid import uuid4

import httpx
import pytest

from shared.database import Database
from tests.answers import refused
from tests.figures import tell
from tests.races.callers import PATIENT, Call, a_crowd, all_hold, ask, groups, sample, until
from tests.reservation.box_office import BoxOffice, open_box_office
from tests.scenarios import fired

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
    async with open_box_office(reservation_database_url, **PATIENT) as office:
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
    """P05, I26, peers B5.74: two connections, two hundred callers: everybody is answered, at worst 503, and the process stays alive."""
    async with open_box_office(reservation_database_url, database_pool_size=2, database_pool_timeout_s=0.5) as office:

        async def is_ready() -> bool:
            return (await office.http.get("/readyz")).status_code == 200

        offer = await office.offer(capacity=101)
        await all_hold(a_crowd(office, [offer], 1))  # the lane has its connection: one is left for all who look
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
        await until(is_ready)
        tell(f"pool of 2: holds={dict(held)} looks={dict(seen)}, waiting for a connection at once={waited:.0f}")
        fired("P05", int(waited))


async def test_keys_that_cross_cannot_deadlock(reservation_database_url: str, other: Database) -> None:
    """P03, I2, peers B5.66: two processes meet the same two keys in opposite orders, behind two slots: no deadlock, two holds."""
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
    async with open_box_office(reservation_database_url, **PATIENT) as office:
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
