"""Time comes in as an argument, so that tests and the simulation can move it."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

Woken = TypeVar("Woken")

IN_A_TURN = 8  # so many may begin to work in one turn of the event loop, at half a millisecond each


class Clock(Protocol):
    """What a behaviour may ask of time. Expiry of seats is judged by the database's clock, never by this one."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean anything."""

    async def sleep(self, delay_s: float) -> None:
        """Wait for `delay_s` seconds."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


async def a_few_in_a_turn(those: Sequence[Woken]) -> AsyncIterator[Woken]:
    """Give some in this turn of the event loop, the next ones in the next.

    For waking many callers: each of them has work to do before it waits again, and nobody else is heard meanwhile.
    """
    for at, one in enumerate(those):
        if at and at % IN_A_TURN == 0:
            await asyncio.sleep(0)
        yield one
