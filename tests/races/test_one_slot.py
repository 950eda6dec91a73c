"""Everybody wants the same departure at the same moment: exactly its seats are sold, and everybody gets an answer."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from uuid import uuid4

import httpx
import pytest

from deploy.embedded.stack import Stack
from tests.answers import answered, refused
from tests.builders import CUSTOMER, a_customer, a_hold, a_key, a_slot, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.races.crowd import CLIENTS, RUSH_S, a_crowd
from tests.system import System

CUSTOMERS = 1000
CAPACITY = 100


@pytest.fixture(scope="module")
def doors(stack: Stack) -> Iterator[list[str]]:
    """Two processes of reservation_service on one database: what decides between them can only be PostgreSQL."""
    second = stack.add_replica("reservation")
    yield [stack.url("reservation"), stack.url(second)]
    stack.stop(second)


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


async def test_a_thousand_customers_want_a_hundred_seats(system: System, doors: Sequence[str]) -> None:
    """K01: exactly 100 x 201, everybody else 409 SLOT_UNAVAILABLE (after 503 SLOT_BUSY at most), nothing oversold."""
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
        f"attempts={attempts} winners={len(winners)} taken={taken} oversold={max(0, len(winners) - CAPACITY)} in {took_s:.2f} s"
    )
    assert tally == {201: CAPACITY, 409: CUSTOMERS - CAPACITY}
    assert len(winners) == CAPACITY
    assert taken == CAPACITY


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
