"""Redis goes away in every way there is while two processes sell one slot: the row decides, as it always does."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

from deploy.embedded.valkey import Valkey
from tests.answers import refused
from tests.builders import Slot, a_key, a_slot, free_seats
from tests.doubles.fault_proxy import BLACK_HOLE, FaultProxy, latency
from tests.system import System

CUSTOMERS = 200
CAPACITY = 50
CONNECTIONS = 40
RUSH_S = 60.0
METRIC = "reservation_slot_lock_wait_seconds_count"


@pytest.fixture
def valkey(redis_url: str, tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of one's own, to be killed."""
    if not redis_url:
        pytest.skip("there is no Valkey on this machine")
    with Valkey(tmp_path) as server:
        yield server


@contextlib.contextmanager
def two_doors(system: System, redis_url: str, **env: str) -> Iterator[list[str]]:
    """Two fresh processes of reservation_service that share a Redis, and how to reach them."""
    names = [system.stack.add_replica("reservation", env={"REDIS_URL": redis_url, **env}) for _ in range(2)]
    try:
        yield names
    finally:
        for name in names:
            system.stack.stop(name)


async def rush(system: System, doors: Sequence[str], slot: Slot) -> Counter[int]:
    """Let everybody want one seat at once; a 503 is asked again until it is something else."""
    limits = httpx.Limits(max_connections=CONNECTIONS)
    timeout = httpx.Timeout(30.0, pool=RUSH_S)

    async def one(number: int) -> int:
        headers = {"Authorization": f"Bearer {system.token(f'rush-{uuid4()}')}", "Idempotency-Key": a_key()}
        while True:
            url = f"{system.stack.url(doors[number % len(doors)])}/v1/holds"
            answer = await client.post(url, json=slot.order(), headers=headers)
            if answer.status_code != 503:
                return answer.status_code
            await asyncio.sleep(refused(answer, 503, "SLOT_BUSY")["retry_after_ms"] / 1000)

    async with httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as client, asyncio.timeout(RUSH_S):
        return Counter(await asyncio.gather(*map(one, range(CUSTOMERS))))


def lock_waits(system: System, doors: Sequence[str]) -> Counter[str]:
    """Return how the processes' waits for locks ended so far."""
    found = Counter[str]()
    for door in doors:
        for line in system.call(door, "GET", "/metrics").text.splitlines():
            if line.startswith(METRIC):
                labels, _, count = line.removeprefix(METRIC).partition(" ")
                found[labels.split('"')[1]] += int(float(count))
    return found


def sell_and_count(system: System, doors: Sequence[str], label: str) -> Counter[str]:
    """Sell one slot to a crowd; assert that exactly its seats are sold, and return how the locks were had."""
    slot = a_slot(system, capacity=CAPACITY)
    tally = asyncio.run(rush(system, doors, slot))
    taken, waits = CAPACITY - free_seats(system, slot), lock_waits(system, doors)
    oversold = max(0, tally[201] - CAPACITY)
    print(f"{label}: attempts={CUSTOMERS} winners={tally[201]} taken={taken} oversold={oversold} locks={dict(waits)}")
    assert tally == {201: CAPACITY, 409: CUSTOMERS - CAPACITY}
    assert taken == CAPACITY
    return waits


@contextlib.contextmanager
def meanwhile(act: Callable[[], object], *, every_s: float) -> Iterator[list[float]]:
    """Do something again and again on the side; the list tells when it was done."""
    done, stop = list[float](), threading.Event()

    def keep_acting() -> None:
        while not stop.wait(every_s):
            act()
            done.append(time.monotonic())

    thread = threading.Thread(target=keep_acting)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def test_no_redis_configured(system: System) -> None:
    """R01: without REDIS_URL nothing is locked, nothing is missed."""
    with two_doors(system, "") as doors:
        assert not sell_and_count(system, doors, "no Redis")


def test_redis_absent_at_the_start(system: System) -> None:
    """R01: nobody listens at REDIS_URL: the services start, say that they are degraded, and sell what there is."""
    with two_doors(system, "redis://127.0.0.1:1/0") as doors:
        assert sell_and_count(system, doors, "absent")["acquired"] == 0
        assert system.call(doors[0], "GET", "/readyz").json()["checks"]["redis"] == "degraded"


def test_redis_killed_while_selling(system: System, valkey: Valkey) -> None:
    """R01, I1: SIGKILL in the middle of the rush, then a second rush without it."""
    with two_doors(system, valkey.url) as doors:
        killer = threading.Timer(0.15, valkey.kill)
        killer.start()
        first = sell_and_count(system, doors, "killed meanwhile")
        killer.join()
        with pytest.raises(NoConnection):
            Redis.from_url(valkey.url).ping()
        second = sell_and_count(system, doors, "gone")
        assert first["acquired"] > 0
        assert second["unavailable"] > 0


def test_redis_flushed_again_and_again(system: System, valkey: Valkey) -> None:
    """R03, I1: every lock and every count is wiped each few milliseconds."""
    with two_doors(system, valkey.url) as doors, Redis.from_url(valkey.url) as redis:
        with meanwhile(redis.flushall, every_s=0.005) as flushes:
            waits = sell_and_count(system, doors, "flushed")
        assert len(flushes) > 5
        assert waits["acquired"] > 0


@pytest.mark.parametrize("fault", [BLACK_HOLE, latency(0.5)], ids=["swallows", "is slow"])
def test_redis_swallows_everything(system: System, valkey: Valkey, fault: object) -> None:
    """R02, L8, I1: no answer, or one half a second late: nobody waits for it beyond the budget."""
    with FaultProxy(valkey.port) as proxy, two_doors(system, f"redis://127.0.0.1:{proxy.port}/0") as doors:
        proxy.inject(fault)  # type: ignore[arg-type]
        assert sell_and_count(system, doors, "black hole")["unavailable"] > 0
        assert proxy.fired


def test_a_holder_frozen_beyond_its_time(system: System, valkey: Valkey) -> None:
    """R05, I1, I19: one process is stopped for longer than its locks live, in the middle of selling, and goes on after."""
    with two_doors(system, valkey.url, SLOT_LOCK_TTL_MS="100") as doors:
        child = system.stack._parts[doors[0]].child
        assert child is not None
        frozen = list[float]()

        def freeze() -> None:
            os.kill(child.pid, signal.SIGSTOP)
            time.sleep(0.6)
            os.kill(child.pid, signal.SIGCONT)
            frozen.append(time.monotonic())

        freezer = threading.Timer(0.2, freeze)
        freezer.start()
        sell_and_count(system, doors, "frozen")
        freezer.join()
        assert frozen
