"""Lets a forked child live through a story, and die by SIGKILL at exactly one point of it."""

import json
import os
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

from shared import crashpoints

_LIFETIME_S = 160
_ALONE_WITHIN_S = 2.0


@dataclass(frozen=True)
class End:
    """How a child ended. `killed_at` is written by the dying child itself, in its last act."""

    signal: int
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def killed_at(self) -> str | None:
        return self.told.get("killed_at") if self.signal == signal.SIGKILL else None


class Passes:
    """Stands where an armed point would, and counts how often each point is passed."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    @property
    def name(self) -> "Passes":
        return self

    def __eq__(self, point: object) -> bool:
        """Be asked "are you this point?" at every point, and say no."""
        self.counted[str(point)] += 1
        return False

    __hash__ = None  # type: ignore[assignment]  # it is compared, never kept in a set

    @classmethod
    def counting(cls) -> "Passes":
        """Count from now on, in this process."""
        passes = cls()
        crashpoints._armed = cast(Any, passes)
        return passes


Leave = Callable[[dict[str, Any]], NoReturn]
Life = Callable[[Leave], None]


def fork(life: Life, log: Path, *, die_at: str | None = None) -> End:
    """Fork a child that runs `life` until it leaves with something to tell, or comes to `die_at` (`name#n`).

    Nobody but this thread may be alive: a lock held by another one would stay locked in the child for ever.
    """
    _be_alone()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _live(life, log, writing, die_at)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return End(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, json.loads(told or b"{}"))


def _be_alone() -> None:
    """Wait for timers that the apps' construction has set going; they end by themselves."""
    end = time.monotonic() + _ALONE_WITHIN_S
    while threading.active_count() > 1:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.005)


def _live(life: Life, log: Path, writing: int, die_at: str | None) -> NoReturn:
    """Never return into the parent's code: whatever happens ends here."""
    signal.alarm(_LIFETIME_S)
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)

    def leave(told: dict[str, Any]) -> NoReturn:
        _tell(told, writing)
        os._exit(0)

    try:
        if die_at:
            crashpoints.arm(die_at, lambda: _die(die_at, writing))
        life(leave)
        raise AssertionError("a life ends by leaving")
    except BaseException as error:  # noqa: BLE001  the parent wants to know of everything
        traceback.print_exc()
        leave({"failed": f"{type(error).__name__}: {error}"})


def _die(point: str, writing: int) -> None:
    _tell({"killed_at": point}, writing)
    os.kill(os.getpid(), signal.SIGKILL)


def _tell(told: dict[str, Any], writing: int) -> None:
    os.write(writing, json.dumps(told).encode())
