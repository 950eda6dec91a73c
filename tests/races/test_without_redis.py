"""Redis goes away in every way there is while two processes sell one slot: the row decides, as it always does."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import httpx
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

from deploy.embedded.stack import Stack
from deploy.embedded.valkey import Valkey
from tests.answers import eventually, refused
from tests.builders import Slot, a_key, a_slot, free_seats
from tests.doubles.fault_proxy import BLACK_HOLE, Fault, FaultProxy, latency
from tests.figures import tell
from tests.scenarios import fired
from tests.system import System

pytestmark = pytest.mark.steady_redis  # it brings its own bad weather
CUSTOMERS = 200
CAPACITY = 50
CONNECTIONS = 40
RUSH_S = 60.0
METRIC = "reservation_slot_lock_wait_seconds_count"


@pytest.fixture(scope="module")
def valkey(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey of one's own, to be killed."""
    if not redis_url:
        pytest.skip("there is no Valkey on this machine")
    with Valkey(tmp_path_factory.mktemp("valkey-to-kill")) as server:
        yield server


@pytest.fixture(scope="module")
def wire(valkey: Valkey) -> Iterator[FaultProxy]:
    """The way to it, which can be cut."""
    with FaultProxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def doors(stack: Stack, wire: FaultProxy) -> Iterator[list[str]]:
    """Two fresh processes of reservation_service that share this Redis, and locks that live for a moment only."""
    # The wire runs in the process of the crowd, which leaves it little time: a budget of 30 ms would tell of that only.
    env = {"REDIS_URL": f"redis://127.0.0.1:{wire.port}/0", "SLOT_LOCK_TTL_MS": "100", "REDIS_BUDGET_MS": "200"}
    names = [stack.add_replica("reservation", env=env) for _ in range(2)]
    yield names
    for name in names:
        stack.stop(name)


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


def once_selling(system: System, slot: Slot, act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the first seats are gone."""

    def watch() -> None:
        eventually(lambda: free_seats(system, slot), lambda seats: seats < CAPACITY, within_s=RUSH_S)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def sell_and_count(
    system: System, doors: Sequence[str], label: str, *, meanwhile_once: Callable[[], object] = lambda: None
) -> Counter[str]:
    """Sell one slot to a crowd; assert that exactly its seats are sold, and return how the locks were had."""
    slot, before = a_slot(system, capacity=CAPACITY), lock_waits(system, doors)
    watching = once_selling(system, slot, meanwhile_once)
    tally = asyncio.run(rush(system, doors, slot))
    watching.join()
    taken, waits = CAPACITY - free_seats(system, slot), lock_waits(system, doors) - before
    oversold = max(0, tally[201] - CAPACITY)
    tell(f"{label}: attempts={CUSTOMERS} winners={tally[201]} taken={taken} oversold={oversold} locks={dict(waits)}")
    assert tally == {201: CAPACITY, 409: CUSTOMERS - CAPACITY}
    assert taken == CAPACITY
    return waits


def await_locks(system: System, doors: Sequence[str]) -> None:
    """Wait until holds are made behind the lock again: who found Redis away leaves it alone for up to a second."""
    slot, before = a_slot(system, capacity=CAPACITY), lock_waits(system, doors)["acquired"]

    def hold_one() -> int:
        system.call(
            doors[0], "POST", "/v1/holds", token=system.token(f"back-{uuid4()}"), key=a_key(), json=slot.order()
        )
        return lock_waits(system, doors)["acquired"] - before

    eventually(hold_one, lambda locked: locked > 0, within_s=30)


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


def test_redis_flushed_again_and_again(system: System, doors: list[str], valkey: Valkey) -> None:
    """R03, I1: every lock and every count is wiped each few milliseconds."""
    with Redis.from_url(valkey.url) as redis, meanwhile(redis.flushall, every_s=0.005) as flushes:
        waits = sell_and_count(system, doors, "flushed")
    fired("R03", len(flushes))
    assert waits["acquired"] > 0


def test_a_holder_frozen_beyond_its_time(system: System, doors: list[str]) -> None:
    """R05, I1, I19: one process is stopped for longer than its locks live, in the middle of selling, and goes on after."""
    child = system.stack._parts[doors[0]].child
    assert child is not None
    frozen = list[float]()

    def freeze() -> None:
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(child.pid, signal.SIGCONT)
        frozen.append(time.monotonic())

    sell_and_count(system, doors, "frozen", meanwhile_once=freeze)
    fired("R05", len(frozen))


@pytest.mark.parametrize("fault", [BLACK_HOLE, latency(0.5)], ids=["swallows everything", "is slow"])
def test_redis_that_does_not_answer(system: System, doors: list[str], wire: FaultProxy, fault: Fault) -> None:
    """R02, L8, I1: no answer, or one half a second late: nobody waits for it beyond the budget."""
    before = wire.fired
    wire.inject(fault)
    try:
        assert sell_and_count(system, doors, "no answer")["unavailable"] > 0
    finally:
        wire.heal()
    fired("R02", wire.fired - before)


def test_redis_killed_while_selling(system: System, doors: list[str], valkey: Valkey) -> None:
    """R01, I1: SIGKILL in the middle of the rush, a second rush without it, and the lock again when it is back."""
    await_locks(system, doors)
    try:
        sell_and_count(system, doors, "killed meanwhile", meanwhile_once=valkey.kill)
        with pytest.raises(NoConnection):
            Redis.from_url(valkey.url).ping()
        waits = sell_and_count(system, doors, "gone")
        assert waits["acquired"] == 0
        fired("R01", waits["unavailable"])
        assert system.call(doors[0], "GET", "/readyz").json()["checks"]["redis"] == "degraded"
    finally:
        valkey.start()
    await_locks(system, doors)
