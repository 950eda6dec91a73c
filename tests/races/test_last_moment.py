"""A hold is converted in the moment it runs out: one of the two wins, and its seats are counted once."""

import asyncio
import time

import httpx

from tests.answers import answered, eventually, refused
from tests.builders import CUSTOMER, Guest, a_customer, a_key, a_slot, free_seats
from tests.figures import tell
from tests.system import System

ROUNDS = 30
TTL_S = 3
AFTER_S = 0.2


async def test_converting_at_the_last_moment(system: System) -> None:
    """T01, T02, I23: thirty conversions around the expiry end as a booking or as 410, never as both or neither."""
    slot = a_slot(system, capacity=ROUNDS)
    body = {"customer": CUSTOMER, "payment": {"mode": "stripe"}}

    # Most come in the last moment, the first ones at once and the last ones surely too late, however slow the machine is.
    async def convert_near_the_end(number: int, guest: Guest, hold_id: str, runs_out_at: float) -> httpx.Response:
        offset_s = AFTER_S - TTL_S * (1 - number / (ROUNDS - 1)) ** 3
        await asyncio.sleep(max(0.0, runs_out_at + offset_s - time.monotonic()))
        headers = {"Authorization": f"Bearer {guest.token}", "Idempotency-Key": a_key()}
        return await client.post(f"/v1/holds/{hold_id}/convert", json=body, headers=headers)

    async with httpx.AsyncClient(base_url=system.stack.url("reservation"), timeout=30.0, trust_env=False) as client:
        rounds = []
        for number in range(ROUNDS):
            guest = a_customer(system)
            answer = await asyncio.to_thread(guest.hold, slot, ttl_seconds=TTL_S)
            runs_out_at = time.monotonic() + int(answer.headers["expires-in-ms"]) / 1000
            hold_id = answered(answer, 201)["id"]
            rounds.append(asyncio.create_task(convert_near_the_end(number, guest, hold_id, runs_out_at)))
        answers = await asyncio.gather(*rounds)

    booked = [answer for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer.status_code != 201:
            refused(answer, 410, "HOLD_EXPIRED")
    assert 0 < len(booked) < ROUNDS, "the rounds were meant to lie on both sides of the expiry"
    tell(f"duel convert against expiry: rounds={ROUNDS} booked={len(booked)} expired={ROUNDS - len(booked)}")
    eventually(lambda: free_seats(system, slot), lambda seats: seats == ROUNDS - len(booked), within_s=5)
    assert {answer.json()["status"] for answer in booked} <= {"pending"}
