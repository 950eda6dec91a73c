"""Time comes in as an argument, so that tests and the simulation can move it."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


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
