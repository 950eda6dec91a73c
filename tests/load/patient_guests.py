"""Guests on a bad day: each makes the call that failed again, the very same one, for as long as a person may wait.

A guest here is a browser tab. It calls our API, lets Stripe.js confirm the payment, and then shows the booking until
it is confirmed. It waits as long as an answer tells it to, else two seconds, and never starts anew.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import uuid4

import httpx

from tests.builders import CUSTOMER, GOOD_CARD, Slot
from tests.system import System

_PATIENCE_S = 60.0
_PAUSE_S = 2.0
_CALL_MAX_S = 30.0
_TOLD_WAITS = ("retry_after_ms", "poll_after_ms")

Call = Callable[[], Awaitable[httpx.Response]]


class AfterPaying(StrEnum):
    """What the page does while the booking is not confirmed yet."""

    LOOKS = "looks"  # GET /v1/reservations/{id}: nothing has failed, so there is nothing to try again
    ASKS_AGAIN = "asks again"  # POST .../convert, the same call as before, which also drives the booking on


class Stage(StrEnum):
    """How far a guest has come."""

    HOLDING = "holding seats"
    SETTING_UP = "waiting for a payment to be set up"
    PAYING = "paying"
    WAITING = "paid, waiting for the confirmation"
    CONFIRMED = "confirmed"


@dataclass
class Visit:
    """What one guest has seen, from the first call to the last."""

    stage: Stage = Stage.HOLDING
    hold_id: str = ""
    token: str = field(default="", repr=False)
    took_s: float = 0.0
    calls: int = 0
    last_seen: str = ""

    @property
    def confirmed(self) -> bool:
        return self.stage is Stage.CONFIRMED


class PatientGuest:
    """One guest with a good card; `patience_s` is for the whole booking, not for each call."""

    def __init__(
        self,
        system: System,
        http: httpx.AsyncClient,
        slot: Slot,
        *,
        after_paying: AfterPaying = AfterPaying.LOOKS,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._system = system
        self._http = http
        self._slot = slot
        self._after_paying = after_paying
        self._patience_s = patience_s
        self._ends_at = 0.0
        self.visit = Visit(token=system.token(f"customer-{uuid4()}"))

    async def book(self) -> Visit:
        """Go through the booking; returns how far that went."""
        began = time.monotonic()
        self._ends_at = began + self._patience_s
        await self._go_through()
        self.visit.took_s = time.monotonic() - began
        return self.visit

    async def _go_through(self) -> None:
        held = await self._insist(self._caller("/v1/holds", self._slot.order()), _is_made)
        if held is None:
            return
        self.visit.hold_id, self.visit.stage = held.json()["id"], Stage.SETTING_UP
        convert = self._caller(
            f"/v1/holds/{self.visit.hold_id}/convert", {"customer": CUSTOMER, "payment": {"mode": "stripe"}}
        )
        converted = await self._insist(convert, _is_to_be_paid)
        if converted is None:
            return
        self.visit.stage = Stage.PAYING
        outcome = converted.json()["outcome"]
        if await self._insist(lambda: self._pay(outcome), _is_paid) is None:
            return
        self.visit.stage = Stage.WAITING
        look = self._look if self._after_paying is AfterPaying.LOOKS else convert
        if await self._insist(look, is_confirmed) is not None:
            self.visit.stage = Stage.CONFIRMED

    def _caller(self, path: str, body: object) -> Call:
        """Return a call that can be made again and again: its key and its body stay what they are."""
        url = self._system.stack.url("reservation") + path
        headers = {"Authorization": f"Bearer {self.visit.token}", "Idempotency-Key": str(uuid4())}
        return lambda: self._http.post(url, headers=headers, json=body, timeout=_CALL_MAX_S)

    async def _pay(self, outcome: dict[str, str]) -> httpx.Response:
        """Do what Stripe.js does in a browser; once the card was taken, Stripe answers 400 to the same again."""
        intent_id = outcome["client_secret"].partition("_secret_")[0]
        form = {
            "client_secret": outcome["client_secret"],
            "payment_method_data[type]": "card",
            "payment_method_data[card][number]": GOOD_CARD,
            "payment_method_data[card][exp_month]": "12",
            "payment_method_data[card][exp_year]": "2034",
            "payment_method_data[card][cvc]": "123",
        }
        url = self._system.stack.url("sandbox") + f"/v1/payment_intents/{intent_id}/confirm"
        headers = {"Authorization": f"Bearer {outcome['publishable_key']}"}
        return await self._http.post(url, data=form, headers=headers, timeout=_CALL_MAX_S)

    async def _look(self) -> httpx.Response:
        url = self._system.stack.url("reservation") + f"/v1/reservations/{self.visit.hold_id}"
        return await self._http.get(url, headers={"Authorization": f"Bearer {self.visit.token}"}, timeout=_CALL_MAX_S)

    async def _insist(self, call: Call, is_right: Callable[[httpx.Response], bool]) -> httpx.Response | None:
        """Make the same call until its answer is right or patience ends; the last try is made at its very end."""
        while True:
            last_try = time.monotonic() >= self._ends_at
            answer = await self._try(call)
            if answer is not None and is_right(answer):
                return answer
            if last_try:
                return None
            await asyncio.sleep(min(_told_wait_s(answer), max(0.0, self._ends_at - time.monotonic())))

    async def _try(self, call: Call) -> httpx.Response | None:
        self.visit.calls += 1
        try:
            answer = await call()
        except httpx.TransportError as error:
            self.visit.last_seen = type(error).__name__
            return None
        self.visit.last_seen = f"{answer.status_code} {answer.text[:200]}"
        return answer


def _told_wait_s(answer: httpx.Response | None) -> float:
    """Return the wait that the answer asks for, if it is one of ours and asks for any."""
    try:
        document = answer.json() if answer is not None else {}
    except ValueError:  # a page, not an answer
        return _PAUSE_S
    said = document.get("outcome") or document
    return next((said[name] / 1000 for name in _TOLD_WAITS if isinstance(said.get(name), int)), _PAUSE_S)


def _is_made(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.CREATED


def _is_to_be_paid(answer: httpx.Response) -> bool:
    return answer.is_success and answer.json()["outcome"]["type"] == "action_required"


def _is_paid(answer: httpx.Response) -> bool:
    return answer.status_code in {httpx.codes.OK, httpx.codes.BAD_REQUEST}


def is_confirmed(answer: httpx.Response) -> bool:
    return answer.is_success and answer.json()["status"] == "confirmed"
