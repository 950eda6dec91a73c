"""What may be left behind when a saga is over, whatever happened on the way: nothing that does not add up."""

from collections import Counter
from dataclasses import dataclass, field

from shared.payment_contract import PaymentStatus
from tests.reservation.saga_bench import SEATS, TOTAL_MINOR, Bench, Story

_PARTS = ("create_hold", "create_payment_intent", "payment_authorized", "capture_payment", "confirm_reservation")
_OURS = ("create_hold", "confirm_reservation")
_CLOSED = {PaymentStatus.CANCELED, PaymentStatus.REFUNDED}


@dataclass
class Tally:
    """How many faults were injected, and what they left behind."""

    injections: int = 0
    residue: list[str] = field(default_factory=list)


async def assert_whole(bench: Bench, story: Story, status: str, *, saga: str) -> None:
    """The booking and its saga ended like this, and seats, money and journal all say the same."""
    booking, row = await bench.booking(story), await bench.the_saga(story)
    journal = await bench.journal(story)
    assert (booking["status"], row["status"]) == (status, saga), (booking["failure_reason"], row["reason"], journal)
    assert await bench.taken(story) == (SEATS if booking["seats_pinned"] else 0)
    entries = bench.payments.of(story.hold_id)
    assert sum(entry.captures for entry in entries) <= 1, entries
    if status == "confirmed" and booking["total_minor"]:
        (entry,) = entries
        assert (entry.captured, entry.refunded, entry.captures) == (TOTAL_MINOR, 0, 1)
    if saga == "compensated":
        assert all(entry.captured == entry.refunded and entry.status in _CLOSED for entry in entries), entries
    if saga == "needs_attention":
        assert row["reason"], row
        assert row["due_at"] is None
    _assert_journal(Counter(journal), saga)
    await bench.assert_consistent()


def _assert_journal(events: Counter[tuple[str, str, str]], saga: str) -> None:
    """I18: a completed saga did every part once; a compensated one undid, once, whatever may have happened."""
    if saga == "completed":
        assert [events[part, "do", "done"] for part in _PARTS] == [1] * len(_PARTS), events
    if saga == "compensated":
        for part in _PARTS:
            not_sent = events[part, "do", "not_sent"]
            maybe = events[part, "do", "started"] > not_sent or (part in _OURS and events[part, "do", "done"])
            assert events[part, "undo", "done"] == int(bool(maybe)), (part, events)
