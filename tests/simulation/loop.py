"""An event loop without a clock of its own: time jumps to the next timer, and a seed decides who of the ready goes first.

Nothing here waits, reads or writes. The same seed therefore gives the same run, event for event. It does what asyncio's
own loop does and no more, because thousands of worlds live in it.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from itertools import count
from random import Random
from typing import Any

_Call = Callable[..., Any]


class _Handle:
    """Something that is going to happen; also what asyncio calls a timer."""

    __slots__ = ("_arguments", "_at_s", "_callback", "_context")

    def __init__(self, callback: _Call, arguments: tuple[Any, ...], context: Context | None, at_s: float) -> None:
        self._callback: _Call | None = callback
        self._arguments = arguments
        self._context = copy_context() if context is None else context
        self._at_s = at_s

    def cancel(self) -> None:
        self._callback = None
        self._arguments = ()

    def cancelled(self) -> bool:
        return self._callback is None

    def when(self) -> float:
        return self._at_s


class VirtualLoop(asyncio.BaseEventLoop):
    """`reason` is raised after the callback that gave one.

    A world in which more than `events_max` things happen within an hour goes round in circles, and is ended; one that waits
    for a slow bank for days, looking once a minute, is not.
    """

    # Generators that nobody finishes end with what holds them: nothing of a world is left to be tidied up later.
    _asyncgen_firstiter_hook = None
    _asyncgen_finalizer_hook = None

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._draw = random.random
        self.virtual_s = 0.0
        self._waiting: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._number = count()
        self.events = 0
        self.events_max = 0
        self._events_end = 0
        self._hour_ends_s = 0.0
        self.reason: BaseException | None = None
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        return self.virtual_s

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: _Call, *arguments: Any, context: Context | None = None) -> Any:
        handle = _Handle(callback, arguments, context, self.virtual_s)
        self._waiting.append(handle)
        return handle

    def call_later(self, delay: float, callback: _Call, *arguments: Any, context: Context | None = None) -> Any:
        return self.call_at(self.virtual_s + delay, callback, *arguments, context=context)

    def call_at(self, when: float, callback: _Call, *arguments: Any, context: Context | None = None) -> Any:
        handle = _Handle(callback, arguments, context, when)
        heapq.heappush(self._timers, (when, next(self._number), handle))
        return handle

    def run_forever(self) -> None:
        """Run one ready callback after the other, whichever the seed draws; when there is none, it is time for a timer."""
        ready, timers, draw = self._waiting, self._timers, self._draw
        self._events_end = self._events_end or self.events_max
        asyncio._set_running_loop(self)
        try:
            while not self._stopping:  # type: ignore[has-type]
                while timers and timers[0][0] <= self.virtual_s:
                    ready.append(heapq.heappop(timers)[2])
                if not ready:
                    self._jump()
                    continue
                if len(ready) > 1:
                    ready.rotate(-int(draw() * len(ready)))
                handle = ready.popleft()
                callback = handle._callback
                if callback is not None:
                    self.events += 1
                    handle._context.run(callback, *handle._arguments)
                    if self.reason is not None:
                        raise self.reason
                    if self.events == self._events_end and self.events_max:
                        raise RuntimeError("events without end")
        finally:
            self._stopping = False
            asyncio._set_running_loop(None)

    def _jump(self) -> None:
        """Let time go on to the next timer that somebody still waits for."""
        timers = self._timers
        while timers and timers[0][2]._callback is None:
            heapq.heappop(timers)
        if not timers:
            raise RuntimeError("everybody waits for ever")
        self.virtual_s = timers[0][0]
        if self.virtual_s >= self._hour_ends_s:
            self._events_end = self.events + self.events_max
            self._hour_ends_s = self.virtual_s + 3600
