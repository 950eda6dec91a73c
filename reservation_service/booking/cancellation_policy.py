"""What a booking is worth when it is taken back: its policy, the time before the start, and exact integers.

A policy is terms that the guest agreed to, so it is read in the guest's favour: of several tiers whose time has not
passed the best one counts, and a percentage is rounded up to the next amount that a card can be given back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from reservation_service.booking.currencies import step_minor

_WHOLE_PERCENT = 100


class RefundKind(StrEnum):
    """What comes back: `void` when nothing was paid, `external` when it was paid elsewhere and is given back there."""

    FULL = "full"
    PARTIAL = "partial"
    NOTHING = "nothing"
    VOID = "void"
    EXTERNAL = "external"
    NOT_CANCELLABLE = "not_cancellable"


@dataclass(frozen=True)
class Share:
    """How many percent come back now, and until when that is so; None: it cannot be cancelled (any more)."""

    percent: int | None
    until: datetime | None = None


def share_at(policy: Mapping[str, Any], *, starts_at: datetime, now: datetime) -> Share:
    """Return what a policy gives at `now`; an instant at which a tier ends is past that tier."""
    tiers = [(_before(starts_at, minutes), percent) for minutes, percent in _tiers(policy)]
    open_tiers = [(ends_at, percent) for ends_at, percent in tiers if now < ends_at]
    if not open_tiers:
        return Share(None)
    best = max(percent for _, percent in open_tiers)
    return Share(best, max(ends_at for ends_at, percent in open_tiers if percent == best))


def refund_minor(total_minor: int, percent: int, currency: str) -> int:
    """Return `percent` of a total, rounded up to what the currency is charged in, and never more than the total."""
    step = step_minor(currency)
    steps = -(-total_minor * percent // (_WHOLE_PERCENT * step))
    return min(steps * step, total_minor)


def in_words(policy: Mapping[str, Any]) -> str:
    """Return a policy as one line that a guest can read."""
    match policy["type"]:
        case "none":
            return "What is booked cannot be cancelled."
        case "free":
            return f"Free of charge until {_how_long(policy.get('until_minutes_before', 0))}."
        case _:
            tiers = sorted(_tiers(policy), reverse=True)
            parts = [f"{percent} % back until {_how_long(minutes)}" for minutes, percent in tiers]
            return f"{', '.join(parts)}; nothing after that."


def _tiers(policy: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return (minutes before the start, percent) of each tier, whichever kind of policy it is."""
    match policy["type"]:
        case "none":
            return []
        case "free":
            return [(policy.get("until_minutes_before", 0), _WHOLE_PERCENT)]
        case _:
            return [(tier["until_minutes_before"], tier["refund_percent"]) for tier in policy["tiers"]]


def _before(starts_at: datetime, minutes: int) -> datetime:
    try:
        return starts_at - timedelta(minutes=minutes)
    except OverflowError:  # a slot in the year 1: its every tier has long passed
        return datetime.min.replace(tzinfo=starts_at.tzinfo)


def _how_long(minutes: int) -> str:
    if not minutes:
        return "the start"
    for size, unit in ((1440, "day"), (60, "hour")):
        if minutes % size == 0:
            count = minutes // size
            return f"{count} {unit}{'s' if count > 1 else ''} before the start"
    return f"{minutes} minute{'s' if minutes > 1 else ''} before the start"
