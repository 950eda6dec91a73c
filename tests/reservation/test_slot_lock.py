"""The lock per slot: taken, kept from others, given back by its owner only, and never worth waiting for."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import uvloop
from redis import Redis

from deploy.embedded.valkey import Valkey
from reservation_service.booking.admission import slots_locked
from reservation_service.clients.fast_redis import FastRedis, RedisAway, Trouble
from reservation_service.clients.quotas import Window
from reservation_service.clients.rate_counter import RateCounter
from shared.clock import SystemClock
from tests.doubles.fault_proxy import BLACK_HOLE, LOSE_RESPONSE, PASS, RESET, Fault, FaultProxy, latency
from tests.figures import tell
from tests.reservation.lock_desk import (
    BUDGET_S,
    GENEROUS_S,
    PATIENT_S,
    Desk,
    desks,
    held_by,
    lock_of,
    raw,
    through,
    until,
)
from tests.scenarios import fired

pytestmark = pytest.mark.steady_redis
SLACK_S = 0.25
TRIES = 3  # what takes longer than the budget takes that long each time; a busy machine is slow now and then


WAITED_S = 1.0


async def test_a_lock_keeps_others_waiting_for_the_budget_at_most(url: str) -> None:
    """All slots of a batch are locked in one call; another process goes on without after its budget, not later."""
    slots = [uuid4() for _ in range(3)]
    async with desks(url) as (one,), desks(url, budget_s=WAITED_S) as (other,), raw(url) as redis:
        lease = await one.locks.acquire(slots)
        assert len(lease.held) == 3
        assert 0 < await redis.pttl(lock_of(slots[0])) <= 60_000
        began = time.monotonic()
        late = await other.locks.acquire([slots[1], uuid4()])
        assert time.monotonic() - began > WAITED_S / 2
        assert await redis.exists(lock_of(slots[1])), "it went on although the lock was still there"
        assert len(late.held) == 1
        assert (other.waits("contended"), other.count("s_contended_total"), one.waits("acquired")) == (1, 1, 1)
        await one.locks.release(lease)
        assert await redis.exists(*map(lock_of, slots)) == 0
        await other.locks.release(late)


async def test_a_lock_is_had_as_soon_as_it_is_given_back(url: str) -> None:
    """Who waits for a lock gets it within the budget when its holder is done."""
    slot = uuid4()
    async with desks(url, url) as (one, other):
        lease = await one.locks.acquire([slot])
        waiting = asyncio.create_task(other.locks.acquire([slot]))
        await until(lambda: asyncio.sleep(0, other.count("s_contended_total")), 1)
        assert not waiting.done()
        await one.locks.release(lease)
        got = await waiting
        assert got.held == {lock_of(slot)}
        assert other.waits("acquired") == 1
        await other.locks.release(got)


async def test_only_the_owner_gives_a_lock_back(url: str) -> None:
    """R06: a release with another token removes nothing, and the loss is counted by the one who had thought to have it."""
    slot = uuid4()
    async with desks(url, url) as (one, other), raw(url) as redis:
        lease = await one.locks.acquire([slot])
        await redis.set(lock_of(slot), b"somebody-else", px=1000)
        await one.locks.release(lease)
        assert await redis.get(lock_of(slot)) == b"somebody-else"
        fired("R06", int(one.count("s_lost_total")))
        await redis.delete(lock_of(slot))
        assert (await other.locks.acquire([slot])).held == {lock_of(slot)}


async def test_a_holder_that_sleeps_beyond_its_time_has_a_second_holder_beside_it(url: str) -> None:
    """R04, R05, L7: the lapsed lock goes to somebody else; its first holder notices, and leaves the second one's alone."""
    slot = uuid4()
    async with desks(url, ttl_ms=50) as (one,), desks(url) as (other,), raw(url) as redis:
        first = await one.locks.acquire([slot])
        await until(lambda: redis.exists(lock_of(slot)), 0)
        second = await other.locks.acquire([slot])
        assert first.held == second.held == {lock_of(slot)}
        await one.locks.release(first)
        assert await redis.get(lock_of(slot)) == second.token
        fired("R05", int(one.count("s_lost_total")))


async def test_a_failover_that_lost_the_lock_makes_two_holders(url: str) -> None:
    """R04, L7: the promoted replica had not heard of the lock: both have it, and only the first one has lost it."""
    slot = uuid4()
    async with desks(url, url) as (one, other), raw(url) as redis:
        first = await one.locks.acquire([slot])
        await redis.flushall()
        second = await other.locks.acquire([slot])
        assert first.held == second.held == {lock_of(slot)}
        await one.locks.release(first)
        assert await redis.get(lock_of(slot)) == second.token
        await other.locks.release(second)
        fired("R04", int(one.count("s_lost_total")))
        assert other.count("s_lost_total") == 0


async def test_a_lost_answer_leaves_no_lock_behind(url: str, proxy: FaultProxy) -> None:
    """R07, L9: Redis took the lock, the answer got lost: nobody knows, the release gives it back all the same."""
    slot = uuid4()
    async with desks(through(proxy), budget_s=WAITED_S) as (one,), desks(url) as (other,), raw(url) as redis:
        await one.locks.release(await one.locks.acquire([uuid4()]))  # the connection is there
        proxy.inject(LOSE_RESPONSE)
        lease = await one.locks.acquire([slot])
        assert (proxy.fired > 0, lease.held, lease.unsure, one.waits("unavailable")) == (True, set(), True, 1)
        assert await redis.get(lock_of(slot)) == lease.token
        proxy.inject(PASS)
        await one.locks.release(lease)
        assert (await other.locks.acquire([slot])).held == {lock_of(slot)}, "a minute before its time was over"
        fired("R07", proxy.fired)


async def test_a_lock_with_ones_own_token_is_had(url: str) -> None:
    """L9: asking again under the same token finds the lock one already has, and that counts as held."""
    slot = uuid4()
    async with desks(url, new_token=lambda: "mine") as (desk,):
        await desk.locks.acquire([slot])
        assert (await desk.locks.acquire([slot])).held == {lock_of(slot)}
        assert desk.count("s_contended_total") == 0


@dataclass(frozen=True)
class Bad:
    """One way in which Redis fails, and by which name it is counted."""

    scenario: str
    kind: str
    wire: Fault = PASS
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    direct: str = ""


BAD = {
    "away": Bad("R01", "unreachable", direct="redis://127.0.0.1:1/0"),
    "black hole": Bad("R02", "no_answer", BLACK_HOLE),
    "half a second late": Bad("R02", "no_answer", latency(0.5)),
    "torn": Bad("R01", "unreachable", RESET),
    "read only": Bad("R08", "read_only", before=("REPLICAOF", "127.0.0.1", "1"), after=("REPLICAOF", "NO", "ONE")),
    "out of memory": Bad(
        "R08", "out_of_memory", before=("CONFIG", "SET", "maxmemory", "1"), after=("CONFIG", "SET", "maxmemory", "0")
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_trouble_costs_the_budget_once_and_then_nothing(url: str, proxy: FaultProxy, bad: Bad) -> None:
    """R01, R02, R08, L8: nothing raises, nobody waits beyond the budget, nobody asks again for a while; it is counted."""
    async with desks(bad.direct or through(proxy), budget_s=BUDGET_S) as (desk,), raw(url) as redis:
        proxy.inject(bad.wire)
        if bad.before:
            await redis.execute_command(*bad.before)
        try:
            took_s = []
            for _ in range(TRIES):
                desk.redis._rests_until = 0.0
                began = time.monotonic()
                lease = await desk.locks.acquire([uuid4()])
                await desk.locks.release(lease)
                took_s.append(time.monotonic() - began)
                assert not lease.held
            assert min(took_s) < 2 * BUDGET_S + SLACK_S
            failures = partial(desk.count, "_failures_total", doing="acquire", kind=bad.kind)
            fired(bad.scenario, int(failures()))
            assert bad.wire == PASS or proxy.fired
            asked = failures()
            for _ in range(100):
                await desk.locks.release(await desk.locks.acquire([uuid4()]))
            assert failures() - asked < 50, "of 100 rounds, few have asked at all"
            assert desk.waits("unavailable") == TRIES + 100
        finally:
            if bad.after:
                await redis.execute_command(*bad.after)


async def test_a_demoted_primary_is_left(url: str, proxy: FaultProxy, tmp_path_factory: Any) -> None:
    """R04, R08: after a failover the old primary refuses to write for ever; its connections go, the name leads to the new one."""
    with Valkey(tmp_path_factory.mktemp("promoted")) as promoted:
        async with desks(through(proxy)) as (desk,), raw(url) as demoted, raw(promoted.url) as primary:
            await desk.locks.release(await desk.locks.acquire([uuid4()]))
            await demoted.replicaof("127.0.0.1", "1")
            proxy._target = ("127.0.0.1", promoted.port)  # new connections; the open one stays where it is
            try:
                slot = uuid4()
                assert not (await desk.locks.acquire([slot])).held
                fired("R08", int(desk.count("_failures_total", doing="acquire", kind="read_only")))

                await until(lambda: held_by(desk, slot), True)
                assert await primary.exists(lock_of(slot))
            finally:
                await demoted.replicaof("no", "one")


async def test_every_answer_goes_to_who_asked(url: str, proxy: FaultProxy) -> None:
    """R02: of calls that are given up because they are late, no answer is ever read by the next one on that connection."""
    redis = FastRedis(through(proxy), SystemClock(), budget_s=PATIENT_S)
    given_up, answered = 0, 0
    for number in range(100):
        proxy.inject(latency(0.03) if number % 2 else PASS)
        question = f"question {number}"
        try:
            answer = await redis.run(
                lambda commands, question=question: commands.echo(question), within_s=0.02 if number % 2 else PATIENT_S
            )
        except RedisAway:
            given_up += 1
        else:
            assert answer == [question.encode()]
            answered += 1
    await redis.close()
    fired("R02", given_up)
    assert answered >= 50


BAD_HOUR_S = 2.0


def test_a_torn_wire_fails_nobody(url: str, proxy: FaultProxy) -> None:
    """R01: uvloop, on which the service runs, calls a torn wire a RuntimeError: nobody hangs, nothing is raised."""
    errors = Counter[str]()

    def ask_again_at_once(_trouble: Trouble, error: Exception) -> None:
        errors[type(error).__name__] += 1

    async def guest(desk: Desk, counter: RateCounter, over: asyncio.Event) -> int:
        rounds = 0
        while not over.is_set():
            async with asyncio.timeout(GENEROUS_S):
                await counter.hit([Window(uuid4().hex, 1, 60_000_000)])
                await desk.locks.release(await desk.locks.acquire([uuid4()]))
            rounds += 1
            await asyncio.sleep(0.002)
        return rounds

    async def bad_hour() -> int:
        async with desks(through(proxy), budget_s=BUDGET_S) as (desk,):
            desk.redis._rest = ask_again_at_once  # type: ignore[method-assign]
            counter = RateCounter(desk.redis, desk.metrics, SystemClock())
            over, began = asyncio.Event(), time.monotonic()
            guests = [asyncio.create_task(guest(desk, counter, over)) for _ in range(20)]
            while (lasted_s := time.monotonic() - began) < BAD_HOUR_S or not errors["RuntimeError"]:
                assert lasted_s < GENEROUS_S
                proxy.inject(RESET)
                await asyncio.sleep(0.01)
                proxy.inject(PASS)
                await asyncio.sleep(0.04)
            over.set()
            await until(lambda: held_by(desk, uuid4()), True)  # no connection was lost for good
            return sum(await asyncio.gather(*guests))

    rounds = uvloop.run(bad_hour())
    tell(f"torn wire: rounds={rounds} errors={dict(errors)}")
    assert rounds > 20, "everybody came through more than once"
    fired("R01", errors["RuntimeError"])


@pytest.mark.parametrize("error", [RuntimeError("closed"), ValueError("bad reply")])
async def test_whatever_the_library_raises_is_redis_away(url: str, error: Exception) -> None:
    """R01: an error that nobody expects is one more way of being away, for the lock and for the limits."""
    async with desks(url) as (desk,):

        async def raises(_fill: object) -> list[Any]:
            raise error

        desk.redis._pipelined = raises  # type: ignore[method-assign]
        lease = await desk.locks.acquire([uuid4()])
        assert (lease.held, lease.unsure) == (set(), True)
        desk.redis._rests_until = 0.0
        await desk.locks.release(lease)
        assert (
            desk.count(
                "_failures_total", doing="release", kind="other" if isinstance(error, ValueError) else "unreachable"
            )
            == 1
        )
        desk.redis._rests_until = 0.0
        async with asyncio.timeout(GENEROUS_S):
            tally = await RateCounter(desk.redis, desk.metrics, SystemClock()).hit([Window(uuid4().hex, 1, 60_000_000)])
        assert tally.refused_by is None


async def test_a_redis_that_comes_back_is_used_again(url: str, proxy: FaultProxy) -> None:
    """R01: soon after the trouble the lock is taken again, without a restart."""
    async with desks(through(proxy), budget_s=WAITED_S) as (desk,):
        proxy.inject(BLACK_HOLE)
        assert not await held_by(desk, uuid4())
        proxy.heal()
        await until(lambda: held_by(desk, uuid4()), True)
        assert desk.waits("acquired") == 1


async def test_each_trouble_has_a_line_from_the_start(url: str) -> None:
    """A count that appears with the first failures of all has no increase that an alert could see."""
    async with desks(url) as (desk,):
        value = desk.metrics.registry.get_sample_value
        for doing in ("acquire", "release"):
            for kind in Trouble:
                assert value("reservation_slot_lock_failures_total", {"doing": doing, "kind": kind}) == 0


async def test_without_redis_or_with_the_flag_off_nothing_is_asked(url: str) -> None:
    """X14: no Redis configured, or the flag off: no lock, no error, no trace of a wait."""
    slot = uuid4()
    async with desks("") as (none,), desks(url, enabled=lambda: False) as (off,), raw(url) as redis:
        for desk in (none, off):
            async with slots_locked(desk.locks, [slot]):
                assert not await redis.exists(lock_of(slot))
            assert sum(map(desk.waits, ("acquired", "contended", "unavailable"))) == 0


@pytest.mark.parametrize("turns", [3, 5])
async def test_a_loop_that_lags_still_hears_what_came_in_time(url: str, turns: int) -> None:
    """The end of the budget and the answer are met in the same turn: it is the loop that was late, not Redis."""
    async with desks(url, budget_s=BUDGET_S) as [desk]:
        await desk.redis.run(lambda commands: commands.ping())  # it is connected
        beside = Redis.from_url(url)
        beside.ping()
        call = asyncio.create_task(desk.redis.run(lambda commands: commands.ping()))
        for _ in range(turns):  # so far it has come when the loop stands still: the question is sent
            await asyncio.sleep(0)
        time.sleep(10 * BUDGET_S)  # noqa: ASYNC251  that is what lags
        beside.ping()  # Redis answers one after the other, so on a busy machine too it has answered the call by now
        beside.close()
        assert await call == [True]
