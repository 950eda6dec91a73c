"""Questions to the database that run apart from who asked: a crowd shares one answer, and giving up takes no time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from shared.clock import a_few_in_a_turn

T = TypeVar("T")


_APART: set[asyncio.Task[Any]] = set()  # the loop itself keeps tasks alive only while somebody else does


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """Do it in a task of its own: whoever gives up waiting does not wait until a silent connection is closed, too."""
    task = asyncio.create_task(work)
    _APART.add(task)
    task.add_done_callback(_APART.discard)
    return await asyncio.shield(task)


class OneFlight(Generic[T]):
    """Runs `ask` at most once at a time for each id. Whoever gives up waiting leaves the others their answer.

    A crowd hears it a few at a time: who stood before a full slot has a refusal to write, and a thousand of them would
    keep the loop for a tenth of a second.
    """

    def __init__(self, ask: Callable[[UUID], Awaitable[T]]) -> None:
        self._ask = ask
        self._waiting: dict[UUID, list[asyncio.Future[T]]] = {}
        self._flights: set[asyncio.Task[None]] = set()

    async def answer(self, about: UUID) -> T:
        """Return what `ask` says, or raise what it raises."""
        landing: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if about in self._waiting:
            self._waiting[about].append(landing)
        else:
            self._waiting[about] = [landing]
            flight = asyncio.create_task(self._fly(about))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        return await landing

    async def _fly(self, about: UUID) -> None:
        tell: Callable[[asyncio.Future[T]], None]
        try:
            tell = partial(_found, await self._ask(about))
        except Exception as error:  # noqa: BLE001  it is the error of whoever asked
            tell = partial(_failed, error)
        finally:
            waiting = self._waiting.pop(about)
        async for landing in a_few_in_a_turn(waiting):
            if not landing.done():
                tell(landing)


def _found(found: T, landing: asyncio.Future[T]) -> None:
    landing.set_result(found)


def _failed(error: Exception, landing: asyncio.Future[Any]) -> None:
    landing.set_exception(error)
