"""Whole bookings, from the first request to confirmed with the money captured, as many guests at a time as in the peers' runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.bench.ground import Ground, WrongBooks
from tests.bench.holding import Refused
from tests.bench.wire_client import Wire, wire_to
from tests.load.running import quantile

GUESTS_AT_A_TIME = 16
_LOOKS_EVERY_S = 0.01
_GIVE_UP_S = 60.0


@dataclass
class Bookings:
    """How long each took, and how long all of them."""

    waits_ms: list[float] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def per_s(self) -> float:
        return len(self.waits_ms) / self.took_s

    def quantile_ms(self, share: float) -> float:
        return quantile(self.waits_ms, share)


class _Confirmations:
    """Looks for what was confirmed since the last look, for all who wait."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._waiting: dict[str, asyncio.Event] = {}

    async def of(self, hold_id: str) -> None:
        event = self._waiting[hold_id] = asyncio.Event()
        async with asyncio.timeout(_GIVE_UP_S):
            await event.wait()

    async def look(self) -> None:
        while True:
            await asyncio.sleep(_LOOKS_EVERY_S)
            if self._waiting:
                found = await self._connection.fetch(_CONFIRMED, list(self._waiting))
                for row in found:
                    self._waiting.pop(str(row["id"])).set()


_CONFIRMED = "SELECT id FROM reservations WHERE id = ANY($1::text[]::uuid[]) AND status = 'confirmed'"


@asynccontextmanager
async def _confirmations(ground: Ground) -> AsyncIterator[_Confirmations]:
    connection = await ground.connect()
    confirmations = _Confirmations(connection)
    looking = asyncio.create_task(confirmations.look())
    try:
        yield confirmations
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await connection.close()


async def bookings(ground: Ground, *, count: int) -> Bookings:
    """Let `count` guests book, each from hold to confirmed; then the books must agree. Raises Refused, WrongBooks."""
    await ground.wipe()
    done, turn = Bookings(), asyncio.Semaphore(GUESTS_AT_A_TIME)
    async with (
        wire_to(ground.port, GUESTS_AT_A_TIME) as shop,
        wire_to(ground.sandbox_port, GUESTS_AT_A_TIME) as stripe,
        _confirmations(ground) as confirmations,
    ):

        async def one(number: int) -> None:
            async with turn:
                began = time.perf_counter()
                hold_id = await _pays(ground, ground.slot_ids[number % len(ground.slot_ids)], shop, stripe)
                await confirmations.of(hold_id)
                done.waits_ms.append((time.perf_counter() - began) * 1000)

        began = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(count)))
        done.took_s = time.perf_counter() - began
    await ground.check(holds=count)
    await _check_money(ground, count)
    return done


async def _pays(ground: Ground, slot_id: str, shop: Wire, stripe: Wire) -> str:
    """Do what a guest and their browser do; return the hold."""
    token = ground.guests.token()
    hold_id = (await _asked(shop, ground.guests.hold(slot_id, token), 201))["id"]
    while True:
        outcome = (await _asked(shop, ground.guests.convert(hold_id, token), 200, 201))["outcome"]
        if outcome["type"] == "action_required":
            break
        await asyncio.sleep(0.05)  # `processing`: the same call again, as the documentation says
    await _asked(stripe, ground.guests.pay(outcome["client_secret"]), 200)
    return str(hold_id)


async def _asked(wire: Wire, request: bytes, *statuses: int) -> Any:
    status, body = await wire.ask(request)
    if status not in statuses:
        raise Refused(f"{request[:60]!r} was answered {status}: {body[:300]!r}")
    return orjson.loads(body)


async def _check_money(ground: Ground, count: int) -> None:
    connection = await ground.connect()
    try:
        captured = await connection.fetchval(
            "SELECT count(*) FROM reservations WHERE status = 'confirmed' AND payment ->> 'status' = 'captured'"
        )
    finally:
        await connection.close()
    if captured != count:
        raise WrongBooks(f"{captured} of {count} bookings are confirmed and captured")
