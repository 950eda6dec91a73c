"""A holder of a slot's lock is stopped before it commits, for longer than the lock lives: who goes on, and what is sold."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from redis import Redis

from tests.answers import eventually
from tests.builders import Guest, a_slot, free_seats
from tests.doubles.fault_proxy import FaultProxy, latency
from tests.figures import tell
from tests.scenarios import fired
from tests.system import System

pytestmark = pytest.mark.steady_redis
CAPACITY = 3
TTL_MS = 500
# How long the late writer's statement is on its way: everybody else has sold out by then.
LATE_S = 1.5


@pytest.fixture(scope="module")
def url(redis_url: str) -> str:
    if not redis_url:
        pytest.skip("there is no Valkey on this machine")
    return redis_url


@pytest.fixture(scope="module")
def wire(stack_system: System) -> Iterator[FaultProxy]:
    """The late writer's way to the database."""
    port = urlsplit(stack_system.setting_of("reservation", "RESERVATION_DATABASE_URL")).port
    assert port is not None
    with FaultProxy(port) as wire:
        yield wire


@pytest.fixture(scope="module")
def doors(stack_system: System, url: str, wire: FaultProxy) -> Iterator[tuple[str, str]]:
    """Two processes whose locks live for a moment only; the first one reaches the database over the wire."""
    straight = urlsplit(stack_system.setting_of("reservation", "RESERVATION_DATABASE_URL"))
    user = straight.netloc.rpartition("@")[0]
    over_the_wire = urlunsplit(straight._replace(netloc=f"{user}@127.0.0.1:{wire.port}"))
    patient = {"ADMISSION_GROUP_S": "10", "ADMISSION_DEADLINE_S": "60"}
    env = patient | {"REDIS_URL": url, "SLOT_LOCK_TTL_MS": str(TTL_MS), "REDIS_BUDGET_MS": "2000"}
    stack = stack_system.stack
    late = stack.add_replica("reservation", env=env | {"RESERVATION_DATABASE_URL": over_the_wire})
    other = stack.add_replica("reservation", env=env)
    yield late, other
    for name in (late, other):
        stack.stop(name)


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")


def metric(system: System, door: str, name: str) -> float:
    lines = system.call(door, "GET", "/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_a_holder_stopped_between_its_lock_and_its_commit(
    system: System, doors: tuple[str, str], wire: FaultProxy, url: str
) -> None:
    """R05, I1, I19, peers B5.69: its lock lapses, another process takes it and sells out; the late writer is refused by the row."""
    late, other = doors
    child = system.stack._parts[late].child
    assert child is not None
    slot = a_slot(system, capacity=CAPACITY + 1)
    lock = f"{{slot-locks}}:{slot.id}"
    acquired = 'reservation_slot_lock_wait_seconds_count{outcome="acquired"}'
    assert (
        guest(system, late).hold(slot).status_code == 201
    )  # its prices are known, so the lock comes first from now on
    before = metric(system, other, acquired)
    with ThreadPoolExecutor(1) as aside, Redis.from_url(url) as redis:
        wire.inject(latency(LATE_S))
        writing = aside.submit(guest(system, late).hold, slot)
        try:
            eventually(lambda: redis.exists(lock), bool, within_s=30, every_s=0.001)
            os.kill(child.pid, signal.SIGSTOP)
            eventually(lambda: stopped(child.pid), bool, every_s=0.001)
            was_held = redis.exists(lock)
            began = time.monotonic()
            eventually(lambda: redis.exists(lock), lambda held: not held, within_s=30, every_s=0.002)
            told = Counter(guest(system, other).hold(slot).status_code for _ in range(CAPACITY + 2))
            paused_s = time.monotonic() - began
        finally:
            wire.inject(latency(0))
            os.kill(child.pid, signal.SIGCONT)
        told[writing.result(30).status_code] += 1
    assert was_held
    assert metric(system, other, acquired) > before
    assert told == {201: CAPACITY, 409: 3}
    assert free_seats(system, slot) == 0
    tell(f"paused holder: stopped for {paused_s:.2f} s, lock lived {TTL_MS} ms, attempts={told.total()} oversold=0")
    eventually(lambda: metric(system, late, "reservation_slot_locks_lost_total"), lambda lost: lost > 0, within_s=30)
    fired("R05", int(metric(system, late, "reservation_slot_locks_lost_total")))


def guest(system: System, door: str) -> Guest:
    return Guest(system, system.token(f"paused-{uuid4()}"), door)
