"""When the garbage collector looks at how much: its pauses were the p99, and its work a tenth of a hold's processor time.

Nearly all that a request makes is let go of when nobody refers to it any more; only circles are left to the collector.
Looking for them while requests are in flight means to look at all that these have made, again and again, in vain.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.clock import Clock

# The fewer at once, the shorter a pause; and what has been looked at once is not looked at again before the process rests.
_YOUNG = 1_000
_NEVER = 1_000_000
LOOK_S = 15.0
_QUIET = 0.1  # of one core
_EVERY_S = 300.0
_AT_LATEST_S = 600.0


@contextmanager
def settled() -> Iterator[None]:
    """Take what start-up made out of the collector's sight, and let it look by itself only at what has just been made."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _NEVER, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class HeapBroom:
    """Looks at the whole heap in a moment in which the process rests; ten minutes without one, and it looks all the same.

    `spent_s` tells how much processor time this process has used, in seconds.
    """

    def __init__(self, clock: Clock, spent_s: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        self._spent_s = spent_s
        self._swept_at = clock.monotonic()
        self._looked = self._look()

    async def sweep(self) -> int:
        """Collect if the time since the last call was quiet, or for too long none was. Run by a ticker."""
        (before, spent_before), (now, spent) = self._looked, self._look()
        is_quiet = spent - spent_before < _QUIET * (now - before)
        since_s = now - self._swept_at
        if since_s >= _AT_LATEST_S or (is_quiet and since_s >= _EVERY_S):
            gc.collect()
            self._swept_at = now
        self._looked = self._look()
        return 0

    def _look(self) -> tuple[float, float]:
        return self._clock.monotonic(), self._spent_s()
