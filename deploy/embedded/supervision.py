"""What happens when a part dies while the stack is up: it is started again, a few times, then the whole stack stops.

A part that keeps dying has a reason that a restart does not cure; going on would only hide it.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from deploy.embedded.processes import StartFailed

RESTARTS = 3
WITHIN_S = 60.0


class Supervised(Protocol):
    """The side of the stack that supervision needs."""

    def parts(self) -> tuple[str, ...]: ...
    def alive(self, name: str) -> bool: ...
    def restart(self, name: str) -> None: ...
    def log_tail(self, name: str, lines: int = 40) -> str: ...


class Supervision:
    """Look with `check()` now and then; at most RESTARTS restarts of one part within WITHIN_S seconds."""

    def __init__(
        self, stack: Supervised, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stack = stack
        self._say = say
        self._clock = clock
        self._restarts: dict[str, deque[float]] = {}

    def check(self) -> bool:
        """Start dead parts again; return whether there were any. Raises StartFailed when one is beyond help."""
        dead = [name for name in self._stack.parts() if not self._stack.alive(name)]
        for name in dead:
            self._spend_restart(name)
            self._say(f"{name} died; starting it again")
            self._stack.restart(name)
            self._say(f"{name} is ready again")
        return bool(dead)

    def _spend_restart(self, name: str) -> None:
        now = self._clock()
        recent = self._restarts.setdefault(name, deque())
        while recent and now - recent[0] > WITHIN_S:
            recent.popleft()
        if len(recent) >= RESTARTS:
            raise StartFailed(
                f"{name} died again after {RESTARTS} restarts within {WITHIN_S:.0f} s; its log ends with:\n"
                f"{self._stack.log_tail(name)}"
            )
        recent.append(now)
