"""A thousand who come at once are begun a few at a time, in order, and whatever else is due gets its turn in between."""

import asyncio
from typing import Any

import pytest

from shared.clock import IN_A_TURN, a_few_in_a_turn
from shared.http_edge import ARRIVED_AT, Turnstile

CROWD = 200


class Begun:
    """An app that notes who was begun, and in which turn of the loop."""

    def __init__(self) -> None:
        self.turn = 0
        self.order: list[tuple[int, str]] = []
        self.arrived: list[float] = []

    async def __call__(self, scope: Any, _receive: Any, _send: Any) -> None:
        if scope["type"] == "http":
            self.order.append((self.turn, scope["path"]))
            self.arrived.append(scope[ARRIVED_AT])

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


async def come(app: Turnstile, paths: list[str]) -> list[asyncio.Task[None]]:
    async def nothing(*_args: Any) -> Any:
        raise AssertionError("nobody reads or answers here")

    return [asyncio.create_task(app({"type": "http", "path": path}, nothing, nothing)) for path in paths]


@pytest.fixture
async def begun() -> Any:
    begun = Begun()
    counting = asyncio.create_task(begun.count_turns())
    yield begun
    counting.cancel()


async def test_a_crowd_is_begun_a_few_at_a_time(begun: Begun) -> None:
    """In the order in which it came; nobody is left in line."""
    app = Turnstile(begun)
    for _ in range(2):  # the second crowd finds the turnstile as the first one has
        begun.order.clear()
        await asyncio.gather(*await come(app, [f"/{number}" for number in range(CROWD)]))
        assert [path for _, path in begun.order] == [f"/{number}" for number in range(CROWD)]
        turns = [turn for turn, _ in begun.order]
        assert max(turns.count(turn) for turn in turns) <= 2 * IN_A_TURN
        assert len(set(turns)) >= CROWD // (2 * IN_A_TURN)


async def test_a_wait_in_line_is_part_of_an_answers_time(begun: Begun) -> None:
    """All of them came before the first one was begun, and their scopes say so."""
    tasks = await come(Turnstile(begun), [f"/{number}" for number in range(CROWD)])
    await asyncio.gather(*tasks)
    assert begun.arrived == sorted(begun.arrived)
    assert begun.order[-1][0] - begun.order[0][0] > CROWD // (2 * IN_A_TURN) - 2
    assert begun.arrived[-1] - begun.arrived[0] < 1


async def test_probes_go_before_a_crowd(begun: Begun) -> None:
    """Who is asked whether they live, in a rush, is not asked at the end of it."""
    tasks = await come(Turnstile(begun), [f"/{number}" for number in range(CROWD)] + ["/livez"])
    await asyncio.gather(*tasks)
    place = [path for _, path in begun.order].index("/livez")
    assert place <= 2 * IN_A_TURN


async def test_who_was_called_off_in_line_takes_nobodys_place(begun: Begun) -> None:
    """The server ends, or a test's time is over: those behind are begun all the same."""
    tasks = await come(Turnstile(begun, in_a_turn=1), [f"/{number}" for number in range(20)])
    await asyncio.sleep(0)
    for task in tasks[5:15]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [path for _, path in begun.order] == [f"/{number}" for number in (*range(5), *range(15, 20))]


async def test_lifespan_passes(begun: Begun) -> None:
    """What is no request is nobody's crowd."""
    app = Turnstile(begun, in_a_turn=1)
    await app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert begun.order == []


async def test_many_are_woken_a_few_in_a_turn(begun: Begun) -> None:
    """Whoever waits for one of a hundred answers is not woken together with all others."""
    woken = [(begun.turn, one) async for one in a_few_in_a_turn(range(100))]
    assert [one for _, one in woken] == list(range(100))
    turns = [turn for turn, _ in woken]
    assert max(turns.count(turn) for turn in turns) <= IN_A_TURN
