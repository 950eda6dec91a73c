"""The locks of one process at a real Redis, and how a test looks at what stands there."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from reservation_service.clients.fast_redis import FastRedis
from reservation_service.clients.slot_lock import SlotLocks
from reservation_service.metrics import Metrics
from shared.clock import SystemClock
from tests.doubles.fault_proxy import FaultProxy

PATIENT_S = 20.0  # for claims about who has a lock: a busy machine answers all the same
BUDGET_S = 0.1  # for claims about the budget itself
GENEROUS_S = 60.0


class Desk:
    """One process's locks, and what it measured."""

    def __init__(self, url: str, *, budget_s: float = PATIENT_S, **options: Any) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.redis = FastRedis(url, SystemClock(), budget_s=budget_s)
        self.locks = SlotLocks(self.redis, self.metrics, SystemClock(), **{"ttl_ms": 60_000, **options})

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"reservation_slot_lock{name}", labels) or 0.0

    def waits(self, outcome: str) -> float:
        return self.count("_wait_seconds_count", outcome=outcome)


@asynccontextmanager
async def desks(*urls: str, **options: Any) -> AsyncIterator[list[Desk]]:
    made = [Desk(url, **options) for url in urls]
    try:
        yield made
    finally:
        for desk in made:
            await desk.redis.close()


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Any]:
    async with Redis.from_url(url) as client:
        yield client


async def until(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Ask until that is the answer."""
    end = time.monotonic() + GENEROUS_S
    while (found := await ask()) != wanted:
        assert time.monotonic() < end, f"{found!r} is not {wanted!r}"
        await asyncio.sleep(0.01)


async def held_by(desk: Desk, slot_id: UUID) -> bool:
    return bool((await desk.locks.acquire([slot_id])).held)


def through(proxy: FaultProxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


def lock_of(slot_id: UUID) -> str:
    return f"{{slot-locks}}:{slot_id}"
