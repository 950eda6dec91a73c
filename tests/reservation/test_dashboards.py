"""What banks and people at Stripe do with the money of a booking: shown and told, and no seat moves for it."""

from typing import Any

import pytest

from shared.payment_contract import PaymentStatus
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import SEATS, TOTAL_MINOR, Bench, Story


async def confirmed(bench: Bench) -> Story:
    story = await bench.story()
    await bench.convert(story)
    await bench.pay(story)
    await assert_whole(bench, story, "confirmed", saga="completed")
    return story


async def told(bench: Bench, story: Story, **values: Any) -> None:
    assert await bench.engine.signal(bench.payments.change(story.payment_id, **values))
    await bench.engine.drain(10)


async def assert_stands(bench: Bench, story: Story, status: PaymentStatus, *notices: str) -> None:
    """The booking is confirmed with its seats, nobody was called, and the payment is shown as it is."""
    booking = await bench.booking(story)
    assert (booking["status"], booking["seats_pinned"], await bench.taken(story)) == ("confirmed", True, SEATS)
    assert (booking["payment"]["status"], booking["notices"]) == (status, list(notices))
    assert (await bench.the_saga(story))["status"] == "completed"
    await bench.assert_consistent()


@pytest.mark.parametrize("ends", ["won", "lost"])
async def test_a_dispute_is_shown_and_moves_no_seat(bench: Bench, ends: str) -> None:
    """S28: disputed, then won or lost: the booking shows it, the guest is told, the seats stay."""
    story = await confirmed(bench)
    calls = len(bench.payments.calls)
    await told(bench, story, status=PaymentStatus.DISPUTED)
    await assert_stands(bench, story, PaymentStatus.DISPUTED, "payment_disputed")
    if ends == "won":
        await told(bench, story, status=PaymentStatus.CAPTURED)
        await assert_stands(bench, story, PaymentStatus.CAPTURED, "payment_disputed")
    else:
        await told(bench, story, status=PaymentStatus.DISPUTE_LOST)
        await assert_stands(bench, story, PaymentStatus.DISPUTE_LOST, "payment_disputed", "dispute_lost")
    assert len(bench.payments.calls) == calls


async def test_a_refund_by_hand_is_shown_and_cancels_nothing(bench: Bench) -> None:
    """S30: part of it, then all of it, in Stripe's dashboard: mirrored, the guest is told of the whole, the seats stay."""
    story = await confirmed(bench)
    calls = len(bench.payments.calls)
    await told(bench, story, status=PaymentStatus.PARTIALLY_REFUNDED, refunded=1000)
    await assert_stands(bench, story, PaymentStatus.PARTIALLY_REFUNDED)
    await told(bench, story, status=PaymentStatus.REFUNDED, refunded=TOTAL_MINOR)
    await assert_stands(bench, story, PaymentStatus.REFUNDED, "refunded_by_hand")
    assert (await bench.booking(story))["payment"]["refunded"] == TOTAL_MINOR
    assert len(bench.payments.calls) == calls


@pytest.mark.parametrize("when", ["in time", "too late"])
async def test_a_cancel_by_hand_before_the_money_came(bench: Bench, when: str) -> None:
    """S30: in time, the same convert sets up another payment; when time is up, the booking fails and the seats go back."""
    story = await bench.story()
    await bench.convert(story)
    if when == "too late":
        await bench.pass_deadline(story)
    await told(bench, story, status=PaymentStatus.CANCELED)
    if when == "too late":
        await bench.run_to_rest(story, pays=False)
        await assert_whole(bench, story, "failed", saga="compensated")
    else:
        assert (await bench.booking(story))["status"] == "pending"
        assert (await bench.convert(story))["generation"] == 2
