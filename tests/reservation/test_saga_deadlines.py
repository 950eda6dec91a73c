"""What happens around the deadline: who is asked first, which way it turns, and how long seats are kept."""

import pytest

from shared.payment_contract import PaymentStatus
from tests.doubles import scripted_payments as acts
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import CAPACITY, SEATS, Bench, Story
from tests.scenarios import fired


async def paid_unheard(bench: Bench) -> Story:
    """Return a booking that was paid for, but neither the message nor a look has told us, and its time is up."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.pay(story.payment_id)
    bench.payments.always("get", acts.TIMEOUT)
    await bench.pass_deadline(story)
    return story


async def turns_forward_once(bench: Bench, story: Story) -> None:
    """Let a booking past its deadline come to rest: it confirms, and its payment was not cancelled again and again."""
    cancels = bench.payments.counted()["cancel"]
    await bench.run_to_rest(story, pays=False)
    await assert_whole(bench, story, "confirmed", saga="completed")
    assert bench.payments.counted()["cancel"] - cancels <= 1


async def test_a_lost_message_is_found_by_looking(bench: Bench) -> None:
    """S26: no message ever comes; the saga looks by itself at its next turn and confirms."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.pay(story.payment_id)
    await bench.turn()
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_it_looks_once_more_before_giving_up(bench: Bench) -> None:
    """S13: paid in the last moment, the message lost: at the deadline it looks before it cancels, and confirms."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.pay(story.payment_id)
    await bench.pass_deadline(story)
    cancels = bench.payments.counted()["cancel"]
    await bench.turn()
    assert bench.payments.counted()["cancel"] == cancels
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_too_late_at_a_deadline_turns_forward(bench: Bench) -> None:
    """S13: the cancel loses against the payment; the seats are still there, nobody asked for the cancel: it confirms."""
    story = await paid_unheard(bench)
    bench.payments.script("cancel", acts.TOO_LATE)
    await bench.run_to_rest(story, pays=False)
    journal = await bench.journal(story)
    assert ("create_payment_intent", "undo", "too_late") in journal
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_too_late_after_an_automatic_capture_turns_forward(bench: Bench) -> None:
    """S13: with automatic capture the money is there already; the same turn confirms, and nothing is captured twice."""
    story = await bench.story(capture_method="automatic")
    await bench.convert(story)
    bench.payments.change(story.payment_id, status=PaymentStatus.CAPTURED, captured=4500, captures=1)
    bench.payments.script("get", acts.TIMEOUT, acts.TIMEOUT)
    await bench.pass_deadline(story)
    await bench.run_to_rest(story, pays=False)
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_too_late_for_a_payment_whose_answer_never_came_turns_forward_once(bench: Bench) -> None:
    """S13, S22: created unheard, paid, and past the deadline: the payment is there, so the step is not begun anew; it confirms.

    Found by the simulation (seed 67692), in which such a saga turned back and forth for ever, without a pause.
    """
    story = await bench.story(capture_method="automatic")
    bench.payments.script("create", acts.UNKNOWN_APPLIED)
    await bench.convert(story)
    bench.payments.change(story.payment_id, status=PaymentStatus.CAPTURED, captured=4500, captures=1)
    await bench.pass_deadline(story)
    bench.payments.always("create", acts.NOT_SENT)
    await turns_forward_once(bench, story)


async def test_turning_back_and_forth_has_an_end(bench: Bench) -> None:
    """S13, I17: a payment that can neither be cancelled nor is seen to be paid is a person's case after a few turns."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.always("get", acts.TIMEOUT)
    bench.payments.always("cancel", acts.TOO_LATE)
    await bench.pass_deadline(story)
    cancels = bench.payments.counted()["cancel"]
    await bench.run_to_rest(story, pays=False)
    saga = await bench.the_saga(story)
    assert (saga["status"], saga["reason"]) == ("needs_attention", "cancel_payment_intent: already_captured")
    assert bench.payments.counted()["cancel"] - cancels == 4


@pytest.mark.parametrize("since", ["dispute_lost", "refund_failed", "refund_pending"])
async def test_money_that_was_taken_and_had_a_story_of_its_own_turns_forward_once(bench: Bench, since: str) -> None:
    """S13, S28: taken, then disputed and lost, or half on its way back, before we heard of it and past the deadline: it confirms.

    Found by the simulation, in which such a saga turned back and forth for ever.
    """
    story = await bench.story(capture_method="automatic")
    await bench.convert(story)
    bench.payments.change(story.payment_id, status=PaymentStatus(since), captured=4500, captures=1)
    await bench.pass_deadline(story)
    await turns_forward_once(bench, story)


async def test_too_late_after_a_refusal_does_not_turn_forward(bench: Bench) -> None:
    """S13: only a deadline may turn forward; after a refusal the same answer asks for a person."""
    story = await bench.story()
    bench.payments.script("create", acts.DECLINED)
    bench.payments.script("cancel", acts.TOO_LATE)
    await bench.convert(story)
    assert (await bench.the_saga(story))["status"] == "needs_attention"
    await assert_whole(bench, story, "needs_attention", saga="needs_attention")


async def test_a_capture_that_comes_too_late_needs_a_person(bench: Bench) -> None:
    """S15: TOO_LATE means nothing to a step forward; the saga says so instead of guessing."""
    story = await bench.story()
    bench.payments.script("capture", acts.TOO_LATE)
    await bench.convert(story)
    await bench.pay(story)
    assert (await bench.the_saga(story))["reason"] == "capture_payment: already_captured"
    await assert_whole(bench, story, "needs_attention", saga="needs_attention")


async def test_an_authorised_booking_outlives_its_deadline(bench: Bench) -> None:
    """S21: the payment window ends with the authorisation; an outage before capture loses no booking."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.script("capture", acts.BUSY, acts.NO_CONNECTION)
    await bench.pay(story)
    await bench.pass_grace(story)
    await bench.turn()
    assert (await bench.booking(story))["status"] == "pending"
    await bench.turn()
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_an_authorisation_that_the_provider_ended_is_taken_back(bench: Bench) -> None:
    """S15: it ended at the provider's before the capture came through: the seats are back, nothing is confirmed."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.script("capture", acts.BUSY)
    await bench.pay(story)
    bench.payments.change(story.payment_id, status=PaymentStatus.CANCELED)
    await bench.turn()
    assert ("capture_payment", "do", "refused") in await bench.journal(story)
    await assert_whole(bench, story, "failed", saga="compensated")
    fired("S15", bench.payments.calls.count(("capture", "busy")))


async def test_processing_keeps_its_seats_only_as_long_as_allowed(bench: Bench) -> None:
    """S14: `processing` past the deadline keeps the seats for ASYNC_PAYMENT_MAX_SECONDS, then it is taken back."""
    patient = bench.another_engine(async_payment_max_seconds=3600)
    story = await bench.story()
    await bench.convert(story, engine=patient)
    await patient.signal(bench.payments.change(story.payment_id, status=PaymentStatus.PROCESSING))
    await patient.drain(10)
    await bench.pass_deadline(story)
    await bench.turn(patient)
    assert ((await bench.booking(story))["status"], (await bench.the_saga(story))["status"]) == ("pending", "waiting")
    await bench.turn(bench.engine)  # this one has no patience at all
    await assert_whole(bench, story, "failed", saga="compensated")


@pytest.mark.parametrize("seen", [True, False])
async def test_the_seats_of_a_failed_booking_are_sold_again(bench: Bench, seen: bool) -> None:
    """S12: a guest who never comes back from 3-D Secure costs the house nothing but the payment window."""
    story = await bench.story()
    await bench.convert(story)
    if seen:
        bench.payments.change(story.payment_id, status=PaymentStatus.REQUIRES_ACTION)
    assert await bench.taken(story) == SEATS < CAPACITY
    await bench.pass_deadline(story)
    await bench.run_to_rest(story, pays=False)
    assert (await bench.booking(story))["failure_reason"] == "deadline"
    await assert_whole(bench, story, "failed", saga="compensated")


async def test_a_free_booking_never_meets_the_payment_service(bench: Bench) -> None:
    """I6: a total of zero is confirmed at once, its payment steps journalled as skipped."""
    story = await bench.story(total_minor=0)
    calls = len(bench.payments.calls)
    booking = await bench.convert(story)
    assert (booking["status"], len(bench.payments.calls)) == ("confirmed", calls)
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_a_booking_paid_elsewhere_never_meets_the_payment_service(bench: Bench) -> None:
    """Mode `external` skips the payment steps and confirms at once."""
    story = await bench.story()
    calls = len(bench.payments.calls)
    booking = await bench.convert(story, mode="external")
    assert (booking["status"], len(bench.payments.calls)) == ("confirmed", calls)
    assert (await bench.the_saga(story))["status"] == "completed"


async def test_waits_grow_and_have_a_cap(bench: Bench) -> None:
    """S08, S20: after each failure it waits between half and all of 1, 2, 4 .. s, and never longer than the cap."""
    story = await bench.story()
    bench.payments.always("create", acts.BUSY)
    await bench.convert(story)
    for longest_s in (1.0, 2.0, 2.0):
        (row,) = await bench.sql(
            "SELECT extract(epoch FROM due_at - (SELECT max(at) FROM saga_log WHERE saga_id = sagas.id)) AS wait_s"
            " FROM sagas WHERE reservation_id = :id",
            id=story.hold_id,
        )
        assert longest_s / 2 <= float(row["wait_s"]) <= longest_s + 0.5
        await bench.turn()
    bench.payments.heal()
    await bench.run_to_rest(story)
