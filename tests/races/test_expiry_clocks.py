"""A host's clock is wrong: seats are held and freed by the database's clock all the same."""

from datetime import datetime, timedelta

import pytest

from shared.clock import SystemClock
from tests.answers import answered, refused
from tests.reservation.box_office import open_box_office
from tests.scenarios import fired


class WrongClock(SystemClock):
    """A clock that is off by minutes."""

    def __init__(self, off_by: timedelta) -> None:
        self.off_by = off_by
        self.asked = 0

    def now(self) -> datetime:
        self.asked += 1
        return super().now() + self.off_by


@pytest.mark.parametrize("minutes", [10, -10])
async def test_a_wrong_clock_frees_no_seat_early_and_none_late(reservation_database_url: str, minutes: int) -> None:
    """T05, I23: two hosts, one of them ten minutes off: both agree about what is held, what is due, and what is free."""
    clock = WrongClock(timedelta(minutes=minutes))
    async with (
        open_box_office(reservation_database_url) as right,
        open_box_office(reservation_database_url, clock=clock) as wrong,
    ):
        offer = await right.offer(capacity=2)
        guests = [office.customer(f"guest-{minutes}-{n}") for n, office in enumerate((right, wrong))]
        holds = [answered(await guest.hold(offer, ttl_seconds=300), 201) for guest in guests]
        await wrong.sweep()
        for office in (right, wrong):
            assert await office.free(offer) == 0
            refused(await office.customer().hold(offer), 409, "SLOT_UNAVAILABLE")
        shown = await guests[1].see_hold(holds[1]["id"])
        assert answered(shown)["status"] == "active"
        assert 290_000 < int(shown.headers["expires-in-ms"]) <= 300_000

        await right.let_expire(holds[0]["id"])
        assert await wrong.free(offer) == 1
        refused(await wrong.customer(f"guest-{minutes}-0").convert(holds[0]["id"]), 410, "HOLD_EXPIRED")
        assert answered(await guests[1].convert(holds[1]["id"]), 201)["status"] == "pending"
        answered(await wrong.customer().ask("POST", "/v1/guest-sessions"), 201)  # this one does look at the clock
        fired("T05", clock.asked)
        for office in (right, wrong):
            await office.assert_consistent()
