"""Processes that die: tasks that belong together, a way to kill them all at once, and the points at which that happens.

A process is its tasks and what they hold in memory; its database outlives it. Whoever is killed does nothing any more:
its tasks are thrown away, and the ways out of the process (database, wire) are closed behind it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from shared import crashpoints

CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Died(BaseException):
    """Thrown into whatever a killed process was doing; nothing of the product catches it."""


class NotConnected(Exception):
    """Nobody was there; not a byte has left."""


class Cut(Exception):
    """The connection ended without an answer; whether anything arrived is not known."""


class Doing:
    """Something that a process does because somebody outside asked for it."""

    def __init__(self, task: asyncio.Task[Any], forget: Callable[[asyncio.Task[Any]], Any]) -> None:
        self._task = task
        self._forget = forget

    def then(self, tell: Callable[[Any, BaseException | None], None]) -> None:
        """Tell what came of it, or how it failed: with Cut when the process died of it."""

        def ended(task: asyncio.Task[Any]) -> None:
            self._forget(task)
            error = Cut() if task.cancelled() else task.exception()
            if error is None:
                tell(task.result(), None)
            else:
                tell(None, Cut() if isinstance(error, Died) else error)

        self._task.add_done_callback(ended)


class Process:
    """One process of a service. `on_bug` is told of an exception that nobody expected."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, on_bug: Callable[[BaseException], None]) -> None:
        self.name = name
        self.alive = True
        self.thaws_at_s = 0.0
        self.work: Any = None
        self.drivers: dict[str, Any] = {}
        self._loop = loop
        self._on_bug = on_bug
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._context = contextvars.copy_context()
        self._context.run(CURRENT.set, self)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Let the process do something."""
        return self._loop.create_task(work, context=self._context.copy())

    def serve(self, work: Coroutine[Any, Any, Any]) -> Doing:
        """Let the process do something that somebody outside waits for."""
        task = asyncio.Task(work, loop=self._loop, context=self._context.copy())
        self._tasks[task] = None
        return Doing(task, self._tasks.pop)

    def at(self, when_s: float, act: Callable[[], None]) -> Any:
        """Let the process act at an instant; returns what can be cancelled."""
        return self._loop.call_at(when_s, act, context=self._context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            self._on_bug(error)

    def kill(self) -> None:
        """End here and now."""
        self.alive = False
        for driver in self.drivers.values():
            driver.stop()
        for task in list(self._tasks):
            task.cancel()

    def freeze(self, for_s: float) -> None:
        """Stand still, like a process that was stopped, and go on as if nothing had happened."""
        self.thaws_at_s = self._loop.time() + for_s

    async def pass_out(self) -> None:
        """Stand at the way out of the process: nobody passes who is dead, and who is frozen waits."""
        if not self.alive:
            raise Died
        while self.thaws_at_s and self.thaws_at_s > self._loop.time():
            await asyncio.sleep(self.thaws_at_s - self._loop.time())
            if not self.alive:
                raise Died


async def pass_out() -> None:
    """Let the process that runs here come to the outside, if it may."""
    process = CURRENT.get()
    if process is not None:
        await process.pass_out()


def task_factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task, and let it belong to the process that made it."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    context = options.get("context")
    process = CURRENT.get() if context is None else context.get(CURRENT)
    if process is not None:
        process.adopt(task)
    return task


class Points:
    """Stands where an armed crash point would: `reached` is told of each one that a process passes, and may kill it."""

    def __init__(self, reached: Callable[[Process, str], bool]) -> None:
        self._reached = reached

    @property
    def name(self) -> Points:
        return self

    def __eq__(self, point: object) -> bool:
        process = CURRENT.get()
        if process is None:
            return False
        if not process.alive:
            raise Died
        return self._reached(process, str(point))

    __hash__ = None  # type: ignore[assignment]  # it is compared, never kept in a set

    def reached(self) -> None:
        """Die: the product's own crash point has found itself armed."""
        process = CURRENT.get()
        if process is not None:
            process.kill()
        raise Died

    def arm(self) -> None:
        crashpoints._armed = self  # type: ignore[assignment]
