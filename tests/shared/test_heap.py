"""The collector's work: little while requests are in flight, all of it when the process rests."""

import gc
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest

from shared import heap
from shared.clock import SystemClock

MINUTE_S = 60.0


class Hands(SystemClock):
    """A clock, and the processor time of a process, that are moved by hand."""

    def __init__(self) -> None:
        self.s = 1000.0
        self.spent_s = 7.0

    def monotonic(self) -> float:
        return self.s

    def spent(self) -> float:
        return self.spent_s

    def go_by(self, seconds: float, *, busy: float) -> None:
        self.s += seconds
        self.spent_s += seconds * busy


class Circle:
    """Refers to itself, so only the collector can let go of it."""

    def __init__(self) -> None:
        self.me: Any = self


@pytest.fixture
def settled() -> Iterator[None]:
    """Let the collector rest as a running service does."""
    with heap.settled():
        yield


def left_behind(circles: int = 20_000) -> "ref[Circle]":
    """Make circles that nobody needs, so many that the collector has looked at the first one while it was in use."""
    first = Circle()
    others = [Circle() for _ in range(circles)]
    assert others
    return ref(first)


@pytest.mark.usefixtures("settled")
async def test_what_goes_round_is_let_go_when_the_process_rests() -> None:
    """A busy process is not stopped for it; five minutes after the last look the first quiet quarter of a minute is used."""
    hands = Hands()
    broom = heap.HeapBroom(hands, hands.spent)
    circle = left_behind()
    for _ in range(30):
        hands.go_by(heap.LOOK_S, busy=0.9)
        await broom.sweep()
    assert circle() is not None
    hands.go_by(heap.LOOK_S, busy=0.05)
    await broom.sweep()
    assert circle() is None
    circle = left_behind()
    hands.go_by(4 * MINUTE_S, busy=0)
    await broom.sweep()
    assert circle() is not None, "it rests, and looked four minutes ago"
    hands.go_by(MINUTE_S, busy=0)
    await broom.sweep()
    assert circle() is None


@pytest.mark.usefixtures("settled")
async def test_a_process_that_never_rests_is_tidied_every_ten_minutes() -> None:
    """What goes round may not grow for ever: better a pause than no memory."""
    hands = Hands()
    broom = heap.HeapBroom(hands, hands.spent)
    circle = left_behind()
    hands.go_by(9 * MINUTE_S, busy=1)
    await broom.sweep()
    assert circle() is not None
    hands.go_by(MINUTE_S, busy=1)
    await broom.sweep()
    assert circle() is None


def test_the_collector_is_left_as_it_was() -> None:
    """A process may run more than one app, as tests do: each leaves the collector to the next one as it found it."""
    before = gc.get_threshold()
    with heap.settled():
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
