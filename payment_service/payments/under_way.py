"""Which payments this process is just calling Stripe about: an event about one is often what the call is about to say.

Stripe tells of what a call has done while the call's answer is still on its way, or being written down. Whoever waits
for that finds the event to be old news, and saves a question to Stripe.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID


class CallsUnderWay:
    """Remembers calls from before they leave until their outcome is recorded; only those of this process."""

    def __init__(self) -> None:
        self._over: dict[UUID, asyncio.Event] = {}

    @contextmanager
    def about(self, payment_id: UUID) -> Iterator[None]:
        """Say that a call about a payment is under way as long as this lasts."""
        over = self._over[payment_id] = asyncio.Event()
        try:
            yield
        finally:
            over.set()
            if self._over.get(payment_id) is over:
                del self._over[payment_id]

    async def wait_for(self, payment_id: UUID, *, at_most_s: float) -> None:
        """Return when the newest call about a payment is over, or when it has taken too long to be waited for."""
        if over := self._over.get(payment_id):
            with suppress(TimeoutError):
                async with asyncio.timeout(at_most_s):
                    await over.wait()
