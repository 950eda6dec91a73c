"""Two processes sell behind the lock, whole or stolen, flushed or left behind: the row decides what is sold."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import pytest

from reservation_service.flags import DISTRIBUTED_LOCK, GROUP_ADMISSION, RATE_LIMITING
from shared.crashpoints import arm
from shared.flags import Override
from tests.doubles.fault_proxy import BLACK_HOLE, LOSE_RESPONSE, FaultProxy
from tests.figures import tell
from tests.reservation.box_office import BoxOffice, open_box_office
from tests.reservation.lock_desk import lock_of, raw, through, until
from tests.scenarios import fired

pytestmark = pytest.mark.steady_redis


async def sell(offices: list[BoxOffice], offer: Any, crowd: int) -> Counter[int]:
    """Let a crowd want one seat each, spread over the processes; a 503 is asked again."""

    async def one(number: int) -> int:
        guest, key = offices[number % len(offices)].customer(), f"key-{uuid4()}"
        for _ in range(20):
            answer = await guest.hold(offer, key=key)
            if answer.status_code != 503:
                break
            await asyncio.sleep(0.05)
        return answer.status_code

    return Counter(await asyncio.gather(*map(one, range(crowd))))


@asynccontextmanager
async def two_offices(database_url: str, redis_url: str, **changed: Any) -> AsyncIterator[list[BoxOffice]]:
    """Two processes' worth of the service on one database and one Redis, with time for it on a busy machine."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(
                open_box_office(database_url, redis_url=redis_url, **{"redis_budget_ms": 20_000, **changed})
            )
            for _ in range(2)
        ]
        yield opened
        await opened[0].assert_consistent()


def sample(office: BoxOffice, name: str, **labels: str) -> float:
    return office.parts.metrics.registry.get_sample_value(name, labels) or 0.0


def acquired(offices: list[BoxOffice]) -> float:
    return sum(sample(office, "reservation_slot_lock_wait_seconds_count", outcome="acquired") for office in offices)


@pytest.mark.parametrize("group", [True, False], ids=["group", "single"])
async def test_holds_are_made_behind_the_lock(reservation_database_url: str, url: str, group: bool) -> None:
    """Peers B1.5: Both lanes take the lock and give it back; two processes sell exactly what there is."""
    async with two_offices(reservation_database_url, url) as offices:
        flags, database = offices[0].parts.flags, offices[0].parts.database
        await flags.set(database, GROUP_ADMISSION, Override(enabled=group), by="test", reason="test")
        await offices[1].parts.flags.refresh(offices[1].parts.database)
        offer = await offices[0].offer(capacity=10)
        assert await sell(offices, offer, 40) == {201: 10, 409: 30}
        assert acquired(offices) > 0
        async with raw(url) as redis:
            assert not await redis.exists(lock_of(UUID(offer.slot_id)))


async def test_flushing_all_locks_oversells_nothing(reservation_database_url: str, url: str) -> None:
    """R03, I1: all locks are wiped again and again while 200 guests want 50 seats of one slot: 50 are sold."""
    async with two_offices(reservation_database_url, url) as offices, raw(url) as redis:
        offer = await offices[0].offer(capacity=50)
        selling, flushes = asyncio.create_task(sell(offices, offer, 200)), 0
        while not selling.done():
            await redis.flushall()
            flushes += 1
            await asyncio.sleep(0.002)
        tally = await selling
        tell(f"attempts=200 winners={tally[201]} oversold={max(0, tally[201] - 50)} flushes={flushes}")
        assert tally == {201: 50, 409: 150}
        assert flushes > 3
        fired("R03", flushes)


async def test_two_holders_of_one_lock_sell_no_seat_twice(reservation_database_url: str, url: str) -> None:
    """R04, R05, I19: a holder loses its lock right before it writes; the other one sells too, the row refuses the excess."""
    stolen = 0

    def steal() -> None:
        nonlocal stolen
        stolen += 1
        arm("flush_holds.before", steal)
        thief.delete(*keys)

    from redis import Redis as BlockingRedis  # the crash point is no place to await

    async with two_offices(reservation_database_url, url) as offices:
        offer = await offices[0].offer(capacity=5)
        keys = [lock_of(UUID(offer.slot_id))]
        with BlockingRedis.from_url(url) as thief:
            arm("flush_holds.before", steal)
            try:
                assert await sell(offices, offer, 60) == {201: 5, 409: 55}
            finally:
                arm(None)
        lost = sum(sample(office, "reservation_slot_locks_lost_total") for office in offices)
        assert stolen > 1
        fired("R04", int(lost))


async def test_what_the_lock_is_worth(reservation_database_url: str, url: str) -> None:
    """A figure, not a gate: how long holds on one hot slot take in two processes, with and without the lock."""
    figures = {}
    async with two_offices(reservation_database_url, url, redis_budget_ms=30) as offices:
        for enabled in (True, False, True, False):
            for office in offices:
                flags, database = office.parts.flags, office.parts.database
                await flags.set(database, DISTRIBUTED_LOCK, Override(enabled=enabled), by="test", reason="test")
            offer = await offices[0].offer(capacity=1000)
            took = []

            async def timed(number: int, offer: Any = offer, took: list[float] = took) -> None:
                began = time.perf_counter()
                assert (await offices[number % 2].customer().hold(offer)).status_code == 201
                took.append(time.perf_counter() - began)

            for wave in range(4):
                await asyncio.gather(*(timed(wave + number) for number in range(50)))
            figures.setdefault(enabled, []).extend(took)
        assert acquired(offices) > 0
    for enabled, took in figures.items():
        spread = sorted(took)
        p99 = spread[int(len(spread) * 0.99)]
        tell(f"distributed_lock={enabled}: holds={len(took)} median={median(took) * 1e3:.0f} ms p99={p99 * 1e3:.0f} ms")


async def test_a_slot_is_sold_on_when_every_answer_is_lost(
    reservation_database_url: str, url: str, proxy: FaultProxy
) -> None:
    """R07, L9: nobody hears that the lock was taken, nor can it be given back: the next hold does not wait for its end."""
    never_ms = 600_000
    async with (
        open_box_office(
            reservation_database_url, redis_url=through(proxy), redis_budget_ms=1000, slot_lock_ttl_ms=never_ms
        ) as deaf,
        open_box_office(reservation_database_url, redis_url=url) as other,
    ):
        offer = await deaf.offer(capacity=3)
        unlimited = Override(enabled=False)  # a limit would ask first, and then nobody asks for a while
        await deaf.parts.flags.set(deaf.parts.database, RATE_LIMITING, unlimited, by="test", reason="test")
        given_back = asyncio.Event()
        arm("unlock_slots.after", given_back.set)  # heard of, too: nothing is on the wire that could be lost instead
        assert (await deaf.customer().hold(offer)).status_code == 201
        await asyncio.wait_for(given_back.wait(), 30)
        async with raw(url) as redis:
            await until(lambda: redis.exists(lock_of(UUID(offer.slot_id))), 0)
        proxy.inject(LOSE_RESPONSE)
        arm("lock_slots.after", lambda: proxy.inject(BLACK_HOLE))
        assert (await deaf.customer().hold(offer)).status_code == 201
        arm(None)
        assert sample(deaf, "reservation_slot_lock_failures_total", doing="acquire", kind="no_answer") == 1
        async with raw(url) as redis:
            assert await redis.exists(lock_of(UUID(offer.slot_id))), "it was left behind"
            began = time.monotonic()
            assert (await other.customer().hold(offer)).status_code == 201
            assert await redis.exists(lock_of(UUID(offer.slot_id)))
        tell(f"R07: lock left behind for {never_ms} ms, next hold after {(time.monotonic() - began) * 1e3:.0f} ms")
        fired("R07", proxy.fired)
        await other.assert_consistent()


async def test_the_lock_of_a_dead_process_is_in_nobodys_way(reservation_database_url: str, url: str) -> None:
    """C03, I2: who died between lock and commit leaves a lock behind; the next hold on that slot is made beside it."""
    async with two_offices(reservation_database_url, url, redis_budget_ms=1000) as offices, raw(url) as redis:
        offer = await offices[0].offer(capacity=2)
        await redis.set(lock_of(UUID(offer.slot_id)), "the token of a process that is no more", px=600_000)
        assert (await offices[1].customer().hold(offer)).status_code == 201
        assert await redis.exists(lock_of(UUID(offer.slot_id))), "it was not waited for, nor broken"
        fired("C03", int(sample(offices[1], "reservation_slot_lock_wait_seconds_count", outcome="contended")))
