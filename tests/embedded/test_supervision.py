"""A part that dies is started again, and one that keeps dying ends the run instead of hiding its reason."""

import pytest

from deploy.embedded.processes import StartFailed
from deploy.embedded.supervision import RESTARTS, WITHIN_S, Supervision


class _Parts:
    """A stack of one part that is as alive as the test says."""

    def __init__(self) -> None:
        self.is_alive = True
        self.restarted = 0

    def parts(self) -> tuple[str, ...]:
        return ("payment",)

    def alive(self, name: str) -> bool:
        return self.is_alive

    def restart(self, name: str) -> None:
        self.restarted += 1

    def log_tail(self, name: str, lines: int = 40) -> str:
        return "its last words"


def test_a_dead_part_is_started_again_and_told() -> None:
    """One death is one restart and two lines; a living part costs nothing."""
    parts, said = _Parts(), list[str]()
    supervision = Supervision(parts, said.append, clock=lambda: 0.0)
    assert not supervision.check()
    parts.is_alive = False
    assert supervision.check()
    assert (parts.restarted, len(said)) == (1, 2)


def test_a_part_that_keeps_dying_ends_the_run() -> None:
    """After the last restart within the window the failure carries the log."""
    parts = _Parts()
    parts.is_alive = False
    supervision = Supervision(parts, lambda _line: None, clock=lambda: 0.0)
    for _ in range(RESTARTS):
        supervision.check()
    with pytest.raises(StartFailed, match="its last words"):
        supervision.check()
    assert parts.restarted == RESTARTS


def test_old_deaths_are_forgiven() -> None:
    """A part that dies now and then over days is started again each time."""
    parts, now = _Parts(), [0.0]
    parts.is_alive = False
    supervision = Supervision(parts, lambda _line: None, clock=lambda: now[0])
    for _ in range(RESTARTS * 3):
        supervision.check()
        now[0] += WITHIN_S
    assert parts.restarted == RESTARTS * 3
