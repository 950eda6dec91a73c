"""The sandbox's own time, which a test may move forward: a capture window of seven days passes in one call.

Deliveries and their signatures stay on the machine's clock, because their receivers live in real time.
"""

import time
from collections.abc import Callable

from .state import State


class SandboxClock:
    """The machine's clock plus an offset that is kept in the state."""

    def __init__(self, state: State, wall: Callable[[], float] = time.time) -> None:
        self._state = state
        self._wall = wall
        self._offset_s = int(state.noted("clock_offset_s", "0"))

    def now(self) -> int:
        """Return the sandbox's time in whole seconds since 1970, as Stripe writes it."""
        return int(self._wall()) + self._offset_s

    def wall(self) -> float:
        """Return the machine's time in seconds since 1970."""
        return self._wall()

    def advance(self, seconds: int) -> None:
        self._offset_s += seconds
        self._state.note("clock_offset_s", str(self._offset_s))
