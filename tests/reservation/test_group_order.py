"""PostgreSQL has the next group before the one before is given its answers; nobody waits for their answer for a lock."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reservation_service.booking import group_admission
from reservation_service.booking.waiting_line import Waiting
from reservation_service.store.hold_lane import HoldLane
from tests.reservation.box_office import BoxOffice, open_box_office

_CROWD = 40


class Order:
    """In which order groups are written and answers are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self.told = asyncio.Event()
        take, answer = HoldLane.take, Waiting.answer

        async def taken(lane: HoldLane, batch: Sequence[Any], *, timeout_s: float) -> Any:
            self.seen.append("written")
            return await take(lane, batch, timeout_s=timeout_s)

        def answered(waiting: Waiting, row: Any) -> None:
            self.seen.append("told")
            self.told.set()
            answer(waiting, row)

        monkeypatch.setattr(HoldLane, "take", taken)
        monkeypatch.setattr(Waiting, "answer", answered)


@asynccontextmanager
async def _office(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[BoxOffice, Order]]:
    async with open_box_office(url) as office:
        yield office, Order(monkeypatch)


async def _crowd(office: BoxOffice, callers: int = _CROWD) -> None:
    offer = await office.offer(capacity=100)
    answers = await asyncio.gather(*(office.customer().hold(offer) for _ in range(callers)))
    assert {answer.status_code for answer in answers} == {201}


async def test_the_next_group_is_written_while_the_one_before_is_told(
    reservation_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else PostgreSQL has nothing to do for as long as a crowd is answered, which takes as long as to write a group."""
    monkeypatch.setattr(group_admission, "_UNTOLD_S", 60.0)
    async with _office(reservation_database_url, monkeypatch) as (office, order):
        await _crowd(office)
        assert order.seen[:3] == ["written", "written", "told"], order.seen
        assert order.seen.count("told") == _CROWD


async def test_who_is_alone_is_told_at_once(reservation_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no next group to wait for."""
    monkeypatch.setattr(group_admission, "_UNTOLD_S", 60.0)
    async with _office(reservation_database_url, monkeypatch) as (office, order):
        async with asyncio.timeout(30):
            await _crowd(office, callers=1)
        assert order.seen == ["written", "told"]


async def test_answers_do_not_wait_for_the_lock_of_the_next_group(
    reservation_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second group's lock is not to be had until the first group has its answers."""
    async with _office(reservation_database_url, monkeypatch) as (office, order):
        lock, asked = group_admission.lock_slots, 0

        async def locked(*what: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked == 2:
                await asyncio.wait_for(order.told.wait(), 30)
            return await lock(*what)

        monkeypatch.setattr(group_admission, "lock_slots", locked)
        await _crowd(office)
        assert order.seen[:2] == ["written", "told"], order.seen
        assert order.seen.count("told") == _CROWD
