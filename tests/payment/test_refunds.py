"""Refunds: never more than was taken, each once, whoever asks how often and whatever gets lost."""

import asyncio
from uuid import uuid4

from shared.payment_contract import Outcome, PaymentStatus
from tests.answers import answered, refused
from tests.payment.line_to_stripe import loses_the_answer, loses_the_question, never_connects, says
from tests.payment.till import Till, given_back_by_hand, view
from tests.scenarios import fired

PENDING_REFUND_CARD = "4000000000007726"


async def net(till: Till, reservation_id: object) -> int:
    (line,) = await till.intents_of(reservation_id)  # type: ignore[arg-type]
    return int(line["net"])


async def test_in_parts_and_then_in_full(till: Till) -> None:
    """The status and the sum follow the refunds; Stripe's book agrees."""
    payment = await till.captured(amount=4500)
    part = view(await till.refund(payment, 1500))
    assert (part.status, part.refunded) == (PaymentStatus.PARTIALLY_REFUNDED, 1500)
    rest = view(await till.refund(payment, 3000))
    assert (rest.status, rest.refunded) == (PaymentStatus.REFUNDED, 4500)
    assert await net(till, payment.reservation_id) == 0


async def test_never_more_than_was_captured(till: Till) -> None:
    """I7: refused before Stripe hears of it; what has been refunded counts."""
    payment = await till.captured(amount=4500)
    path = f"/internal/v1/payments/{payment.id}/refunds"
    await till.refund(payment, 4000)
    asked = len(till.line.calls)
    body = {"refund_id": str(uuid4()), "amount": 501}
    refused(await till.post(path, body, key="k1"), 409, "REFUND_EXCEEDS_PAYMENT")
    assert len(till.line.calls) == asked
    assert answered(await till.post(path, body | {"amount": 500}, key="k2"))["outcome"] == "ok"


async def test_parallel_refunds_take_turns(till: Till) -> None:
    """S29: ten refunds of 1000 on a payment of 4500: four happen, and the sum holds."""
    payment = await till.captured(amount=4500)
    path = f"/internal/v1/payments/{payment.id}/refunds"
    bodies = [{"refund_id": str(uuid4()), "amount": 1000} for _ in range(10)]
    answers = await asyncio.gather(*(till.post(path, body, key=body["refund_id"]) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [409] * 6
    assert await net(till, payment.reservation_id) == 500


async def test_what_was_only_authorised_cannot_be_refunded(till: Till) -> None:
    """Nothing was captured, so nothing can go back; a cancel is what is wanted."""
    payment = await till.authorized()
    body = {"refund_id": str(uuid4()), "amount": 1}
    answer = await till.post(f"/internal/v1/payments/{payment.id}/refunds", body, key="k")
    refused(answer, 409, "REFUND_EXCEEDS_PAYMENT")


async def test_the_same_refund_again_is_the_same_refund(till: Till) -> None:
    """A refund is known by its id, under whatever key it comes; with another amount it is refused."""
    payment = await till.captured()
    path, refund_id = f"/internal/v1/payments/{payment.id}/refunds", str(uuid4())
    for key in ("k1", "k2"):
        answer = answered(await till.post(path, {"refund_id": refund_id, "amount": 2000}, key=key))
        assert (answer["outcome"], answer["payment"]["refunded"]) == ("ok", 2000)
    wrong = await till.post(path, {"refund_id": refund_id, "amount": 2500}, key="k3")
    refused(wrong, 422, "IDEMPOTENCY_KEY_REUSED")
    assert await net(till, payment.reservation_id) == 2500


async def test_a_lost_answer_means_one_refund(till: Till) -> None:
    """S03: UNKNOWN, then the same call under the same Stripe key."""
    payment = await till.captured()
    till.line.meets(loses_the_answer, never_connects)
    refund_id = uuid4()
    first = await till.refund(payment, 1000, refund_id)
    assert (first.outcome, view(first).status) == (Outcome.UNKNOWN, PaymentStatus.REFUND_PENDING)
    # The last call was surely not sent, but the one before may have been.
    assert (await till.refund(payment, 1000, refund_id)).outcome is Outcome.UNKNOWN
    last = await till.refund(payment, 1000, refund_id)
    assert (last.outcome, view(last).refunded) == (Outcome.OK, 1000)
    assert await net(till, payment.reservation_id) == 3500
    assert len(set(till.line.keys("/v1/refunds"))) == 1
    fired("S03", till.line.met)


async def test_an_old_refund_key_is_not_trusted(till: Till) -> None:
    """S24: after a day the refund is looked for by its metadata, because the key would make another one."""
    payment = await till.captured()
    till.line.meets(loses_the_answer)
    refund_id = uuid4()
    await till.refund(payment, 1000, refund_id)
    await till.sql("UPDATE payment_calls SET asked_at = asked_at - interval '25 hours'")
    await till.sandbox("POST", "/clock", advance_s=25 * 3600)
    assert (await till.refund(payment, 1000, refund_id)).outcome is Outcome.OK
    assert await net(till, payment.reservation_id) == 3500
    fired("S24", till.line.met)


async def test_a_refund_that_is_proven_not_to_exist_is_made_anew(till: Till) -> None:
    """A stored 500 hides nothing: the list shows no refund of this id, so a fresh key makes it."""
    payment = await till.captured()
    till.line.meets(says(500, idempotent_replayed="true"))
    refund_id = uuid4()
    assert (await till.refund(payment, 1000, refund_id)).outcome is Outcome.UNKNOWN
    assert (await till.refund(payment, 1000, refund_id)).outcome is Outcome.OK
    assert [key[-1] for key in till.line.keys("/v1/refunds")] == ["1", "2"]


async def test_the_look_for_a_refund_may_fail_too(till: Till) -> None:
    """While Stripe cannot be asked, a refund that may have happened stays unknown and is not made again."""
    payment = await till.captured()
    till.line.meets(says(500, idempotent_replayed="true"), loses_the_question)
    refund_id = uuid4()
    await till.refund(payment, 1000, refund_id)
    assert (await till.refund(payment, 1000, refund_id)).outcome is Outcome.UNKNOWN
    assert len(till.line.keys("/v1/refunds")) == 1


async def test_a_refused_refund_leaves_the_money_refundable(till: Till) -> None:
    """Stripe says no: the payment says so, and the full amount may still be asked for under another id."""
    payment = await till.captured()
    till.line.meets(says(400, {"error": {"type": "invalid_request_error", "code": "charge_disputed"}}))
    refund_id = uuid4()
    answer = await till.refund(payment, 4500, refund_id)
    assert (answer.outcome, view(answer).status) == (Outcome.DECLINED, PaymentStatus.REFUND_FAILED)
    path = f"/internal/v1/payments/{payment.id}/refunds"
    again = answered(await till.post(path, {"refund_id": str(refund_id), "amount": 4500}, key="again"))
    assert (again["outcome"], again["error"]["code"]) == ("declined", "refund_failed")
    anew = await till.refund(payment, 4500)
    assert (anew.outcome, view(anew).status) == (Outcome.OK, PaymentStatus.REFUNDED)


async def test_a_pending_refund_is_ok_and_pending(till: Till) -> None:
    """Stripe has taken it on; until the money is back the payment says `refund_pending`."""
    payment = await till.created()
    await till.pay_with_number(payment, PENDING_REFUND_CARD)
    await till.client.capture(payment.id)
    answer = await till.refund(payment, 4500)
    assert (answer.outcome, view(answer).status) == (Outcome.OK, PaymentStatus.REFUND_PENDING)
    assert view(answer).refunded == 0


async def test_a_refund_made_by_hand_counts(till: Till) -> None:
    """S30: a person refunded in Stripe's dashboard; the event brings it in, and the sum knows it."""
    payment = await till.captured()
    await given_back_by_hand(till, payment, 4000)
    seen = await till.seen(payment.id)
    assert (seen.status, seen.refunded) == (PaymentStatus.PARTIALLY_REFUNDED, 4000)
    body = {"refund_id": str(uuid4()), "amount": 501}
    answer = await till.post(f"/internal/v1/payments/{payment.id}/refunds", body, key="k")
    refused(answer, 409, "REFUND_EXCEEDS_PAYMENT")


async def test_a_refund_by_hand_overtakes_what_was_only_asked_for(till: Till) -> None:
    """S30: ours never left, somebody gave everything back at Stripe: ours has failed, and the books agree at once."""
    payment, refund_id = await till.captured(), uuid4()
    till.line.meets(never_connects)
    assert (await till.refund(payment, 4500, refund_id)).outcome is Outcome.NOT_SENT
    await given_back_by_hand(till, payment, 4500)
    seen = await till.seen(payment.id)
    assert (seen.status, seen.refunded) == (PaymentStatus.REFUNDED, 4500)
    again = await till.refund(payment, 4500, refund_id)
    assert (again.outcome, again.error and again.error.code) == (Outcome.DECLINED, "refund_failed")
    assert await net(till, payment.reservation_id) == 0


async def test_what_never_left_is_not_waited_for_when_somebody_gives_back_by_hand(till: Till) -> None:
    """S30, I8: there is room for both, but whoever asked may be content with the other: the payment and its books rest.

    Found by the simulation: half was due, ours had met an open breaker, and a person gave that half back in the dashboard.
    """
    payment, refund_id = await till.captured(), uuid4()
    till.line.meets(never_connects)
    assert (await till.refund(payment, 2000, refund_id)).outcome is Outcome.NOT_SENT
    assert (await till.seen(payment.id)).status is PaymentStatus.REFUND_PENDING
    await given_back_by_hand(till, payment, 2000)
    seen = await till.seen(payment.id)
    assert (seen.status, seen.refunded) == (PaymentStatus.PARTIALLY_REFUNDED, 2000)
    assert await net(till, payment.reservation_id) == 2500
    again = await till.refund(payment, 2000, refund_id)
    assert (again.outcome, again.error and again.error.code) == (Outcome.DECLINED, "refund_failed")
    assert view(await till.refund(payment, 500)).refunded == 2500


async def test_what_may_have_left_is_still_waited_for(till: Till) -> None:
    """S30, C04: the answer to ours was lost, and a person gives back as much by hand: both are counted."""
    payment, refund_id = await till.captured(), uuid4()
    till.line.meets(loses_the_answer)
    assert (await till.refund(payment, 2000, refund_id)).outcome is Outcome.UNKNOWN
    await given_back_by_hand(till, payment, 2000)
    again = view(await till.refund(payment, 2000, refund_id))
    assert (again.status, again.refunded) == (PaymentStatus.PARTIALLY_REFUNDED, 4000)


async def test_a_part_given_back_by_hand_leaves_the_rest_to_another_order(till: Till) -> None:
    """S30: what was asked for does not fit any more, the rest does; never more than was taken goes back."""
    payment = await till.captured()
    till.line.meets(never_connects)
    await till.refund(payment, 4500)
    await given_back_by_hand(till, payment, 2000)
    seen = await till.seen(payment.id)
    assert (seen.status, seen.refunded) == (PaymentStatus.PARTIALLY_REFUNDED, 2000)
    rest = view(await till.refund(payment, 2500))
    assert (rest.status, rest.refunded) == (PaymentStatus.REFUNDED, 4500)
    assert await net(till, payment.reservation_id) == 0


async def test_an_earlier_refund_comes_back_after_the_last_one(till: Till) -> None:
    """S27, I5: of two refunds that were done the first fails: the payment says so, and the rest can be ordered again.

    Found by the simulation, in which it stayed `refunded` with half of the money, and its saga waited for ever.
    """
    payment = await till.captured()
    by_hand = await given_back_by_hand(till, payment, 2000)
    assert view(await till.refund(payment, 2500)).status is PaymentStatus.REFUNDED
    await till.sandbox("POST", f"/refunds/{by_hand['id']}/settle", succeeded=False)
    await till.deliver_all("refund.failed")
    await till.process()
    fired("S27", 1)
    seen = await till.seen(payment.id)
    assert (seen.status, seen.refunded) == (PaymentStatus.REFUND_FAILED, 2500)
    rest = view(await till.refund(payment, 2000))
    assert (rest.status, rest.refunded) == (PaymentStatus.REFUNDED, 4500)


async def test_a_refund_that_does_not_fit_makes_us_look_at_the_others(till: Till) -> None:
    """S27, S30: a refund has come back unheard, and a person gives that money once more: no event of it is buried.

    Found by the simulation (seed 28822), in which the news of the first was lost until the events were compared, and the
    event of the second was dead by then.
    """
    payment = await till.captured()
    first = await given_back_by_hand(till, payment, 4500)
    await till.sandbox("POST", f"/refunds/{first['id']}/settle", succeeded=False)
    await given_back_by_hand(till, payment, 3000)
    assert (await till.seen(payment.id)).refunded == 4500
    await till.make_all_due()
    await till.process()
    seen = await till.seen(payment.id)
    assert (seen.status, seen.refunded) == (PaymentStatus.PARTIALLY_REFUNDED, 3000)
    assert {row["status"] for row in await till.event_rows()} == {"processed"}
    fired("S27", 1)
