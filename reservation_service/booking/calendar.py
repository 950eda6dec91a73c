"""What a guest sees of the coming weeks: for each local day, whether a party still finds a slot, and from which price.

A day is the experience's own: the local date on which a slot starts. That needs no midnight, so days of 23 and 25
hours, and days that a time zone has skipped, come out right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from reservation_service.errors import ExperienceNotFound, InvalidDateRange
from reservation_service.store import availability
from shared.database import Database, Row

DAYS_MAX = 92
# A day is `limited` when at most a quarter of the seats that were put on sale for it are left.
LIMITED_SHARE = 4
# No time zone is further than this from UTC, so no local day lies outside of the instants that are asked for.
_FURTHEST = timedelta(days=1)

DayStatus = Literal["available", "limited", "sold_out", "closed"]


@dataclass(frozen=True)
class Day:
    """One local day; `vacancies` are the seats of those slots that can take the party."""

    date: date
    status: DayStatus
    vacancies: int
    slots: Sequence[Row]


@dataclass(frozen=True)
class Calendar:
    """Days in order, and what the cheapest ticket that takes a seat costs (None when nothing is sold)."""

    time_zone: str
    currency: str
    price_from_minor: int | None
    days: Sequence[Day]


async def read_calendar(database: Database, experience_id: UUID, first: date, last: date, *, seats: int) -> Calendar:
    """Return the days from `first` to `last`. Raises InvalidDateRange (422), ExperienceNotFound."""
    between = _bounds(first, last)
    async with database.reading() as connection:
        rows = await availability.calendar(connection, experience_id, between=between)
    if not rows:
        raise ExperienceNotFound
    terms = rows[0]
    zone = ZoneInfo(terms["time_zone"])
    by_day: dict[date, list[Row]] = {day: [] for day in _days(first, last)}
    for row in rows:
        if row["id"] is not None and (slots := by_day.get(row["starts_at"].astimezone(zone).date())) is not None:
            slots.append(row)
    days = [_day(day, slots, seats) for day, slots in by_day.items()]
    return Calendar(terms["time_zone"], terms["currency"], terms["price_from_minor"], days)


def _bounds(first: date, last: date) -> tuple[datetime, datetime]:
    if not timedelta(0) <= last - first < timedelta(days=DAYS_MAX):
        raise InvalidDateRange
    try:
        after = datetime.combine(first, time(), UTC) - _FURTHEST
        before = datetime.combine(last, time(), UTC) + timedelta(days=1) + _FURTHEST
    except OverflowError:
        raise InvalidDateRange("There is no such day in any calendar of ours.") from None
    return after, before


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _day(day: date, slots: Sequence[Row], seats: int) -> Day:
    selling = [slot for slot in slots if slot["status"] == "open" and not slot["over"]]
    fitting = [slot for slot in selling if slot["available"] >= seats]
    vacancies = sum(slot["available"] for slot in fitting)
    return Day(day, _status(selling, vacancies), vacancies, slots)


def _status(selling: Sequence[Row], vacancies: int) -> DayStatus:
    if not selling:
        return "closed"
    if vacancies == 0:
        return "sold_out"
    capacity: Any = sum(slot["capacity"] for slot in selling)
    return "limited" if vacancies * LIMITED_SHARE <= capacity else "available"
