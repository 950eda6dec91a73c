"""Callers of one box office, what they are told, and somebody who stands in their way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from uuid import UUID, uuid4

import httpx
from sqlalchemy import text

from shared.database import Database
from tests.answers import answered
from tests.reservation.box_office import BoxOffice, Customer, Offer

Call = tuple[Customer, Offer, str]
GENEROUS_S = 60.0
PATIENT = {"admission_deadline_s": GENEROUS_S}  # for claims about order and outcome, not about deadlines
T = TypeVar("T")


UNCOUNTED = """
SELECT taken - (SELECT sum(seats) FROM reservations WHERE time_slot_id = slot.id AND seats_pinned)
FROM time_slots AS slot WHERE id = :id
"""


@asynccontextmanager
async def outsider(database_url: str) -> AsyncIterator[Database]:
    """Somebody else on the same database, whose wire is always good."""
    database = Database.connect(database_url, application_name="outsider")
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def locking(other: Database, *offers: Offer) -> AsyncIterator[None]:
    """Keep the rows of these slots locked meanwhile."""
    async with locking_slots(other, *(offer.slot_id for offer in offers)):
        yield


@asynccontextmanager
async def locking_slots(other: Database, *slot_ids: str) -> AsyncIterator[None]:
    """Keep these rows locked meanwhile."""
    async with other.transaction("test") as tx:
        await tx.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # however slow the machine is
        ids = [UUID(slot_id) for slot_id in slot_ids]
        await tx.execute(text("SELECT FROM time_slots WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"), {"ids": ids})
        yield


async def ask(database: Database, statement: str, **values: object) -> Sequence[object]:
    async with database.reading() as connection:
        return (await connection.execute(text(statement), values)).scalars().all()


def a_crowd(office: BoxOffice, offers: Sequence[Offer], size: int) -> list[Call]:
    return [(office.customer(), offers[n % len(offers)], f"key-{uuid4()}") for n in range(size)]


async def all_hold(crowd: Sequence[Call]) -> list[httpx.Response]:
    async with asyncio.timeout(GENEROUS_S):
        return await asyncio.gather(*(guest.hold(offer, key=key) for guest, offer, key in crowd))


async def assert_one_hold_each(other: Database, crowd: Sequence[Call], answers: Sequence[httpx.Response]) -> None:
    """Each caller has exactly the hold they were told of, and each slot counts exactly its rows."""
    keys = [key for _, _, key in crowd]
    holds = await ask(other, "SELECT hold_id::text FROM idempotency WHERE key = ANY(:keys)", keys=keys)
    assert sorted(map(str, holds)) == sorted(answered(answer, 201)["id"] for answer in answers)
    for slot_id in {offer.slot_id for _, offer, _ in crowd}:
        (difference,) = await ask(other, UNCOUNTED, id=UUID(slot_id))
        assert difference == 0


def sample(office: BoxOffice, name: str, **labels: str) -> float:
    return office.parts.metrics.registry.get_sample_value(name, labels) or 0.0


def groups(office: BoxOffice, outcome: str) -> float:
    return sample(office, "reservation_admission_groups_total", outcome=outcome)


async def until(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is something."""
    async with asyncio.timeout(GENEROUS_S):
        while True:
            if found := await ask():
                return found
            await asyncio.sleep(0.005)


async def until_held(call: Call) -> httpx.Response:
    """Make the same call again until it is not 503."""
    guest, offer, key = call
    while True:
        if (answer := await guest.hold(offer, key=key)).status_code != 503:
            return answer
        await asyncio.sleep(0.1)


async def all_until_held(crowd: Sequence[Call]) -> list[httpx.Response]:
    """Let everybody make the same call again until it is not 503."""
    async with asyncio.timeout(GENEROUS_S):
        return await asyncio.gather(*map(until_held, crowd))


async def until_waiting(office: BoxOffice, count: int) -> None:
    async def enough() -> bool:
        return sample(office, "reservation_admission_waiting") >= count

    await until(enough)


async def until_blocked(office: BoxOffice) -> None:
    """Wait until a group has met the lock, so that everybody who came waits for it and nobody is being written."""

    async def met() -> bool:
        return groups(office, "blocked") >= 1

    await until(met)
