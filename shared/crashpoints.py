"""Names every durable boundary, so that a test can kill the process at exactly that line.

A crash point costs one comparison when nothing is armed. Names are literals: `tests/architecture` reads them
from the source, so the list of places where a process may die is always complete.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Armed:
    """The one point of this process that is armed, and how many passes it still lets through."""

    def __init__(self, spec: str) -> None:
        name, _, passes = spec.partition("#")
        self.name = name
        self.passes_left = int(passes or 1)
        self.act: Callable[[], None] = _die

    def reached(self) -> None:
        self.passes_left -= 1
        if self.passes_left == 0:
            self.act()


_armed: _Armed | None = _Armed(os.environ["HOLDFAST_CRASH_AT"]) if os.environ.get("HOLDFAST_CRASH_AT") else None


def arm(spec: str | None, act: Callable[[], None] = _die) -> None:
    """Arm `name` or `name#n` (die at the n-th pass); `None` disarms. `HOLDFAST_CRASH_AT` does it at start-up."""
    global _armed  # noqa: PLW0603  one process dies at one place
    _armed = _Armed(spec) if spec else None
    if _armed:
        _armed.act = act


def crashpoint(name: str) -> None:
    """Die here if this point is armed."""
    if _armed is not None and _armed.name == name:
        _armed.reached()


@asynccontextmanager
async def external_call(name: str) -> AsyncIterator[None]:
    """Put a crash point before and after a call that leaves the process."""
    crashpoint(f"{name}.before")
    yield
    crashpoint(f"{name}.after")
