"""Money that has to come back: beside a capture, late, twice, refused, and days after everybody thought it had."""

import asyncio
from functools import partial
from uuid import UUID

import pytest

from reservation_service.saga.definition import Event
from shared.payment_contract import Outcome, PaymentStatus
from tests.answers import answered, refused, until_it_is_answered
from tests.doubles import scripted_payments as acts
from tests.observed_moves import makes
from tests.reservation.box_office import DRAIN_S, BoxOffice
from tests.reservation.called_off import TOTAL_MINOR, confirmed, pending
from tests.scenarios import fired

HALF = {"type": "tiers", "tiers": [{"until_minutes_before": 60, "refund_percent": 50}]}


@pytest.mark.parametrize("capture_method", ["manual", "automatic"])
async def test_a_cancel_meets_the_capture(office: BoxOffice, capture_method: str) -> None:
    """K04, W19: asked for while the money is being taken, a booking is confirmed and cancelled in one transaction."""
    booked = await pending(office, capture_method=capture_method, cancellation_policy={"type": "none"})
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def meanwhile(operation: str) -> None:
        if operation == "capture" and not taken.is_set():
            taken.set()
            await go_on.wait()

    office.payments.after = meanwhile
    await office.tell(office.payments.pay(booked.entry.id))
    await asyncio.wait_for(taken.wait(), 10)
    shown = answered(await booked.cancel(), 202)
    assert shown["status"] == "pending"
    go_on.set()
    await office.parts.engine.drain(DRAIN_S)
    shown = answered(await booked.cancel())
    assert (shown["status"], shown["payment"]["status"]) == ("cancelled", "refunded")
    moves = await office.sql(
        "SELECT to_status, xmin::text AS by FROM reservation_events WHERE reservation_id = :id ORDER BY id DESC LIMIT 2",
        id=UUID(booked.id),
    )
    assert [move["to_status"] for move in moves] == ["cancelled", "confirmed"]
    assert len({move["by"] for move in moves}) == 1, "one transaction"
    fired("K04", 1)


async def test_money_that_came_unheard_goes_back(office: BoxOffice) -> None:
    """W19, S13: the cancel at the provider comes too late, because the money was there: all of it goes back."""
    booked = await pending(office)
    office.payments.change(booked.entry.id, status=PaymentStatus.CAPTURED, captured=TOTAL_MINOR, captures=1)
    shown = answered(await booked.cancel())
    assert (shown["status"], shown["payment"]["refunded"]["amount"]) == ("cancelled", TOTAL_MINOR)
    assert shown["cancellation"]["refund"]["amount"] == TOTAL_MINOR


async def test_money_that_comes_after_the_end_goes_back(office: BoxOffice) -> None:
    """W19: a message of money for a booking that is cancelled and over: all of it goes back, once, and the guest is told."""
    booked = await pending(office)
    answered(await booked.cancel())
    assert (await booked.saga())["status"] == "compensated"
    for _ in range(2):
        await booked.tell(
            office.payments.change(booked.entry.id, status=PaymentStatus.CAPTURED, captured=TOTAL_MINOR, captures=1)
        )
        assert (booked.entry.refunded, (await booked.saga())["status"]) == (TOTAL_MINOR, "compensated")
    assert len(office.payments.refunds_of(booked.entry.id)) == 1
    assert answered(await booked.cancel())["notices"]
    fired("W19", 1)


@makes("saga", "compensated", "unwinding")
async def test_a_refund_that_is_called_back_is_not_forgotten(office: BoxOffice) -> None:
    """S27, I5: Stripe cancels a refund that had looked done: the saga opens again by itself, and ends with a person."""
    booked = await confirmed(office)
    answered(await booked.cancel())
    office.payments.settle_refund(booked.entry.id, "failed")
    await booked.tell(office.payments.change(booked.entry.id, status=PaymentStatus.CAPTURED))
    saga = await booked.saga()
    assert (saga["status"], saga["reason"]) == ("needs_attention", "refund_payment: refund_failed")
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/retry", json={"reason": "once more"}))
    await office.parts.engine.drain(DRAIN_S)
    assert (booked.entry.refunded, (await booked.saga())["status"]) == (TOTAL_MINOR, "compensated")
    fired("S27", 1)


async def test_a_refund_that_fails_on_money_lost_in_a_dispute_is_a_persons_case(office: BoxOffice) -> None:
    """S27, S28, I5: nothing of it is on its way any more, so nobody waits for it without an end: a person is told.

    Found by the simulation, in which such a saga looked and looked.
    """
    booked = await confirmed(office)
    answered(await booked.cancel())
    office.payments.settle_refund(booked.entry.id, "failed")
    await booked.tell(office.payments.change(booked.entry.id, status=PaymentStatus.DISPUTE_LOST))
    saga = await booked.saga()
    assert (saga["status"], saga["reason"]) == ("needs_attention", "refund_payment: refund_failed")
    fired("S27", 1)


@pytest.mark.parametrize("heard", ["before the cancel", "after the refusal"])
async def test_a_cancel_meets_a_dispute(office: BoxOffice, heard: str) -> None:
    """S28: the bank holds the money that is to go back: the seats are free, a person is told, nothing goes out twice.

    Whether the dispute is heard of first or refuses the refund unheard; lost, the money is the guest's that way.
    """
    booked = await confirmed(office)
    began = len(office.payments.calls)
    office.payments.script("refund", acts.DISPUTED)
    disputed = office.payments.change(booked.entry.id, status=PaymentStatus.DISPUTED)
    if heard == "before the cancel":
        await booked.tell(disputed)
    shown = answered(await booked.cancel(), 202)
    if heard == "after the refusal":
        await booked.tell(disputed)
    assert (shown["status"], await office.free(booked.offer)) == ("cancelled", 10)
    saga = await booked.saga()
    assert (saga["status"], saga["reason"]) == ("needs_attention", "refund_payment: payment_disputed")
    await booked.tell(office.payments.change(booked.entry.id, status=PaymentStatus.DISPUTE_LOST))
    await booked.turn()
    assert answered(await booked.cancel(), 202)["payment"]["status"] == "dispute_lost"
    refunds = [how for operation, how in office.payments.calls[began:] if operation == "refund"]
    assert (refunds, office.payments.refunds_of(booked.entry.id)) == ([acts.DISPUTED.name], [])
    body = {"outcome": "cancelled", "reason": "the bank gave it back"}
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/resolve", json=body))
    shown = answered(await booked.cancel())
    assert shown["notices"] == ["payment_disputed", "dispute_lost"]
    fired("S28", len(refunds))


async def test_a_dispute_that_was_won_leaves_the_refund_to_a_person(office: BoxOffice) -> None:
    """S28: the money is ours again and still owed: nothing is ordered by itself, `retry` orders it, once."""
    booked = await confirmed(office)
    began = len(office.payments.calls)
    office.payments.script("refund", acts.DISPUTED)
    await booked.tell(office.payments.change(booked.entry.id, status=PaymentStatus.DISPUTED))
    answered(await booked.cancel(), 202)
    await booked.tell(office.payments.change(booked.entry.id, status=PaymentStatus.CAPTURED))
    await booked.turn()
    saga = await booked.saga()
    assert (saga["status"], office.payments.refunds_of(booked.entry.id)) == ("needs_attention", [])
    why = {"reason": "the dispute was won"}
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/retry", json=why))
    await office.parts.engine.drain(DRAIN_S)
    assert ((await booked.saga())["status"], booked.entry.refunded) == ("compensated", TOTAL_MINOR)
    assert [one.amount for one in office.payments.refunds_of(booked.entry.id)] == [TOTAL_MINOR]
    fired("S28", office.payments.calls[began:].count(("refund", acts.DISPUTED.name)))


@pytest.mark.parametrize("said", ["charge_disputed", "IDEMPOTENCY_KEY_REUSED"])
async def test_a_refund_that_was_refused_for_good_is_ordered_anew(office: BoxOffice, said: str) -> None:
    """S27, S30, I5: Stripe refused it, or a part went back by hand meanwhile: `retry` orders another one, under its own id.

    Found by the simulation, in which every retry was answered with the first refusal, and the guest never paid back.
    """
    booked = await confirmed(office)
    office.payments.script("refund", acts.Act("refused", outcome=Outcome.DECLINED, code=said))
    answered(await booked.cancel(), 202)
    saga = await booked.saga()
    assert (saga["status"], saga["reason"]) == ("needs_attention", "refund_payment: refund_failed")
    why = {"reason": "once more"}
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/retry", json=why))
    await office.parts.engine.drain(DRAIN_S)
    assert ((await booked.saga())["status"], booked.entry.refunded) == ("compensated", TOTAL_MINOR)
    (row,) = await office.sql("SELECT refund_attempt FROM reservations WHERE id = :id", id=UUID(booked.id))
    assert row["refund_attempt"] == 2
    (line,) = await office.sql("SELECT detail FROM saga_log WHERE event = 'refused' AND saga_id = :id", id=saga["id"])
    assert line["detail"]["because"] == said
    fired("S27", 1)


async def test_two_cancels_are_one_refund(office: BoxOffice) -> None:
    """K05: eight calls at once under keys of their own, from the guest and an operator: one refund."""
    booked = await confirmed(office)
    ways = [partial(booked.cancel, key=f"k{n}") for n in range(6)] + [booked.cancel_as_operator] * 2
    answers = await asyncio.gather(*map(until_it_is_answered, ways))
    assert {answer.status_code for answer in answers} <= {200, 202}, [answer.text for answer in answers]
    shown = answered(await booked.cancel(key="last"))
    assert (shown["status"], shown["payment"]["refunded"]["amount"]) == ("cancelled", TOTAL_MINOR)
    assert [one.amount for one in office.payments.refunds_of(booked.entry.id)] == [TOTAL_MINOR]
    fired("K05", len(answers) - 1)


async def test_money_on_its_way_is_202(office: BoxOffice) -> None:
    """B3: seats are free at once, the answer is 202 until the money has arrived, and the news of it ends the saga."""
    booked = await confirmed(office)
    office.payments.refunds_take_time = True
    shown = answered(await booked.cancel(), 202)
    assert (shown["status"], shown["payment"]["status"]) == ("cancelled", "refund_pending")
    assert await office.free(booked.offer) == 10
    answered(await booked.cancel(), 202)
    assert [one.amount for one in office.payments.refunds_of(booked.entry.id)] == [TOTAL_MINOR]
    await booked.tell(office.payments.settle_refund(booked.entry.id))
    assert answered(await booked.cancel())["payment"]["status"] == "refunded"
    assert (await booked.saga())["status"] == "compensated"


async def test_a_refund_that_fails_has_a_second_path(office: BoxOffice) -> None:
    """S27, B3: the booking stays cancelled, a person is told why, and `retry` orders another refund, once."""
    booked = await confirmed(office, cancellation_policy=HALF)
    office.payments.refunds_take_time = True
    answered(await booked.cancel(), 202)
    await booked.tell(office.payments.settle_refund(booked.entry.id, "failed"))
    saga = await booked.saga()
    assert (saga["status"], saga["reason"]) == ("needs_attention", "refund_payment: refund_failed")
    shown = answered(await booked.cancel(), 202)
    assert (shown["status"], shown["payment"]["status"]) == ("cancelled", "refund_failed")
    office.payments.refunds_take_time = False
    why = {"reason": "the bank is back"}
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/retry", json=why))
    await office.parts.engine.drain(DRAIN_S)
    assert answered(await booked.cancel())["payment"]["refunded"]["amount"] == TOTAL_MINOR // 2
    refunds = office.payments.refunds_of(booked.entry.id)
    assert [(one.amount, one.status) for one in refunds] == [(4500, "failed"), (4500, "succeeded")]
    fired("S27", 1)


async def test_a_refund_that_fails_days_later_is_not_forgotten(office: BoxOffice) -> None:
    """S27: it had looked done and the saga was over; the news opens a case, and `retry` gives the money back again."""
    booked = await confirmed(office)
    answered(await booked.cancel())
    assert (await booked.saga())["status"] == "compensated"
    await booked.tell(office.payments.settle_refund(booked.entry.id, "failed"))
    saga = await booked.saga()
    assert (saga["status"], saga["reason"]) == ("needs_attention", "refund_payment: refund_failed")
    answered(await booked.cancel(), 202)
    why = {"reason": "another account"}
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/retry", json=why))
    await office.parts.engine.drain(DRAIN_S)
    assert (booked.entry.refunded, (await booked.saga())["status"]) == (TOTAL_MINOR, "compensated")
    (line,) = await office.sql(
        "SELECT step FROM saga_log WHERE saga_id = :id AND event = :event", id=saga["id"], event=str(Event.IN_VAIN)
    )
    assert line["step"] == "capture_payment"
    fired("S27", 1)


@pytest.mark.parametrize("came", ["after the end", "before the end"])
async def test_a_refund_by_hand_that_fails_is_ordered_for_a_booking_that_had_failed(
    office: BoxOffice, came: str
) -> None:
    """S27, S30, T04: taken and given back at Stripe while the deadline passed, then the bank threw it back: `retry` gives it back.

    Found by the simulation (seed 67626), in which `retry` tried to cancel what was captured, again and again.
    """
    booked = await pending(office)
    office.payments.change(
        booked.entry.id, status=PaymentStatus.REFUNDED, captured=TOTAL_MINOR, captures=1, refunded=TOTAL_MINOR
    )
    if came == "before the end":
        for operation in ("cancel", "get"):
            office.payments.always(operation, acts.TIMEOUT)
    await office.let_payment_time_run_out(booked.id)
    if came == "after the end":
        assert (await booked.saga())["status"] == "compensated"
    assert (await office.status(booked.id), await office.free(booked.offer)) == ("failed", 10)
    office.payments.heal()
    await booked.tell(office.payments.change(booked.entry.id, status=PaymentStatus.REFUND_FAILED, refunded=0))
    await booked.turn()
    saga = await booked.saga()
    why = {"after the end": "refund_failed", "before the end": "already_captured"}[came]
    assert (saga["status"], saga["reason"]) == ("needs_attention", f"cancel_payment_intent: {why}")
    word = {"reason": "another account"}
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/retry", json=word))
    await office.parts.engine.drain(DRAIN_S)
    assert ((await booked.saga())["status"], booked.entry.refunded) == ("compensated", TOTAL_MINOR)
    assert [one.amount for one in office.payments.refunds_of(booked.entry.id)] == [TOTAL_MINOR]
    fired("S27", 1)


async def test_a_person_may_have_paid_it_back_otherwise(office: BoxOffice) -> None:
    """The other way out: an operator vouches that the guest has the money, and no later news starts it again."""
    booked = await confirmed(office)
    office.payments.always("refund", acts.DECLINED)
    answered(await booked.cancel(), 202)
    saga = await booked.saga()
    body = {"outcome": "cancelled", "reason": "paid in cash"}
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/resolve", json=body))
    answered(await booked.cancel())
    office.payments.heal()
    await booked.tell(office.payments.change(booked.entry.id))
    assert ((await booked.saga())["status"], booked.entry.refunded) == ("compensated", 0)


@pytest.mark.parametrize("heard", ["before the word", "after the word"])
async def test_a_refund_that_fails_after_a_person_has_vouched_is_news(office: BoxOffice, heard: str) -> None:
    """S27: whoever vouched for a refund could not know that the bank would send it back days later; whoever knew has seen to it."""
    booked = await confirmed(office)
    office.payments.always("refund", acts.DECLINED)
    answered(await booked.cancel(), 202)
    office.payments.heal()
    saga = await booked.saga()
    office.payments.change(booked.entry.id, status=PaymentStatus.REFUNDED, refunded=TOTAL_MINOR)
    failed = {"status": PaymentStatus.REFUND_FAILED, "refunded": 0}
    if heard == "before the word":
        office.payments.change(booked.entry.id, **failed)
    await booked.tell(office.payments.change(booked.entry.id))
    word = {"reason": "refunded by hand", "outcome": "cancelled"}
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/resolve", json=word))
    await booked.tell(office.payments.change(booked.entry.id, **failed))
    after = await booked.saga()
    told = ("compensated", None) if heard == "before the word" else ("needs_attention", "refund_payment: refund_failed")
    assert (after["status"], after["reason"]) == told


async def test_what_was_given_back_before_counts(office: BoxOffice) -> None:
    """S29, S30: somebody gave part back in Stripe's dashboard; together it is never more than the terms give."""
    booked = await confirmed(office, cancellation_policy=HALF)
    office.payments.change(booked.entry.id, status=PaymentStatus.PARTIALLY_REFUNDED, refunded=1500)
    shown = answered(await booked.cancel(), 200)
    assert [one.amount for one in office.payments.refunds_of(booked.entry.id)] == [3000]
    assert shown["cancellation"]["refund"]["amount"] == 4500


async def test_an_outage_is_sat_out(office: BoxOffice) -> None:
    """S21: payment_service is away; the seats are free all the same, and the refund is made when it is back."""
    booked = await confirmed(office)
    office.payments.always("get", acts.NO_CONNECTION)
    shown = answered(await booked.cancel(), 202)
    assert (shown["status"], await office.free(booked.offer)) == ("cancelled", 10)
    await booked.turn()
    office.payments.heal()
    await booked.turn()
    assert answered(await booked.cancel())["payment"]["status"] == "refunded"


async def test_nobody_vouches_for_what_was_called_off(office: BoxOffice) -> None:
    """A booking that somebody asked to cancel never ends confirmed, not even on an operator's word."""
    booked = await pending(office)
    office.payments.always("capture", acts.BUSY)
    await office.pay(booked.id)
    answered(await booked.cancel(), 202)
    for _ in range(4):
        await booked.turn()
    saga = await booked.saga()
    assert (saga["status"], await office.status(booked.id)) == ("needs_attention", "needs_attention")
    body = {"outcome": "confirmed", "reason": "it was captured"}
    path = f"/admin/v1/sagas/{saga['id']}"
    refused(await office.operator().ask("POST", f"{path}/resolve", json=body), 409, "INVALID_SAGA_STATUS")
    office.payments.heal()
    answered(await office.operator().ask("POST", f"{path}/retry", json={"reason": "Stripe is back"}))
    await office.parts.engine.drain(DRAIN_S)
    assert (await office.status(booked.id), booked.entry.refunded) == ("cancelled", TOTAL_MINOR)
    fired("K04", 1)


async def test_a_booking_that_was_vouched_for_can_be_cancelled(office: BoxOffice) -> None:
    """Confirmed on an operator's word, its journal never confirmed it: seats and money come back all the same."""
    booked = await pending(office)
    office.payments.always("capture", acts.UNKNOWN_APPLIED)
    await office.pay(booked.id)
    for _ in range(4):
        await booked.turn()
    saga = await booked.saga()
    assert saga["status"] == "needs_attention"
    await booked.tell(office.payments.change(booked.entry.id))
    body = {"outcome": "confirmed", "reason": "captured, says Stripe"}
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/resolve", json=body))
    office.payments.heal()
    shown = answered(await booked.cancel())
    assert (shown["status"], booked.entry.refunded) == ("cancelled", TOTAL_MINOR)
    assert await office.free(booked.offer) == 10
