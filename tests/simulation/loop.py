"""An event loop without a clock of its own: time jumps to the next timer, and a seed decides who of the ready goes first.

Nothing here waits, reads or writes. The same seed therefore gives the same run, event for event.
"""

import asyncio
import heapq
from collections.abc import Callable
from random import Random
from typing import Any


class VirtualLoop(asyncio.BaseEventLoop):
    """`after_event` is called after each callback; it is where the world looks at itself."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._virtual_s = 0.0
        self.events = 0
        self.after_event: Callable[[], None] = lambda: None
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        return self._virtual_s

    def _process_events(self, _events: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _run_once(self) -> None:
        """Run one ready callback, whichever the seed draws; when there is none, it is time for the next timer."""
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._virtual_s):
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        if not ready:
            if scheduled:
                self._virtual_s = scheduled[0]._when
                return
            raise RuntimeError("everybody waits for ever")
        if len(ready) > 1:
            ready.rotate(-self._random.randrange(len(ready)))
        handle = ready.popleft()
        if not handle._cancelled:
            self.events += 1
            handle._run()
            self.after_event()
