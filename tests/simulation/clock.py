"""The one clock of a simulated world: both services, both databases, Stripe and every guest look at it."""

import asyncio
from datetime import UTC, datetime, timedelta

from tests.simulation.loop import VirtualLoop

_BEGINNING = datetime(2031, 3, 1, 12, tzinfo=UTC)


class VirtualClock:
    """Shows the loop's time; `shared.clock.Clock` and the databases' `clock_timestamp()` in one."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._known_s = 0.0
        self._known = _BEGINNING

    def now(self) -> datetime:
        at_s = self._loop.virtual_s
        if at_s != self._known_s:
            self._known_s, self._known = at_s, _BEGINNING + timedelta(seconds=at_s)
        return self._known

    def monotonic(self) -> float:
        return self._loop.virtual_s

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
