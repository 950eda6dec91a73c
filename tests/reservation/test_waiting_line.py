"""The line before admission: fair between slots, in order within one, and it forgets who has gone."""

import asyncio
from typing import Any
from uuid import UUID

from reservation_service.booking.waiting_line import Waiting, WaitingLine


class Wish:
    """As much of a hold as the line looks at."""

    def __init__(self, slot: int, number: int) -> None:
        self.time_slot_id = UUID(int=slot)
        self.number = number


def waiting(slot: int, number: int) -> Waiting:
    wish: Any = Wish(slot, number)
    return Waiting(wish, asyncio.get_running_loop().create_future(), until=0.0)


def numbers(group: list[Waiting]) -> list[tuple[int, int]]:
    wishes: list[Any] = [one.new for one in group]
    return [(wish.time_slot_id.int, wish.number) for wish in wishes]


async def test_a_crowd_at_one_slot_lets_the_others_pass() -> None:
    """K09: a thousand wait for slot 9, then one each for slots 1 to 5: all five are in the very next group."""
    line = WaitingLine()
    for number in range(1000):
        line.append(waiting(9, number))
    for slot in range(1, 6):
        line.append(waiting(slot, 0))
    group = numbers(line.next_group(10))
    assert group == [(slot, 0) for slot in range(1, 6)] + [(9, number) for number in range(5)]
    assert len(line) == 995


async def test_more_slots_than_places_take_turns() -> None:
    """K09: with more slots than a group has places, no slot is served twice before each was served once."""
    line = WaitingLine()
    for number in range(2):
        for slot in range(7):
            line.append(waiting(slot, number))
    served = [one for _ in range(4) for one in numbers(line.next_group(4))]
    assert {(slot, 0) for slot in range(7)} <= set(served[:8])
    assert len(served) == 14
    assert len(line) == 0


async def test_a_group_is_in_the_order_of_slots() -> None:
    """P03: every group locks its slots in ascending order, whatever order they came in."""
    line = WaitingLine()
    for slot in (5, 1, 4, 1, 3):
        line.append(waiting(slot, 0))
    assert [slot for slot, _ in numbers(line.next_group(256))] == [1, 1, 3, 4, 5]


async def test_who_is_put_back_goes_first() -> None:
    """K09: a group that could not be written keeps its turn, and each slot its order."""
    line = WaitingLine()
    for number in range(4):
        line.append(waiting(1, number))
    group = line.next_group(3)
    line.put_back(group)
    assert len(line) == 4
    assert numbers(line.next_group(4)) == [(1, number) for number in range(4)]


async def test_who_has_gone_has_no_turn() -> None:
    """K09: a caller who gave up is dropped, and does not use up a place."""
    line, gone = WaitingLine(), waiting(1, 0)
    line.append(gone)
    line.append(waiting(1, 1))
    gone.outcome.cancel()
    assert numbers(line.next_group(1)) == [(1, 1)]
    assert len(line) == 0


async def test_one_slot_leaves_the_line() -> None:
    """K09: those of a slot that turns out to be locked are taken out, in order; the others stay where they were."""
    line = WaitingLine()
    for slot, number in ((1, 0), (2, 0), (1, 1)):
        line.append(waiting(slot, number))
    assert numbers(list(line.take_out(UUID(int=1)))) == [(1, 0), (1, 1)]
    assert not line.take_out(UUID(int=7))
    assert len(line) == 1
    assert numbers(line.next_group(5)) == [(2, 0)]
