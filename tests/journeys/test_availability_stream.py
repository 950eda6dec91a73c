"""The availability stream of a real process: quick news, comments in the silence, and an end when the process ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

from deploy.embedded.stack import Stack
from tests.answers import eventually, refused
from tests.builders import Slot, a_customer, a_hold, a_slot
from tests.figures import tell
from tests.surroundings import STACK_ENV
from tests.system import System

STREAMS = 20
LISTENERS = 50
GRACE_S = float(STACK_ENV["all"]["SHUTDOWN_GRACE_S"])
STREAM = "/v1/availability/stream"


@pytest.fixture(scope="module")
def door(stack: Stack) -> Iterator[str]:
    """A process of one's own, that is quick to send comments."""
    name = stack.add_replica("reservation", env={"STREAM_HEARTBEAT_S": "0.3"})
    yield name
    if stack.alive(name):
        stack.stop(name)


@pytest.fixture
async def crowd(door: str, system: System) -> AsyncIterator[httpx.AsyncClient]:
    """Any number of browsers."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=system.stack.url(door), timeout=10, limits=limits, trust_env=False) as client:
        yield client


@asynccontextmanager
async def listening(crowd: httpx.AsyncClient, slot: Slot) -> AsyncIterator[AsyncIterator[str]]:
    """Open a stream and return its lines."""
    async with crowd.stream("GET", STREAM, params={"experience_id": slot.experience_id}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield answer.aiter_lines()


async def next_event(lines: AsyncIterator[str]) -> Any:
    """Return the data of the next slot.updated."""
    async with asyncio.timeout(5):
        async for line in lines:
            if line.startswith("data: "):
                return orjson.loads(line.removeprefix("data: "))
    raise AssertionError("the stream has ended")


def figure(system: System, door: str, name: str) -> float:
    """Return a metric of a process."""
    lines = system.call(door, "GET", "/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


async def test_a_hold_is_heard_of(system: System, door: str, crowd: httpx.AsyncClient) -> None:
    """First the slot as it is, then soon the seat that was taken at another process."""
    slot = a_slot(system, capacity=5)
    async with listening(crowd, slot) as lines:
        assert await next_event(lines) == {
            "id": slot.id, "available": 5, "capacity": 5, "status": "open", "version": 1,
        }  # fmt: skip
        began = time.monotonic()
        hold = await asyncio.to_thread(a_hold, a_customer(system), slot, 2)
        told = await next_event(lines)
        took_s = time.monotonic() - began
        assert (told["id"], told["available"]) == (slot.id, 3)
        async with asyncio.timeout(30):
            async for line in lines:
                if line.startswith(":"):
                    break
    tell(f"stream: a hold was heard of after {took_s * 1000:.0f} ms")
    assert hold["seats"] == 2
    eventually(lambda: figure(system, door, "reservation_stream_listeners"), lambda open_: open_ == 0)


def test_nothing_to_listen_to(system: System, door: str) -> None:
    """An experience that does not exist, and what is no id, answer 404."""
    for experience in ("nonsense", "00000000-0000-7000-8000-000000000000"):
        refused(system.call(door, "GET", f"{STREAM}?experience_id={experience}"), 404, "EXPERIENCE_NOT_FOUND")


async def test_fifty_listeners_cost_one_look_per_tick(system: System, door: str, crowd: httpx.AsyncClient) -> None:
    """While fifty clients listen, the database is asked about twice a second, not a hundred times."""
    slot = a_slot(system)
    ears = [listening(crowd, slot) for _ in range(LISTENERS)]
    try:
        streams = await asyncio.gather(*(ear.__aenter__() for ear in ears))  # a stream nobody keeps is closed
        for lines in streams:
            await next_event(lines)
        looks, began = await asyncio.to_thread(figure, system, door, "reservation_stream_looks_total"), time.monotonic()
        await asyncio.sleep(1.6)
        looks = await asyncio.to_thread(figure, system, door, "reservation_stream_looks_total") - looks
        most = (time.monotonic() - began) / 0.5 + 1
        assert await asyncio.to_thread(figure, system, door, "reservation_stream_listeners") == LISTENERS
    finally:
        await asyncio.gather(*(ear.__aexit__(None, None, None) for ear in ears))
    assert 1 <= looks <= most
    eventually(lambda: figure(system, door, "reservation_stream_listeners"), lambda open_: open_ == 0)


async def test_open_streams_do_not_keep_a_process_alive(
    system: System, stack: Stack, door: str, crowd: httpx.AsyncClient
) -> None:
    """SIGTERM with twenty open streams: each ends whole, and the process is gone long before its grace is over."""
    slot = a_slot(system)
    ears = [listening(crowd, slot) for _ in range(STREAMS)]
    streams = await asyncio.gather(*(ear.__aenter__() for ear in ears))
    for lines in streams:
        await next_event(lines)
    began = time.monotonic()
    stopping = asyncio.create_task(asyncio.to_thread(stack.stop, door))
    async with asyncio.timeout(GRACE_S):
        for lines in streams:
            async for _line in lines:  # raises when the stream ends in the middle of a chunk
                pass
        await stopping
    took_s = time.monotonic() - began
    await asyncio.gather(*(ear.__aexit__(None, None, None) for ear in ears))
    assert took_s < GRACE_S, took_s
    tell(f"stream: SIGTERM with {STREAMS} open streams took {took_s * 1000:.0f} ms")
