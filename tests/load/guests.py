"""Guests in a crowd: each has a hold, and does one thing at the moment that was drawn for it, whatever the others do."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

import httpx

from tests.builders import CUSTOMER, GOOD_CARD, Slot
from tests.system import System

_AT_ONCE = 8
Thing = TypeVar("Thing")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Crowd:
    """An HTTP client per crowd, as many connections as guests at work."""

    system: System
    http: httpx.AsyncClient

    async def hold(self, slot: Slot) -> tuple[str, str]:
        """Return the token and the hold of a new customer."""
        token = self.system.token(f"customer-{uuid4()}")
        answer = await self._post(token, "/v1/holds", f"hold-{uuid4()}", slot.order())
        answer.raise_for_status()
        return token, str(answer.json()["id"])

    async def convert(self, held: tuple[str, str]) -> httpx.Response:
        token, hold_id = held
        body = {"customer": CUSTOMER, "payment": {"mode": "stripe"}}
        return await self._post(token, f"/v1/holds/{hold_id}/convert", f"convert-{hold_id}", body)

    async def pay(self, client_secret: str) -> None:
        """Do what Stripe.js does in a browser."""
        form = {
            "client_secret": client_secret,
            "payment_method_data[type]": "card",
            "payment_method_data[card][number]": GOOD_CARD,
            "payment_method_data[card][exp_month]": "12",
            "payment_method_data[card][exp_year]": "2034",
            "payment_method_data[card][cvc]": "123",
        }
        path = f"/v1/payment_intents/{client_secret.partition('_secret_')[0]}/confirm"
        key = self.system.stack.credentials.stripe_publishable_key
        url = self.system.stack.url("sandbox") + path
        (await self.http.post(url, data=form, headers={"Authorization": f"Bearer {key}"})).raise_for_status()

    async def _post(self, token: str, path: str, key: str, body: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        return await self.http.post(self.system.stack.url("reservation") + path, headers=headers, json=body)


async def a_few_at_once(things: Sequence[Thing], act: Callable[[Thing], Awaitable[Outcome]]) -> list[Outcome]:
    """Prepare what a measurement needs, without a rush."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(thing: Thing) -> Outcome:
        async with room:
            return await act(thing)

    return await asyncio.gather(*(one(thing) for thing in things))


async def open_loop(
    things: Sequence[Thing], starts_s: Sequence[float], act: Callable[[Thing], Awaitable[Outcome]]
) -> tuple[list[Outcome], list[float]]:
    """Let each thing begin at its own moment; return what came of it, and how long after that moment, in ms."""
    zero = time.perf_counter()

    async def one(thing: Thing, start_s: float) -> tuple[Outcome, float]:
        await asyncio.sleep(max(0.0, zero + start_s - time.perf_counter()))
        outcome = await act(thing)
        return outcome, (time.perf_counter() - zero - start_s) * 1000

    done = await asyncio.gather(*(one(thing, start) for thing, start in zip(things, starts_s, strict=True)))
    return [outcome for outcome, _ in done], [took_ms for _, took_ms in done]
