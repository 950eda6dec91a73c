"""How long seats wait for money: each sentence about deadlines, graces and second payments, provoked and looked at."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from reservation_service.booking.reservations import payment_id
from reservation_service.saga.patience import next_try_in_s
from shared.payment_contract import Outcome, PaymentStatus
from tests.doubles import scripted_payments as acts
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import SEATS, TOTAL_MINOR, Bench, Story
from tests.scenarios import fired


def in_(**ahead: float) -> datetime:
    return datetime.now(UTC) + timedelta(**ahead)


async def authorised(bench: Bench, *, capture_before: datetime) -> Story:
    """Return a paid booking whose capture does not come through."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.change(story.payment_id, capture_before=capture_before)
    await bench.pay(story)
    return story


async def test_an_outage_loses_no_authorised_booking(bench: Bench) -> None:
    """S21, C20: window, grace and tries are long over; as long as the authorisation lasts it goes on trying, and confirms."""
    bench.payments.always("capture", acts.BUSY)
    story = await authorised(bench, capture_before=in_(hours=7))
    await bench.pass_grace(story)
    for _ in range(2 * bench.settings.saga_attempts_max):
        await bench.turn()
    booking = await bench.booking(story)
    assert (booking["status"], await bench.taken(story)) == ("pending", SEATS)
    fired("S21", bench.payments.calls.count(("capture", "busy")))
    bench.payments.heal()
    await bench.turn()
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_a_wait_that_is_told_is_kept_and_does_not_grow(bench: Bench) -> None:
    """S17: after a dozen refusals, a step that may be tried until the authorisation ends still comes back when told."""
    told = acts.Act("cut_off", outcome=Outcome.NOT_SENT, code="breaker_open", retry_after_ms=1200)
    bench.payments.always("capture", told)
    story = await authorised(bench, capture_before=in_(hours=7))
    waits_s = []
    for _ in range(12):
        await bench.turn()
        (row,) = await bench.sql(
            "SELECT extract(epoch FROM due_at - clock_timestamp()) AS wait_s FROM sagas WHERE reservation_id = :id",
            id=story.hold_id,
        )
        waits_s.append(float(row["wait_s"]))
    assert max(waits_s) <= 1.2, "untold it would have been up to 2 s by now"


def test_where_the_number_of_failures_is_the_bound_they_are_never_closer() -> None:
    """S17: a told wait can be longer than one's own, and where time is the bound shorter, but never nothing."""
    assert next_try_in_s(16.0, told_s=2.0, left_s=None) == 16.0
    assert next_try_in_s(16.0, told_s=30.0, left_s=None) == 30.0
    assert next_try_in_s(16.0, told_s=2.0, left_s=600.0) == 2.0
    assert next_try_in_s(16.0, told_s=0.0, left_s=600.0) == 1.0
    assert next_try_in_s(16.0, told_s=None, left_s=5.0) == pytest.approx(5.1)


async def test_an_hour_before_the_authorisation_ends_it_gives_up(bench: Bench) -> None:
    """S15: what could not be captured in all that time is cancelled while it still can be; the seats are back."""
    bench.payments.always("capture", acts.NOT_SENT)
    story = await authorised(bench, capture_before=in_(minutes=59))
    await bench.run_to_rest(story, pays=False)
    assert bench.entry(story).status is PaymentStatus.CANCELED
    await assert_whole(bench, story, "failed", saga="compensated")
    fired("S15", bench.payments.calls.count(("capture", "not_sent")))


async def test_a_capture_that_went_through_unheard_is_kept(bench: Bench) -> None:
    """S02, S13: at that limit it first looks: the money is there, the seats are too, so it turns forward; no refund."""
    bench.payments.script("capture", acts.ANSWER_LOST)
    refunds = bench.payments.counted()["refund"]
    story = await authorised(bench, capture_before=in_(minutes=59))
    await bench.run_to_rest(story, pays=False)
    assert ("capture_payment", "undo", "too_late") in await bench.journal(story)
    assert bench.payments.counted()["refund"] == refunds
    await assert_whole(bench, story, "confirmed", saga="completed")
    fired("S02", bench.payments.calls.count(("capture", "answer_lost")))


async def test_seats_of_a_capture_in_doubt_stay(bench: Bench) -> None:
    """I6: nobody can say whether the money was taken; past every deadline the seats stay until somebody can."""
    bench.payments.script("capture", acts.ANSWER_LOST)
    bench.payments.always("get", acts.BUSY)
    bench.payments.script("get", acts.UNKNOWN)
    story = await authorised(bench, capture_before=in_(minutes=59))
    await bench.pass_grace(story)
    await bench.turn()
    assert (await bench.taken(story), (await bench.the_saga(story))["status"]) == (SEATS, "unwinding")
    bench.payments.heal()
    await bench.run_to_rest(story, pays=False)
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_nothing_new_is_begun_when_the_window_is_over(bench: Bench) -> None:
    """S16: every try was NOT_SENT; the deadline ends it without one more try that might make a payment after all."""
    bench.payments.script("create", acts.NOT_SENT)
    story = await bench.story()
    await bench.convert(story)
    creates = bench.payments.counted()["create"]
    await bench.pass_deadline(story)
    await bench.turn()
    assert bench.payments.counted()["create"] == creates
    assert not bench.payments.of(story.hold_id)
    await assert_whole(bench, story, "failed", saga="compensated")


async def test_a_failing_setup_rests_no_longer_than_it_may(bench: Bench) -> None:
    """S12: however long the wait between two tries has become, the seats do not wait for it past the window."""
    bench.payments.always("create", acts.NOT_SENT)
    story = await bench.story()
    await bench.convert(story)
    await bench.pass_deadline(story, by_s=-0.4)
    await bench.turn()
    assert 0 < await _due_in_s(bench, story) <= 0.5
    bench.payments.heal()
    await bench.pass_deadline(story)
    await bench.run_to_rest(story)


async def _due_in_s(bench: Bench, story: Story) -> float:
    (row,) = await bench.sql(
        "SELECT extract(epoch FROM due_at - clock_timestamp()) AS s FROM sagas WHERE reservation_id = :id",
        id=story.hold_id,
    )
    return float(row["s"])


async def test_a_payment_on_its_way_is_not_asked_about_all_the_time(bench: Bench) -> None:
    """S14, peers B2.31: `processing` past the window: the seats stay, and it asks at growing intervals, not at every tick."""
    patient = bench.another_engine(async_payment_max_seconds=3600)
    story = await bench.story()
    await bench.convert(story, engine=patient)
    await patient.signal(bench.payments.change(story.payment_id, status=PaymentStatus.PROCESSING))
    await patient.drain(10)
    await bench.pass_deadline(story)
    await bench.turn(patient)
    assert await _due_in_s(bench, story) > 1
    assert await bench.taken(story) == SEATS
    bench.payments.pay(story.payment_id)
    await bench.turn(patient)
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_workers_that_die_cancelling_do_not_keep_the_seats(bench: Bench) -> None:
    """C20, S12: past the grace the seats are sold again even if no worker ever comes back from the cancel."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.always("cancel", acts.DIES_BEFORE)
    await bench.pass_grace(story)
    await bench.turn()
    await bench.turn()
    assert ((await bench.booking(story))["status"], await bench.taken(story)) == ("failed", 0)
    fired("C20", bench.payments.calls.count(("cancel", "dies_before")))
    bench.payments.heal()
    await bench.run_to_rest(story, pays=False)
    await assert_whole(bench, story, "failed", saga="compensated")


async def called_off(bench: Bench) -> Story:
    """Return a booking whose payment was cancelled in Stripe's dashboard while the guest could still pay."""
    story = await bench.story()
    await bench.convert(story)
    assert await bench.engine.signal(bench.payments.change(story.payment_id, status=PaymentStatus.CANCELED))
    await bench.engine.drain(10)
    return story


async def test_a_payment_that_was_called_off_is_made_anew(bench: Bench) -> None:
    """S30, I4, peers B3.48: the seats stay, the next convert makes generation 2 with another id, and only that one is captured."""
    story = await called_off(bench)
    booking = await bench.booking(story)
    assert (booking["status"], booking["generation"], await bench.taken(story)) == ("pending", 1, SEATS)
    booking = await bench.convert(story)
    assert (booking["generation"], booking["payment"]["status"]) == (2, "requires_payment")
    assert payment_id(booking) != story.payment_id
    assert (await bench.the_saga(story))["generation"] == 2
    first, second = bench.payments.of(story.hold_id)
    assert (first.status, second.generation) == (PaymentStatus.CANCELED, 2)
    assert booking["payment"]["client_secret"] != first.view()["client_secret"]
    assert not await bench.engine.signal(bench.payments.change(first.id))  # old news of the old payment
    assert await bench.engine.signal(bench.payments.pay(second.id))
    await bench.engine.drain(10)
    assert ((await bench.booking(story))["status"], (await bench.the_saga(story))["status"]) == (
        "confirmed",
        "completed",
    )
    assert [entry.captured for entry in bench.payments.of(story.hold_id)] == [0, TOTAL_MINOR]
    await bench.assert_consistent()
    fired("S30", 1)


async def test_convert_itself_finds_that_a_payment_was_called_off(bench: Bench) -> None:
    """S30: no message came; the convert that looks and sees the cancel makes the next payment in the same call."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.change(story.payment_id, status=PaymentStatus.CANCELED)
    booking = await bench.convert(story)
    assert (booking["generation"], booking["payment"]["status"]) == (2, "requires_payment")
    await bench.pass_deadline(story)
    await bench.run_to_rest(story, pays=False)
    assert [entry.status for entry in bench.payments.of(story.hold_id)] == [PaymentStatus.CANCELED] * 2
    assert (await bench.the_saga(story))["status"] == "compensated"
    await bench.assert_consistent()


async def test_only_a_guest_gets_another_payment(bench: Bench) -> None:
    """S12: the saga by itself makes none; when nobody comes back in the window, the seats do."""
    story = await called_off(bench)
    await bench.turn()
    assert len(bench.payments.of(story.hold_id)) == 1
    await bench.pass_deadline(story)
    assert (await bench.convert(story))["status"] == "failed"
    assert len(bench.payments.of(story.hold_id)) == 1
    await assert_whole(bench, story, "failed", saga="compensated")


async def test_never_two_live_payments(bench: Bench) -> None:
    """K03, I4: a dozen converts through two engines after a cancel: one next payment, not a dozen."""
    story = await called_off(bench)
    engines = [bench.engine, bench.another_engine()]
    booked = await asyncio.gather(*(bench.convert(story, engine=engines[n % 2]) for n in range(12)))
    await engines[1].drain(10)
    assert {booking["generation"] for booking in booked} <= {1, 2}
    assert [entry.generation for entry in bench.payments.of(story.hold_id)] == [1, 2]
    fired("K03", len(booked))
    await bench.pass_deadline(story)
    await bench.run_to_rest(story, pays=False)
    await bench.assert_consistent()
