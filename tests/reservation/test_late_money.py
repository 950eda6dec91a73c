"""Money that comes when its booking is over and wins the seats back; what it meets on the way, and who dies meanwhile."""

import asyncio
import random
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from reservation_service.booking.admission import Decision, admit, take_alone
from reservation_service.booking.slot_sweeps import SlotSweeps
from reservation_service.metrics import Metrics
from reservation_service.store import slots
from shared.payment_contract import PaymentEvent, PaymentStatus
from tests.doubles import scripted_payments as acts
from tests.figures import tell
from tests.reservation.crashing import Crash, Part, listening, play
from tests.reservation.late_guests import (
    CAPTURED,
    as_held,
    assert_rebooked,
    assert_returned,
    ended,
    given_up,
    others,
    pays_late,
    refund_only,
    told,
)
from tests.reservation.saga_bench import ANNA, CAPACITY, SEATS, TOTAL_MINOR, Bench, Story
from tests.scenarios import fired

# the seats are free


@pytest.mark.parametrize("how", ["told", "asked"])
async def test_late_money_books_the_seats_again(bench: Bench, how: str) -> None:
    """T04, S13: paid after the seats went back, and they are free: pending again, captured once, confirmed (peers B4: 63).

    By a message, or by the look before every try to cancel. The saga that gave up ends; a second one confirms.
    """
    story = await given_up(bench)
    if how == "told":
        await pays_late(bench, story)
    else:
        bench.payments.pay(story.payment_id)
        await bench.turn()
        await bench.run_to_rest(story, pays=False)
    await assert_rebooked(bench, story)
    sagas = await bench.sql(
        "SELECT status, begun_by FROM sagas WHERE reservation_id = :id ORDER BY id", id=story.hold_id
    )
    assert [tuple(saga.values()) for saga in sagas] == [("compensated", "convert"), ("completed", "late_money")]
    moves = await bench.sql(
        "SELECT to_status FROM reservation_events WHERE reservation_id = :id ORDER BY id", id=story.hold_id
    )
    assert [move["to_status"] for move in moves] == ["pending", "failed", "pending", "confirmed"]


async def test_late_money_that_was_captured_by_itself_books_the_seats_again(bench: Bench) -> None:
    """T04, S13: automatic capture; the cancel answers TOO_LATE after the seats went back: booked again, charged once."""
    story = await given_up(bench, capture_method="automatic")

    async def pays(operation: str) -> None:
        if operation == "cancel":  # after the look, and before the cancel
            bench.payments.before = None
            bench.payments.change(story.payment_id, **CAPTURED)

    bench.payments.before = pays
    await bench.turn()
    assert bench.payments.before is None
    await bench.run_to_rest(story, pays=False)
    await assert_rebooked(bench, story)


async def test_old_news_cancels_no_late_money(bench: Bench) -> None:
    """T04: Stripe cannot be asked, and payment_service shows what it had stored: the payment that may have been made
    meanwhile is not cancelled unseen, though it could be; seen, it books the seats again.
    """
    story = await given_up(bench)
    bench.payments.pay(story.payment_id)
    bench.payments.script("get", acts.STALE, acts.STALE)
    began, patient = len(bench.payments.calls), bench.another_engine(saga_attempts_max=50)
    for _ in range(2):
        await bench.turn(patient)
    assert bench.payments.calls[began:] == [("get", "stale")] * 2
    assert ((await bench.booking(story))["status"], await bench.taken(story)) == ("failed", 0)
    await bench.run_to_rest(story, pays=False)
    await assert_rebooked(bench, story)


async def test_money_after_the_very_end_books_the_seats_again(bench: Bench) -> None:
    """T04: nothing was going on any more when the money was told: a saga begins for it."""
    story = await ended(bench)
    await pays_late(bench, story)
    await assert_rebooked(bench, story)


async def test_lapsed_holds_make_way_for_late_money(bench: Bench) -> None:
    """T04: the slot looks full, but of holds whose time is over."""
    story = await given_up(bench)
    hold = await others(bench, story, CAPACITY)
    await bench.sql("UPDATE reservations SET expires_at = clock_timestamp() WHERE id = :id", id=hold.hold_id)
    await pays_late(bench, story)
    await assert_rebooked(bench, story)


async def test_money_that_was_processing_for_days_books_the_seats_again(bench: Bench) -> None:
    """S14: Stripe cancels nothing that is `processing`; the seats went back, the saga gave up, and then the money came.

    Its case needs no person any more.
    """
    story = await bench.story()
    await bench.convert(story)
    await told(bench, bench.payments.change(story.payment_id, status=PaymentStatus.PROCESSING))
    bench.payments.always("cancel", acts.NOT_SENT)
    await bench.pass_grace(story)
    await bench.run_to_rest(story, pays=False)
    assert (await bench.the_saga(story))["status"] == "needs_attention"
    assert (await bench.booking(story))["status"] == "failed"
    await pays_late(bench, story)
    await assert_rebooked(bench, story)
    (left,) = await bench.sql(
        "SELECT count(*) FROM sagas WHERE status = 'needs_attention' AND reservation_id = :id", id=story.hold_id
    )
    assert left["count"] == 0


async def test_the_same_late_message_many_times_begins_one_saga(bench: Bench) -> None:
    """W01, T04: told five times at once, by five processes."""
    story = await ended(bench)
    event = bench.payments.pay(story.payment_id)
    engines = [bench.another_engine() for _ in range(5)]
    heard = await asyncio.gather(*(engine.signal(event) for engine in engines))
    for engine in engines:
        await engine.drain(10)
    await bench.run_to_rest(story, pays=False)
    assert sorted(heard) == [False] * 4 + [True]
    sagas = await bench.sql("SELECT id FROM sagas WHERE reservation_id = :id", id=story.hold_id)
    assert len(sagas) == 2
    await assert_rebooked(bench, story)


async def test_an_authorisation_that_ends_before_the_late_capture(bench: Bench) -> None:
    """S15: booked again, but Stripe has let the authorisation go before it is captured: failed, and the seats are back."""
    story = await ended(bench)

    async def ends(operation: str) -> None:
        if operation == "capture":
            bench.payments.before = None
            bench.payments.change(story.payment_id, status=PaymentStatus.CANCELED)

    bench.payments.before = ends
    await pays_late(bench, story)
    assert bench.payments.before is None
    fired("S15", 1)
    booking = await bench.booking(story)
    assert booking["failure_reason"] == "refused"
    await assert_returned(bench, story, "refunded_late")


# renewal and rebooking


async def test_renewal_and_rebooking_exclude_each_other(bench: Bench) -> None:
    """T03, T04, I21: the guest's key makes a new hold in the moment the money arrives: one of both has the seats.

    Whoever locks the old row first: a renewed hold and the money back, or the booking and its key replayed.
    """
    rounds, rebooked = 16, 0
    sweeps = SlotSweeps(bench.database, Metrics(CollectorRegistry()))
    dice = random.Random(20_261_125)
    for _ in range(rounds):
        story = await ended(bench)
        again = as_held(story, SEATS, caller=ANNA.subject, key=str(story.hold_id))
        event = bench.payments.pay(story.payment_id)
        head_start_s = dice.uniform(-0.01, 0.01)

        async def renews(again: slots.NewHold = again, wait_s: float = head_start_s) -> Any:
            await asyncio.sleep(max(0.0, wait_s))
            return await admit(bench.database, again, partial(take_alone, bench.database), sweeps, renew=True)

        async def arrives(event: PaymentEvent = event, wait_s: float = -head_start_s) -> None:
            await asyncio.sleep(max(0.0, wait_s))
            await bench.engine.signal(event)

        admission, _ = await asyncio.gather(renews(), arrives())
        await bench.engine.drain(10)
        await bench.run_to_rest(story, pays=False)
        booking = await bench.booking(story)
        assert await bench.taken(story) == SEATS
        if admission.decision is Decision.REPLAYED:
            rebooked += 1
            assert (booking["status"], booking["notices"]) == ("confirmed", ["rebooked"])
        else:
            assert admission.supersedes == story.hold_id
            assert (booking["status"], booking["notices"]) == ("failed", ["refunded_newer_booking"])
            assert bench.entry(story).status == "canceled"
    await bench.assert_consistent()
    tell(f"renewal against late money rounds={rounds} rebooked={rebooked} renewed={rounds - rebooked} violations=0")
    assert 0 < rebooked < rounds


# crashes


def being_late(bench: Bench, story: Story) -> tuple[Part, ...]:
    """The money is told until somebody listens, and what falls due is looked at."""

    async def tells(engine: Any) -> None:
        await engine.signal(bench.payments.event(story.payment_id))

    return (tells, bench.turn)


@pytest.mark.parametrize("path", ["rebooked", "refunded"])
async def test_a_crash_anywhere_around_late_money_is_survived(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """T03, T04, C08, C10, C15: the process dies at every crash point of late money; the next one ends it right."""

    async def begin() -> tuple[Story, tuple[Part, ...]]:
        story = await ended(bench)
        values: dict[str, Any] = {"status": PaymentStatus.AUTHORIZED}
        if path == "refunded":
            await refund_only(bench, story)
            values = CAPTURED
        bench.payments.change(story.payment_id, **values)
        return story, being_late(bench, story)

    async def recover(story: Story, parts: tuple[Part, ...]) -> None:
        await play(bench, parts, bench.another_engine())
        await bench.run_to_rest(story, pays=False)
        if path == "refunded":
            assert bench.entry(story).refunded == TOTAL_MINOR
            await assert_returned(bench, story, "refunded_late")
        else:
            await assert_rebooked(bench, story)

    story, parts = await begin()
    with listening(monkeypatch) as points:
        assert await play(bench, parts, bench.another_engine())
    await recover(story, parts)
    assert len(points) >= 8, points
    for point in points:
        story, parts = await begin()
        crash = Crash(point)
        with crash.planned():
            assert not await play(bench, parts, bench.another_engine(), crash), f"{point} was not reached"
        await recover(story, parts)
    tell(f"late money crashes path={path} points={len(points)} recovered={len(points)} violations=0")
    fired("C08" if path == "rebooked" else "C15", len(points))
