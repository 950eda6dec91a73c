"""Two hosts that share nothing but the database: clocks and lock servers of their own, and the seats are right all the same."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID

import pytest

from deploy.embedded.valkey import Valkey
from tests.answers import answered
from tests.figures import tell
from tests.races.callers import PATIENT, a_crowd, all_until_held, sample
from tests.races.test_expiry_clocks import WrongClock
from tests.reservation.box_office import BoxOffice, open_box_office
from tests.scenarios import fired

pytestmark = pytest.mark.steady_redis
CUSTOMERS = 200
CAPACITY = 50
APART = timedelta(minutes=7)


@pytest.fixture
async def hosts(
    reservation_database_url: str, url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[BoxOffice]]:
    """One host whose clock is fast and one whose clock is slow, each with a Redis that the other has never heard of."""
    async with AsyncExitStack() as stack:
        elsewhere = stack.enter_context(Valkey(tmp_path_factory.mktemp("valkey-of-the-other-host")))
        yield [
            await stack.enter_async_context(
                open_box_office(
                    reservation_database_url, clock=clock, redis_url=redis, redis_budget_ms=20_000, **PATIENT
                )
            )
            for clock, redis in ((WrongClock(APART), url), (WrongClock(-APART), elsewhere.url))
        ]


async def test_two_hosts_sell_one_slot(hosts: list[BoxOffice]) -> None:
    """R04, T05, K01, I1: both have the same slot's lock at once and disagree about the time: exactly its seats are sold."""
    one, two = hosts
    offer = await one.offer(capacity=CAPACITY)
    lapsed = await all_until_held(a_crowd(one, [offer], CAPACITY // 2))
    slot = {"id": UUID(offer.slot_id)}
    await one.sql("UPDATE reservations SET expires_at = clock_timestamp() WHERE time_slot_id = :id", **slot)
    swept, *told = await asyncio.gather(
        two.sweep(), *(all_until_held(a_crowd(host, [offer], CUSTOMERS // 2)) for host in hosts)
    )
    tally = Counter(answer.status_code for answers in told for answer in answers)
    [row] = await one.sql("SELECT taken FROM time_slots WHERE id = :id", **slot)
    locks = [sample(host, "reservation_slot_lock_wait_seconds_count", outcome="acquired") for host in hosts]
    tell(
        f"two hosts, {2 * APART} and a Redis apart: attempts={CUSTOMERS} winners={tally[201]} taken={row['taken']}"
        f" oversold={max(0, tally[201] - CAPACITY)} lapsed={len(lapsed)} swept={swept} locks={locks}"
    )
    assert tally == {201: CAPACITY, 409: CUSTOMERS - CAPACITY}
    assert row["taken"] == CAPACITY
    assert [await host.free(offer) for host in hosts] == [0, 0]
    for host in hosts:
        answered(await host.customer().ask("POST", "/v1/guest-sessions"), 201)  # seats never look at that clock
    fired("R04", int(min(locks)))
    fired("T05", sum(host.parts.clock.asked for host in hosts if isinstance(host.parts.clock, WrongClock)))
    await one.assert_consistent()
