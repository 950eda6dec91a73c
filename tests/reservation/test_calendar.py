"""The calendar speaks of the experience's own days, whatever its clocks do, and of seats that can be had now."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event

from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice, Offer
from tests.scenarios import fired

FAR = 2028  # a leap year that is still to come


async def departure(office: BoxOffice, offer: Offer, starts_at: str, *, capacity: int = 8) -> Any:
    """Add a departure of two hours at an instant."""
    ends_at = (datetime.fromisoformat(starts_at) + timedelta(hours=2)).isoformat()
    body = {"experience_id": offer.experience_id, "starts_at": starts_at, "ends_at": ends_at, "capacity": capacity}
    return answered(await office.operator().ask("POST", "/admin/v1/time-slots", json=body), 201)


async def days(office: BoxOffice, offer: Offer, first: str, last: str, **query: Any) -> dict[str, Any]:
    """Return the calendar's days by date."""
    asked = {"from": first, "to": last, **query}
    answer = await office.http.get(f"/v1/experiences/{offer.experience_id}/calendar", params=asked)
    return {day["date"]: day for day in answered(answer)["days"]}


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Lisbon", date(FAR, 3, 26), 23),
        ("Europe/Lisbon", date(FAR, 10, 29), 25),
        ("America/Santiago", date(FAR, 9, 3), 23),  # clocks jump at midnight: this day begins at one o'clock
        ("Pacific/Kiritimati", date(FAR, 12, 31), 24),  # +14
        ("Pacific/Pago_Pago", date(FAR, 2, 29), 24),  # -11
    ],
)
async def test_a_day_has_exactly_its_own_hours(office: BoxOffice, zone: str, day: date, hours: int) -> None:
    """T07, T09, I28, peers B6.80: every hour from the first to the last of a local day stands on that day, none beyond it.

    Days of 23 and 25 hours, leap day, year's end, and zones at the ends of the world.
    """
    offer = await office.offer(time_zone=zone)
    local = ZoneInfo(zone)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=local).astimezone(UTC)
    instants = [noon + timedelta(hours=hour) for hour in range(-20, 21)]
    for instant in instants:
        slot = await departure(office, offer, instant.isoformat(), capacity=1)
        assert datetime.fromisoformat(slot["local_start"]) == instant == datetime.fromisoformat(slot["starts_at"])
        assert datetime.fromisoformat(slot["local_start"]).utcoffset() == instant.astimezone(local).utcoffset()
    shown = await days(office, offer, str(day), str(day), slots=True)
    assert [*shown] == [str(day)]
    assert shown[str(day)]["vacancies"] == hours
    starts = [slot["local_start"] for slot in shown[str(day)]["slots"]]
    assert len(set(starts)) == hours
    assert all(start.startswith(str(day)) for start in starts)
    around = await days(office, offer, str(day - timedelta(days=1)), str(day + timedelta(days=1)))
    assert sum(one["vacancies"] for one in around.values()) == len(instants)
    listed = answered(await office.http.get("/v1/time-slots", params=_of(offer, day)))
    assert len(listed["data"]) == hours
    fired("T07" if hours != 24 else "T09", 1)


def _of(offer: Offer, day: date) -> dict[str, str]:
    return {"experience_id": offer.experience_id, "date": str(day), "limit": "100"}


async def test_the_hour_that_comes_twice_and_the_one_that_never_comes(office: BoxOffice) -> None:
    """T07, I28: an overlap's two hours are two instants with two offsets; a local time without offset is refused."""
    offer = await office.offer(time_zone="Europe/Lisbon")
    first = await departure(office, offer, f"{FAR}-10-29T01:30:00+01:00")
    second = await departure(office, offer, f"{FAR}-10-29T01:30:00+00:00")
    assert first["starts_at"] == f"{FAR}-10-29T00:30:00Z"
    assert second["starts_at"] == f"{FAR}-10-29T01:30:00Z"
    assert [slot["local_start"] for slot in (first, second)] == [
        f"{FAR}-10-29T01:30:00+01:00",
        f"{FAR}-10-29T01:30:00+00:00",
    ]
    gap = await departure(office, offer, f"{FAR}-03-26T01:30:00+00:00")
    assert gap["local_start"] == f"{FAR}-03-26T02:30:00+01:00"
    naive = {
        "experience_id": offer.experience_id,
        "starts_at": f"{FAR}-03-26T01:30:00",
        "ends_at": f"{FAR}-03-26T04:30:00",
        "capacity": 1,
    }
    refused(await office.operator().ask("POST", "/admin/v1/time-slots", json=naive), 422, "VALIDATION_FAILED")


async def test_what_a_day_is_called(office: BoxOffice) -> None:
    """Available, limited at a quarter, sold out, closed; lapsed holds count as free; a party needs one slot for itself."""
    offer = await office.offer(prices={"adult": (4500, 1), "baby": (0, 0), "pair": (4000, 2)})
    slot = await departure(office, offer, f"{FAR}-06-01T10:00:00Z", capacity=8)
    other = await departure(office, offer, f"{FAR}-06-01T15:00:00Z", capacity=8)
    here = Offer(slot["id"], offer.experience_id, offer.tickets)
    there = Offer(other["id"], offer.experience_id, offer.tickets)

    async def day(**query: Any) -> Any:
        return (await days(office, offer, f"{FAR}-06-01", f"{FAR}-06-02", **query))[f"{FAR}-06-01"]

    seen = await day()
    assert (seen["status"], seen["vacancies"]) == ("available", 16)
    assert seen["price_from"] == {"amount": 4000, "currency": "EUR"}  # the baby takes no seat
    hold = answered(await office.customer().hold(here, 8), 201)
    assert (await day())["vacancies"] == 8
    answered(await office.customer().hold(there, 4), 201)
    seen = await day()
    assert (seen["status"], seen["vacancies"]) == ("limited", 4)
    assert (await day(seats=5))["status"] == "sold_out"
    await office.let_expire(hold["id"])
    seen = await day(seats=5)
    assert (seen["status"], seen["vacancies"]) == ("available", 8)
    for each in (slot, other):
        change = {"status": "closed", "reason": "storm"}
        answered(await office.operator().ask("PATCH", f"/admin/v1/time-slots/{each['id']}", json=change))
    assert (await day())["status"] == "closed"
    assert (await days(office, offer, f"{FAR}-06-02", f"{FAR}-06-02"))[f"{FAR}-06-02"]["status"] == "closed"


async def test_a_slot_past_its_end_of_sales_is_closed(office: BoxOffice) -> None:
    """A departure that can no longer be booked does not make its day look open."""
    offer = await office.offer(cutoff_minutes=600)
    soon = datetime.now(UTC) + timedelta(hours=2)
    await departure(office, offer, soon.isoformat())
    today = str(soon.astimezone(ZoneInfo("Europe/Lisbon")).date())
    assert (await days(office, offer, today, today))[today]["status"] == "closed"


@pytest.mark.parametrize(
    ("first", "last", "code"),
    [
        ("2028-01-02", "2028-01-01", "INVALID_DATE_RANGE"),
        ("2028-01-01", "2028-04-02", "INVALID_DATE_RANGE"),
        ("0001-01-01", "0001-01-02", "INVALID_DATE_RANGE"),
        ("9999-12-30", "9999-12-31", "INVALID_DATE_RANGE"),
        ("2027-02-29", "2027-03-01", "VALIDATION_FAILED"),
        ("1700000000", "1700000001", "VALIDATION_FAILED"),
    ],
)
async def test_ranges_that_are_none(office: BoxOffice, first: str, last: str, code: str) -> None:
    """Backwards, longer than 92 days, outside of the calendar, and what is no date: refused, never a 500."""
    offer = await office.offer()
    path = f"/v1/experiences/{offer.experience_id}/calendar"
    refused(await office.http.get(path, params={"from": first, "to": last}), 422, code)
    assert len(await days(office, offer, "2028-01-01", "2028-04-01")) == 92


async def test_a_calendar_is_one_query_and_an_unchanged_one_is_304(office: BoxOffice) -> None:
    """One statement, by the index of days; If-None-Match is answered 304 until a seat is taken."""
    offer = await office.offer()
    day = (datetime.now(UTC) + timedelta(days=7)).date()
    path = f"/v1/experiences/{offer.experience_id}/calendar?from={day}&to={day + timedelta(days=9)}"
    asked: list[str] = []
    engine = office.parts.database.engine.sync_engine

    def note(_c: Any, _k: Any, statement: str, *_more: Any) -> None:
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        first = await office.http.get(path)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len([statement for statement in asked if "time_slots" in statement]) == len(asked) == 1
    assert first.headers["cache-control"] == "no-cache"
    again = {"If-None-Match": f'"other", W/{first.headers["etag"]}'}
    assert (await office.http.get(path, headers=again)).status_code == 304
    answered(await office.customer().hold(offer), 201)
    assert (await office.http.get(path, headers=again)).status_code == 200
    missing = f"/v1/experiences/{offer.slot_id}/calendar?from={day}&to={day}"
    refused(await office.http.get(missing), 404, "EXPERIENCE_NOT_FOUND")
