"""One question for a crowd: everybody hears what came of it, a few at a time, and nobody waits for who gave up."""

import asyncio
from uuid import UUID, uuid4

import pytest

from reservation_service.booking.one_flight import OneFlight
from shared.clock import IN_A_TURN

CROWD = 100


class Desk:
    """Answers when it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[UUID] = []
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def ask(self, about: UUID) -> int:
        self.asked.append(about)
        number = len(self.asked)
        await self.may_answer.wait()
        if self.error:
            raise self.error
        return number


async def test_a_crowd_shares_one_answer_and_hears_it_a_few_at_a_time() -> None:
    """One question each for two ids, and between the wakings others have their turn."""
    desk, one, other = Desk(), uuid4(), uuid4()
    flights, turn, heard = OneFlight(desk.ask), 0, list[int]()

    async def wait(about: UUID) -> int:
        found = await flights.answer(about)
        heard.append(turn)
        return found

    waiting = [asyncio.create_task(wait(one)) for _ in range(CROWD)] + [asyncio.create_task(wait(other))]
    await asyncio.sleep(0)
    desk.may_answer.set()
    while len(heard) <= CROWD:
        turn += 1
        await asyncio.sleep(0)
    assert [task.result() for task in waiting] == [1] * CROWD + [2]
    assert desk.asked == [one, other]
    assert max(heard.count(turn) for turn in heard) <= IN_A_TURN + 1
    assert await flights.answer(one) == 3, "the next one asks anew"


async def test_an_error_is_everybodys() -> None:
    """And the next question is another one."""
    desk, about = Desk(), uuid4()
    flights = OneFlight(desk.ask)
    desk.error = ValueError("no")
    desk.may_answer.set()
    found = await asyncio.gather(*(flights.answer(about) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [ValueError] * 3
    desk.error = None
    assert await flights.answer(about) == 2


async def test_who_gives_up_leaves_the_others_their_answer() -> None:
    """Also the one who has asked first."""
    desk, about = Desk(), uuid4()
    flights = OneFlight(desk.ask)
    first, second = asyncio.create_task(flights.answer(about)), asyncio.create_task(flights.answer(about))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    desk.may_answer.set()
    assert await second == 1
    assert desk.asked == [about]
