"""Guests, and what they do: hold, convert, pay with cards good and bad, come back, wait, leave; and people at a desk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from reservation_service.api.answers import outcome
from reservation_service.booking.cancelling import CancelRequest
from reservation_service.booking.holds import HoldRequest
from reservation_service.booking.reservations import ConvertRequest
from reservation_service.states import CancelledBy
from shared.auth import Caller
from shared.problems import Problem, Weather
from tests.simulation.processes import Cut, NotConnected
from tests.simulation.stripe_double import Account
from tests.simulation.stripe_objects import Intent

_TRIES = 6
_CUSTOMER = {"name": "Ada", "email": "ada@example.org"}


@dataclass(frozen=True)
class Story:
    """What one guest is going to do; drawn beforehand, so that it can be printed."""

    arrives_s: float
    seats: int
    waits_before_converting_s: float
    converts: bool
    gives_back: bool
    cards: tuple[str, ...]
    ponders_s: float
    converts_again: int
    waits_before_another_try_s: float
    pays_elsewhere: bool
    cancels_after_s: float | None
    extends: bool
    bank_takes_s: float


def draw(random: Random, seats_max: int, window_s: float) -> Story:
    """Make a guest up."""
    cards = tuple(random.choices(("declined", "asks", "slow"), k=random.choice((0, 0, 0, 1, 1, 2))))
    good = random.random() < 0.8
    late = random.random() < 0.2
    return Story(
        arrives_s=random.uniform(0, 30),
        seats=random.randint(1, seats_max),
        waits_before_converting_s=random.choice((0.0, 1.0, random.uniform(0, 650))),
        converts=random.random() < 0.95,
        gives_back=random.random() < 0.05,
        cards=(*cards, "good") if good else cards,
        ponders_s=random.uniform(window_s - 8, window_s + 25) if late else random.choice((0.0, 0.5, 5.0, 60.0)),
        converts_again=random.choice((0, 0, 1, 2)),
        waits_before_another_try_s=random.uniform(0.5, 20),
        pays_elsewhere=random.random() < 0.12,
        cancels_after_s=random.choice((0.0, 1.0, 15.0, 70.0, 70.0, 300.0, 900.0)) if random.random() < 0.3 else None,
        extends=random.random() < 0.05,
        bank_takes_s=random.choice(
            (5.0, 5.0, 5.0, 60.0, 60.0, 400.0, 2 * 86_400.0 if random.random() < 0.004 else 5.0)
        ),
    )


class Guest:
    """Lives through a story. `call` runs something inside a process of reservation_service, over a wire."""

    def __init__(
        self,
        number: int,
        story: Story,
        call: Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]],
        stripe: Account,
        slot_id: UUID,
        ticket_id: UUID,
    ) -> None:
        self._caller = Caller(f"guest-{number}")
        self._number = number
        self._story = story
        self._call = call
        self._stripe = stripe
        self._slot_id = slot_id
        self._ticket_id = ticket_id
        self._mode = "external" if story.pays_elsewhere else "stripe"
        self.changing_minds: asyncio.Task[None] | None = None

    async def live(self) -> None:
        story = self._story
        await asyncio.sleep(story.arrives_s)
        hold_id = await self._hold()
        if hold_id is None:
            return
        if story.gives_back:
            await self._patiently(lambda work: work.holds.release(self._caller, hold_id))
            return
        await asyncio.sleep(story.waits_before_converting_s)
        if story.extends:
            await self._patiently(lambda work: work.holds.extend(self._caller, hold_id, None))
        if not story.converts:
            return
        booking = await self._convert(hold_id)
        if booking is None:
            return
        if story.cancels_after_s is not None:
            self.changing_minds = asyncio.get_running_loop().create_task(self._cancel(hold_id, story.cancels_after_s))
        if not story.pays_elsewhere:
            await self._pay(hold_id, booking)
        for _ in range(story.converts_again):
            await asyncio.sleep(story.waits_before_another_try_s)
            await self._convert(hold_id)

    async def _hold(self) -> UUID | None:
        request = HoldRequest(
            key=f"hold-{self._number}",
            fingerprint=b"hold",
            time_slot_id=self._slot_id,
            items=[(self._ticket_id, self._story.seats)],
        )
        made = await self._patiently(
            lambda work: work.holds.create(work.ground.flags.snapshot("guest"), self._caller, request)
        )
        return None if made is None else made.booking["id"]

    async def _convert(self, hold_id: UUID) -> Any:
        request = ConvertRequest(hold_id, f"convert-{self._number}", b"convert", _CUSTOMER, self._mode)
        converted = await self._patiently(
            lambda work: work.engine.convert(self._caller, request, work.ground.flags.snapshot("guest"))
        )
        return None if converted is None else converted.booking

    async def _pay(self, hold_id: UUID, booking: Any) -> None:
        """Try one card after the other on the payment that the booking shows."""
        for card in self._story.cards:
            intent = self._intent_of(booking)
            for _ in range(_TRIES):
                if intent is not None or outcome(booking)["type"] in {"closed", "succeeded"}:
                    break
                await asyncio.sleep(self._story.waits_before_another_try_s)
                booking = await self._convert(hold_id) or booking
                intent = self._intent_of(booking)
            if intent is None:
                return
            await asyncio.sleep(self._story.ponders_s)
            await self._use(card, intent)
            if self._story.converts_again:
                booking = await self._convert(hold_id) or booking

    async def _use(self, card: str, intent: Intent) -> None:
        self._stripe.pay(intent, card)
        if card == "asks" and self._story.bank_takes_s > 5:
            await asyncio.sleep(1)
            if intent.status == "requires_action":
                self._stripe.take_slowly(intent)
        if card in {"asks", "slow"} and intent.status in {"requires_action", "processing"}:
            await asyncio.sleep(self._story.bank_takes_s)
            if intent.status in {"requires_action", "processing"}:
                goes_well = self._stripe.random.random() < 0.6
                (self._stripe.authorize if goes_well else self._stripe.decline)(intent)

    async def _cancel(self, hold_id: UUID, after_s: float) -> None:
        """Call the booking off, however far it has come meanwhile."""
        await asyncio.sleep(after_s)
        subject = self._caller.subject
        request = CancelRequest(
            hold_id, CancelledBy.GUEST, subject, caller=subject, key=f"cancel-{self._number}", fingerprint=b"cancel"
        )
        await self._patiently(lambda work: work.calling_off.cancel(request))

    def _intent_of(self, booking: Any) -> Intent | None:
        """Return the payment that a guest can reach: with the secret that was handed out."""
        secret = (booking["payment"] or {}).get("client_secret")
        return self._stripe.intents[secret.removesuffix("_secret")] if secret else None

    async def _patiently(self, act: Callable[[Any], Awaitable[Any]]) -> Any:
        """Make a call until it is answered, a few times; None when it was refused or never answered."""
        for _ in range(_TRIES):
            try:
                return await self._call(act)
            except (Cut, NotConnected, Weather):
                await asyncio.sleep(self._story.waits_before_another_try_s)
            except Problem as refusal:
                if refusal.status != 503:
                    return None
                await asyncio.sleep(self._story.waits_before_another_try_s)
        return None
