"""A process whose clock is wrong serves the same holds as one whose clock is right: the database's clock decides."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from shared.clock import SystemClock
from tests.answers import answered, refused
from tests.reservation.box_office import open_box_office
from tests.scenarios import fired

TTL_S = 300


class WrongClock(SystemClock):
    """A clock that runs as any other, some minutes away from the truth."""

    def __init__(self, off: timedelta) -> None:
        self._off = off
        self.asked = 0

    def now(self) -> datetime:
        self.asked += 1
        return super().now() + self._off


@pytest.mark.parametrize("minutes", [10, -10])
async def test_a_wrong_clock_ends_no_hold_early_or_late(module_database_url: str, minutes: int) -> None:
    """T05, I23: ten minutes ahead or behind: a hold lives as long as it was promised, and is over when it is over."""
    clock = WrongClock(timedelta(minutes=minutes))
    async with open_box_office(module_database_url, clock=clock) as office:
        offer, guest = await office.offer(capacity=4), office.customer()
        made = await guest.hold(offer, 2, ttl_seconds=TTL_S)
        living = answered(made, 201)
        assert 0 < int(made.headers["expires-in-ms"]) <= TTL_S * 1000
        assert await office.sweep() == 0
        assert answered(await guest.see_hold(living["id"]))["status"] == "active"
        assert (await guest.convert(living["id"])).status_code == 201

        over = answered(await guest.hold(offer, 2, ttl_seconds=TTL_S), 201)
        await office.let_expire(over["id"])
        assert await office.free(offer) == 2
        refused(await guest.convert(over["id"]), 410, "HOLD_EXPIRED")
        assert await office.sweep() == 1
        rows = await office.sql("SELECT status FROM reservations WHERE id = :id", id=UUID(over["id"]))
        assert [row["status"] for row in rows] == ["expired"]
        fired("T05", clock.asked)
        await office.assert_consistent()
