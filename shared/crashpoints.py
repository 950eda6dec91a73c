"""Names every durable boundary, so that a test can kill the process at exactly that line.

A crash point costs one comparison when nothing is armed. Names are literals: `tests/architecture` reads them
from the source, so the list of places where a process may die is always complete.
"""

import os
import signal
from collections.abc import Callable
from types import TracebackType


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


class external_call:  # noqa: N801  read as the statement that it makes with `async with`
    """Put a crash point before and after a call that leaves the process; a generator would cost ten times as much."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    async def __aenter__(self) -> None:
        crashpoint(f"{self._name}.before")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None:
            crashpoint(f"{self._name}.after")
