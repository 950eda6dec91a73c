"""Guests who hang up while they wait: the server does not say so by itself, and no seat is taken for nobody."""

import asyncio
import time
from urllib.parse import urlsplit

import orjson

from tests.answers import eventually
from tests.builders import Slot, a_customer, a_key, a_slot, free_seats
from tests.figures import tell
from tests.races.callers import GENEROUS_S, locking_slots, outsider
from tests.scenarios import fired
from tests.system import System

LEAVING = 5
ROUNDS = 5
BLOCKED = 'reservation_admission_groups_total{outcome="blocked"}'
WAITING = "reservation_admission_waiting"
LEFT = "reservation_admission_left_total"
GONE = (
    "http_server_request_duration_seconds_count"
    '{http_request_method="POST",http_response_status_code="499",http_route="/v1/holds"}'
)


class Impatient:
    """A guest on a socket of their own, which they can close at any time."""

    def __init__(self, system: System, slot: Slot) -> None:
        body = orjson.dumps(slot.order())
        address = urlsplit(system.stack.url("reservation"))
        self._address = str(address.hostname), int(address.port or 0)
        self._request = (
            f"POST /v1/holds HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {a_customer(system).token}\r\nIdempotency-Key: {a_key()}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def ask(self) -> None:
        _, self._writer = await asyncio.open_connection(*self._address)
        self._writer.write(self._request)
        await self._writer.drain()

    async def hang_up(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def figure(system: System, name: str) -> float:
    lines = system.call("reservation", "GET", "/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


async def reached(system: System, name: str, least: float, *, within_s: float = 2.0) -> bool:
    """Wait until a metric is that large; False when it takes too long for what comes next to prove anything."""
    end = time.monotonic() + within_s
    while await asyncio.to_thread(figure, system, name) < least:
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.01)
    return True


async def dropped_in_a_round(system: System) -> float:
    """Let some hang up while a slot is locked and one stay; return how many were dropped. Only one has a seat then."""
    slot, key = a_slot(system, capacity=10), a_key()
    stays = a_customer(system)
    blocked, left = figure(system, BLOCKED), figure(system, LEFT)
    guests = [Impatient(system, slot) for _ in range(LEAVING)]
    async with outsider(system.setting_of("reservation", "RESERVATION_DATABASE_URL")) as other:
        async with locking_slots(other, slot.id):
            await guests[0].ask()
            await reached(system, BLOCKED, blocked + 1)
            await asyncio.gather(*(guest.ask() for guest in guests[1:]))
            stayed = asyncio.create_task(
                asyncio.to_thread(
                    eventually,
                    lambda: stays.hold(slot, key=key),
                    lambda answer: answer.status_code == 201,
                    within_s=GENEROUS_S,
                )
            )
            await reached(system, WAITING, LEAVING + 1)
            await asyncio.gather(*(guest.hang_up() for guest in guests))
            await reached(system, LEFT, left + LEAVING)
        await stayed
    assert free_seats(system, slot) == slot.capacity - 1
    return figure(system, LEFT) - left


async def test_whoever_hangs_up_takes_nothing(system: System) -> None:
    """K09, I1: five hang up, the one who stands before the slot's lock included: only who stays gets a seat."""
    dropped, rounds = 0.0, 0
    while (
        dropped < LEAVING and rounds < ROUNDS
    ):  # on a machine so slow that the lock was given up before, the round says little
        dropped = await dropped_in_a_round(system)
        rounds += 1
    tell(f"hung up while waiting: {dropped:g} of {LEAVING + 1} were dropped, seats taken=1, in round {rounds}")
    assert dropped == LEAVING
    assert figure(system, GONE) >= LEAVING, "guests who hang up count as errors of ours"
    fired("K09", int(dropped))
