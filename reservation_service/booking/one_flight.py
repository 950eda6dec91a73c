"""Questions to the database that run apart from who asked: a crowd shares one answer, and giving up takes no time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


_APART: set[asyncio.Task[Any]] = set()  # the loop itself keeps tasks alive only while somebody else does


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """Do it in a task of its own: whoever gives up waiting does not wait until a silent connection is closed, too."""
    task = asyncio.create_task(work)
    _APART.add(task)
    task.add_done_callback(_APART.discard)
    return await asyncio.shield(task)


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
