"""A crowd asks the database the same thing at the same moment: one of them asks, and all are told."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


class OneFlight(Generic[T]):
    """Runs `ask` at most once at a time for each id. Whoever gives up waiting leaves the others their answer."""

    def __init__(self, ask: Callable[[UUID], Awaitable[T]]) -> None:
        self._ask = ask
        self._flying: dict[UUID, asyncio.Task[T]] = {}

    async def answer(self, about: UUID) -> T:
        """Return what `ask` says, or raise what it raises."""
        flight = self._flying.get(about)
        if flight is None:
            flight = asyncio.create_task(self._fly(about))
            self._flying[about] = flight
            flight.add_done_callback(lambda _: self._flying.pop(about, None))
        return await asyncio.shield(flight)

    async def _fly(self, about: UUID) -> T:
        return await self._ask(about)
