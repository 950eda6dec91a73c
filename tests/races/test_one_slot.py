"""Everybody wants the same departure at the same moment: exactly its seats are sold, and everybody gets an answer."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from operator import eq
from uuid import uuid4

import asyncpg
import httpx
import pytest

from deploy.embedded.postgres import Postgres
from deploy.embedded.stack import Stack
from tests.answers import answered, eventually, refused
from tests.builders import CUSTOMER, a_customer, a_hold, a_key, a_slot, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.races.crowd import CLIENTS, RUSH_S, a_crowd
from tests.scenarios import fired
from tests.system import System

CUSTOMERS = 1000
CAPACITY = 100
SEED = 20_261_123


@pytest.fixture(scope="module")
def doors(stack: Stack) -> Iterator[list[str]]:
    """Three processes of reservation_service on one database: what decides between them can only be PostgreSQL."""
    others = [stack.add_replica("reservation") for _ in range(2)]
    yield [stack.url("reservation"), *map(stack.url, others)]
    for name in others:
        stack.stop(name)


async def deadlocks(postgres: Postgres) -> int:
    """Return how often PostgreSQL had to end somebody's transaction because two waited for each other."""
    connection = await asyncpg.connect(postgres.url("stack_reservation").replace("+asyncpg", ""))
    try:
        return int(
            await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    finally:
        await connection.close()


def headers_for(system: System, key: str | None = None) -> dict[str, str]:
    """Return the headers of somebody who has not been here before."""
    return {"Authorization": f"Bearer {system.token(f'rush-{uuid4()}')}", "Idempotency-Key": key or a_key()}


async def hold_until_answered(
    client: httpx.AsyncClient, order: dict[str, object], headers: dict[str, str]
) -> list[httpx.Response]:
    """POST the hold, again and again while the slot is busy; return all answers, the last one is final."""
    answers = [await client.post("/v1/holds", json=order, headers=headers)]
    while answers[-1].status_code == 503:
        busy = refused(answers[-1], 503, "SLOT_BUSY")
        await asyncio.sleep(busy["retry_after_ms"] / 1000)
        answers.append(await client.post("/v1/holds", json=order, headers=headers))
    return answers


async def test_a_thousand_customers_want_a_hundred_seats(
    system: System, doors: Sequence[str], postgres: Postgres
) -> None:
    """K01, P03, I1, peers B1.2, B1.6, B1.13: exactly 100 x 201, all others 409 SLOT_UNAVAILABLE (after 503 at most), no oversell, no deadlock."""
    slot = a_slot(system, capacity=CAPACITY)
    everybody = [headers_for(system) for _ in range(CUSTOMERS)]
    async with a_crowd(doors) as clients, asyncio.timeout(RUSH_S):
        began = time.perf_counter()
        told = await asyncio.gather(
            *(
                hold_until_answered(clients[number % CLIENTS], slot.order(), headers)
                for number, headers in enumerate(everybody)
            )
        )
        took_s = time.perf_counter() - began

    finals = [answers[-1] for answers in told]
    for answer in finals:
        if answer.status_code != 201:
            assert refused(answer, 409, "SLOT_UNAVAILABLE")["available"] == 0
    tally = Counter(answer.status_code for answer in finals)
    winners = {answer.json()["id"] for answer in finals if answer.status_code == 201}
    attempts = sum(map(len, told))
    taken = slot.capacity - free_seats(system, slot)
    tell(
        f"processes={len(doors)} attempts={attempts} winners={len(winners)} taken={taken}"
        f" oversold={max(0, len(winners) - CAPACITY)} deadlocks={await deadlocks(postgres)} in {took_s:.2f} s"
    )
    assert tally == {201: CAPACITY, 409: CUSTOMERS - CAPACITY}
    assert len(winners) == CAPACITY
    assert taken == CAPACITY
    assert await deadlocks(postgres) == 0
    fired("K01", tally[409])


async def test_a_crowd_spread_over_many_slots(system: System, doors: Sequence[str], postgres: Postgres) -> None:
    """K01, K08, K09, P03, I1: parties of all sizes on five slots, some holds lapse and are swept meanwhile: the rows add up."""
    slots, dice = [a_slot(system, capacity=12) for _ in range(5)], random.Random(SEED)
    wishes = [(dice.choice(slots), dice.choice([1, 1, 2, 3]), dice.choice([1, 600])) for _ in range(240)]
    async with a_crowd(doors) as clients, asyncio.timeout(RUSH_S):
        told = await asyncio.gather(
            *(
                hold_until_answered(
                    clients[number % CLIENTS], slot.order(seats, ttl_seconds=ttl_s), headers_for(system)
                )
                for number, (slot, seats, ttl_s) in enumerate(wishes)
            )
        )
    tally = Counter(answer.status_code for answers in told for answer in answers)
    assert tally.keys() <= {201, 409, 503}, tally
    kept = Counter[str]()
    for answers, (slot, seats, ttl_s) in zip(told, wishes, strict=True):
        if answers[-1].status_code == 201 and ttl_s > 1:
            kept[slot.id] += seats
    for slot in slots:
        assert kept[slot.id] <= slot.capacity
        left = slot.capacity - kept[slot.id]
        eventually(partial(free_seats, system, slot), partial(eq, left), within_s=10)
    tell(
        f"five slots, processes={len(doors)}: attempts={sum(tally.values())} {dict(tally)} kept={sum(kept.values())} of 60"
    )
    assert await deadlocks(postgres) == 0


async def test_a_hundred_calls_with_one_key_are_one_hold(system: System, doors: Sequence[str]) -> None:
    """K02: impatient clicking makes one hold and one answer, byte for byte; exactly one of the calls made it."""
    slot = a_slot(system, capacity=CAPACITY)
    headers = headers_for(system, key="one-key-for-all")
    async with a_crowd(doors) as clients, asyncio.timeout(RUSH_S):
        told = await asyncio.gather(
            *(hold_until_answered(clients[number % CLIENTS], slot.order(3), headers) for number in range(100))
        )
    finals = [answers[-1] for answers in told]
    assert {answer.status_code for answer in finals} == {201}
    assert len({answer.content for answer in finals}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in finals) == 1
    assert free_seats(system, slot) == CAPACITY - 3


async def test_many_renewals_of_one_expired_hold_make_one_new_hold(system: System, doors: Sequence[str]) -> None:
    """I21, K02: when a hold has run out, fifty calls with its key renew it once and never take its seats twice."""
    slot = a_slot(system, capacity=4)
    headers, order = headers_for(system, key="renew-me"), slot.order(4, ttl_seconds=1)
    async with a_crowd(doors) as clients, asyncio.timeout(RUSH_S):
        old = answered((await hold_until_answered(clients[0], order, headers))[-1], 201)
        await asyncio.sleep(1.05)
        told = await asyncio.gather(
            *(hold_until_answered(clients[number % CLIENTS], order, headers) for number in range(50))
        )
    finals = [answers[-1] for answers in told]
    assert {answer.status_code for answer in finals} == {201}
    by_id = {answer.json()["id"]: answer.json() for answer in finals}
    assert old["id"] not in by_id
    assert sum(hold["supersedes"] == old["id"] for hold in by_id.values()) == 1
    assert sum("idempotency-renewed" in answer.headers for answer in finals) == len(by_id)


async def test_two_dozen_conversions_of_one_hold_are_one_booking(
    system: System, doors: Sequence[str], stripe: Stripe
) -> None:
    """K03: converting with different keys at once makes one reservation and one PaymentIntent; nobody is told 409."""
    guest, slot = a_customer(system), a_slot(system)
    hold = a_hold(guest, slot)
    body = {"customer": CUSTOMER, "payment": {"mode": "stripe"}}
    async with a_crowd(doors) as clients, asyncio.timeout(RUSH_S):
        answers = await asyncio.gather(
            *(
                clients[number % CLIENTS].post(
                    f"/v1/holds/{hold['id']}/convert",
                    json=body,
                    headers={"Authorization": f"Bearer {guest.token}", "Idempotency-Key": a_key()},
                )
                for number in range(24)
            )
        )
    told = [answered(answer, 200, 201) for answer in answers]
    assert sum(answer.status_code == 201 for answer in answers) == 1
    assert {answer["outcome"]["type"] for answer in told} <= {"processing", "action_required"}
    assert {answer["id"] for answer in told} == {hold["id"]}
    assert len(stripe.intents_of(hold["id"])) == 1
    answered(stripe.pay_for(guest, hold["id"]))
    guest.wait_for(hold["id"], "confirmed")
