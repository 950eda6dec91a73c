"""The paths on which a process may die: a story each, the weather it happens in, and what each path is there for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.forked.stories import (
    PRICE_MINOR,
    SEATS,
    Story,
    book,
    bury,
    cancel,
    cancel_departure,
    cancel_paid_departure,
    discount,
    displace,
    dispute,
    end_as_failed,
    extend_and_sweep,
    go_on_without_stripe,
    operate,
    pay_late,
    refund,
    renew,
    unwind,
)


@dataclass(frozen=True)
class Path:
    """A story, the weather it happens in, and how seats and money stand when all is quiet after it.

    `home_of` names the boundaries that it is there for, `again` those that mean something else at their last pass here
    than on the path that is their home. `faults` go to the sandbox; `dead_calls` payment events find nobody at home;
    `flags` are set as in the environment.
    """

    name: str
    story: Story
    seats: int
    net_minor: int
    home_of: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    passes_max: int = 3
    flags: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Mapping[str, Any], ...] = ()
    dead_calls: int = 0


def _status(operation: str, status: int, **more: Any) -> dict[str, Any]:
    return {"operation": operation, "action": "status", "status": status, **more}


def _lost(events: str) -> dict[str, Any]:
    """Without the event that would tell it all the same, only looking for the object helps."""
    return {"event": events, "action": "lose"}


_CREATE, _CAPTURE, _RETRIEVE = "payment_intents.create", "payment_intents.capture", "payment_intents.retrieve"
_ANSWER_LOST = {"applied": True, "saved": True, "count": 1}
_NO_SWEEPER = {"FLAG_HOLD_CLEANUP": "off"}
_ONE_BY_ONE = {"FLAG_GROUP_ADMISSION": "off", **_NO_SWEEPER}

_PATHS = (
    Path("book", book, SEATS, PRICE_MINOR),
    Path(
        "unwind",
        unwind,
        0,
        0,
        home_of=("resume_saga", "ask_payment", "intend_cancel", "plan_cancel", "cancel_payment_intent"),
        again=("saga_progress", "claim_key", "settle_key", "record_outcome", "payment_signal"),
    ),
    Path(
        "late",
        pay_late,
        SEATS,
        PRICE_MINOR,
        again=("payment_signal", "saga_progress"),
        faults=(_status("payment_intents.cancel", 400),),
    ),
    Path(
        "create_again",
        book,
        SEATS,
        PRICE_MINOR,
        home_of=("intend_create",),
        passes_max=1,
        faults=(_status(_CREATE, 401, count=1),),
    ),
    Path("create_refused", end_as_failed, 0, 0, again=("saga_progress",), faults=(_status(_CREATE, 400),)),
    Path("capture_refused", end_as_failed, 0, 0, again=("saga_progress",), faults=(_status(_CAPTURE, 402),)),
    Path(
        "create_answer_lost",
        book,
        SEATS,
        PRICE_MINOR,
        home_of=("find_payment_intent", "record_found_intent"),
        faults=(_status(_CREATE, 500, **_ANSWER_LOST), _lost("payment_intent.created")),
    ),
    Path(
        "stripe_away",
        go_on_without_stripe,
        SEATS,
        PRICE_MINOR,
        home_of=("put_event_back",),
        faults=(_status(_RETRIEVE, 503),),
    ),
    Path("reservation_away", book, SEATS, PRICE_MINOR, home_of=("put_news_back",), dead_calls=1),
    Path(
        "webhooks_inline",
        book,
        SEATS,
        PRICE_MINOR,
        home_of=("claim_event",),
        again=("apply_event",),
        flags={"FLAG_WEBHOOK_INBOX": "off"},
    ),
    Path(
        "settled_at_the_door", book, SEATS, PRICE_MINOR, again=("store_event",), flags={"FLAG_SETTLE_AT_THE_DOOR": "on"}
    ),
    Path(
        "event_buried",
        bury,
        0,
        0,
        home_of=("bury_event", "revive_event", "plan_replay", "confirm_replay", "step_replay", "cancel_replay"),
    ),
    Path(
        "cancel", cancel, 0, 0, home_of=("call_off_booking", "refund_payment"), again=("saga_progress",), passes_max=1
    ),
    Path("refund", refund, SEATS, 0, home_of=("fetch_hinted_refund", "fetch_hinted_refunds")),
    Path("dispute", dispute, SEATS, 0, home_of=("fetch_hinted_dispute",), passes_max=1),
    Path(
        "refund_answer_lost",
        refund,
        SEATS,
        0,
        home_of=("find_refund",),
        again=("record_refund",),
        faults=(_status("refunds.create", 500, **_ANSWER_LOST), _lost("*refund*")),
    ),
    Path("renew", renew, 0, 0, home_of=("create_hold", "renew_hold", "release_hold"), flags=_ONE_BY_ONE),
    Path("displace", displace, 0, 0, home_of=("expire_slot",), flags=_NO_SWEEPER),
    Path("discount", discount, 0, 0, home_of=("discounted_hold", "expire_uses", "replace_hold"), flags=_NO_SWEEPER),
    Path("sweep", extend_and_sweep, 0, 0, home_of=("extend_hold", "sweep"), passes_max=5),
    Path(
        "cancel_departure",
        cancel_departure,
        0,
        0,
        home_of=("change_time_slot", "claim_slot_cancellations", "release_cancelled_holds", "ask_to_unwind"),
        passes_max=1,
    ),
    Path(
        "cancel_paid_departure",
        cancel_paid_departure,
        0,
        0,
        home_of=("call_off_confirmed", "settle_slot_cancellation"),
        passes_max=1,
    ),
    Path("operate", operate, 0, 0, home_of=("add_discount", "change_discount")),
)
PATHS = {path.name: path for path in _PATHS}
