"""A thousand who come at once are heard a few at a time, in order, and whatever else is due gets its turn in between."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.clock import IN_A_TURN, a_few_in_a_turn
from shared.wire import _Turnstile

CROWD = 200


class Turns:
    """Counts the turns of the loop, and in which of them things happened."""

    def __init__(self) -> None:
        self.now = 0
        self.heard: list[tuple[int, int]] = []

    async def count(self) -> None:
        while True:
            self.now += 1
            await asyncio.sleep(0)

    def most_in_one(self) -> int:
        turns = [turn for turn, _ in self.heard]
        return max(turns.count(turn) for turn in turns)


class Connection:
    """Somebody with a request, who is heard when the turnstile lets them in."""

    def __init__(self, turns: Turns, number: int) -> None:
        self._turns = turns
        self._number = number

    def come(self, turnstile: _Turnstile, *, first: bool = False) -> None:
        if turnstile.lets_in():
            self.read_on()
        else:
            turnstile.wait(self, first=first)  # type: ignore[arg-type]  # all that it needs of a connection

    def read_on(self) -> None:
        self._turns.heard.append((self._turns.now, self._number))


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    turns = Turns()
    counting = asyncio.create_task(turns.count())
    yield turns
    counting.cancel()


async def heard(turns: Turns, count: int) -> list[int]:
    """Return who was heard, in order, once so many were."""
    async with asyncio.timeout(10):
        while len(turns.heard) < count:  # noqa: ASYNC110  turns are what is counted
            await asyncio.sleep(0)
    return [number for _, number in turns.heard]


async def test_a_crowd_is_heard_a_few_at_a_time(turns: Turns) -> None:
    """In the order in which it came; nobody is left in line, and the next crowd finds the turnstile as this one did."""
    turnstile = _Turnstile()
    for _ in range(2):
        turns.heard.clear()
        for number in range(CROWD):
            Connection(turns, number).come(turnstile)
        assert await heard(turns, CROWD) == list(range(CROWD))
        assert turns.most_in_one() <= 2 * IN_A_TURN  # some in what is left of this turn, some in the next
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_probes_go_before_a_crowd(turns: Turns) -> None:
    """Who is asked whether they live, in a rush, does not answer at the end of it."""
    turnstile = _Turnstile()
    for number in range(CROWD):
        Connection(turns, number).come(turnstile)
    Connection(turns, -1).come(turnstile, first=True)
    assert (await heard(turns, CROWD + 1)).index(-1) == IN_A_TURN


async def test_one_after_the_other_never_waits(turns: Turns) -> None:
    """The turnstile is for crowds: who comes alone is let in at once, however many came before."""
    turnstile = _Turnstile()
    for _ in range(5 * IN_A_TURN):
        assert turnstile.lets_in()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_many_are_woken_a_few_in_a_turn(turns: Turns) -> None:
    """Whoever waits for one of a hundred answers is not woken together with all others."""
    turns.heard = [(turns.now, one) async for one in a_few_in_a_turn(range(100))]
    assert [one for _, one in turns.heard] == list(range(100))
    assert turns.most_in_one() <= IN_A_TURN


def test_each_loop_has_its_own() -> None:
    """A turn that was due in a loop that has ended keeps nobody out of the next one."""

    async def crowd() -> list[bool]:
        turnstile: Any = _Turnstile()
        return [turnstile.lets_in() for _ in range(IN_A_TURN + 1)]

    assert asyncio.run(crowd()) == asyncio.run(crowd()) == [True] * IN_A_TURN + [False]
