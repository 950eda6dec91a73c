"""Cancel: whatever had started is undone, what had not started never starts, and money that came first is not denied."""

import asyncio
from typing import Any

import pytest

from payment_service.store.payments import Payment
from shared.payment_contract import Outcome, PaymentStatus
from tests.answers import answered
from tests.payment.line_to_stripe import loses_the_answer, loses_the_question, never_connects, says
from tests.payment.till import SECRET_KEY, Till, intent_id, view
from tests.scenarios import fired


async def test_an_open_payment_is_cancelled_at_stripe(till: Till) -> None:
    """Nobody can pay any more, and the second cancel is OK without a second call."""
    payment = await till.created()
    answer = await till.cancel(payment)
    assert (answer.outcome, view(answer).status) == (Outcome.OK, PaymentStatus.CANCELED)
    assert (await till.pay(payment)).status_code == 400
    calls = len(till.line.calls)
    body = {"reservation_id": str(payment.reservation_id), "generation": 1}
    again = await till.post(f"/internal/v1/payments/{payment.id}/cancel", body, key="another")
    assert answered(again)["outcome"] == "ok"
    assert len(till.line.calls) == calls


async def test_an_authorisation_is_given_back(till: Till) -> None:
    """I11: cancelling after the bank has reserved the money leaves no authorisation open."""
    payment = await till.authorized()
    assert (await till.cancel(payment)).outcome is Outcome.OK
    assert [line["status"] for line in await till.intents_of(payment.reservation_id)] == ["canceled"]


async def test_money_that_was_taken_is_too_late_to_cancel(till: Till) -> None:
    """The saga turns forward, or refunds: the cancel only says so, and says so again."""
    payment = await till.captured()
    for _ in range(2):
        answer = await till.cancel(payment)
        assert (answer.outcome, view(answer).status) == (Outcome.TOO_LATE, PaymentStatus.CAPTURED)


async def test_money_that_was_taken_without_our_knowing_is_too_late_as_well(till: Till) -> None:
    """K04: the card was captured automatically a moment ago; Stripe refuses the cancel, and asking shows why."""
    payment = await till.created(till.order(capture_method="automatic"))
    await till.pay(payment)
    answer = await till.cancel(payment)
    assert (answer.outcome, view(answer).captured) == (Outcome.TOO_LATE, 4500)


async def test_a_cancel_that_comes_first_stops_the_create(till: Till) -> None:
    """A cancel can overtake a delayed create: the id is dead before it ever lived, and Stripe is never called."""
    order = till.order()
    first = await till.cancel(order)
    assert (first.outcome, view(first).status) == (Outcome.OK, PaymentStatus.CANCELED)
    late = await till.client.create(order)
    assert (late.outcome, view(late).status, view(late).amount) == (Outcome.DECLINED, PaymentStatus.CANCELED, 4500)
    assert late.error is not None
    assert late.error.code == "payment_canceled"
    assert till.line.calls == []


async def test_a_create_that_was_never_sent_is_cancelled_without_stripe(till: Till) -> None:
    """Nothing was sent, so there is nothing to ask: cancelled on the spot, even with Stripe away."""
    order = till.order()
    till.line.meets(never_connects)
    await till.client.create(order)
    assert (await till.cancel(order)).outcome is Outcome.OK
    assert len(till.line.calls) == 1


async def test_an_unknown_create_is_resolved_and_then_cancelled(till: Till) -> None:
    """The create may have happened: its key finds the intent, and that is cancelled."""
    order = till.order()
    till.line.meets(loses_the_answer)
    await till.client.create(order)
    assert (await till.cancel(order)).outcome is Outcome.OK
    assert [line["status"] for line in await till.intents_of(order.reservation_id)] == ["canceled"]
    assert len(set(till.line.keys("/v1/payment_intents"))) == 1


async def test_an_unknown_create_stays_unknown_while_stripe_is_away(till: Till) -> None:
    """From UNKNOWN only ask: the cancel waits, no create starts meanwhile, and the next cancel ends it."""
    order = till.order()
    till.line.meets(loses_the_answer, never_connects)
    await till.client.create(order)
    assert (await till.cancel(order)).outcome is Outcome.UNKNOWN
    late = await till.post("/internal/v1/payments", order.model_dump(mode="json"), key="late")
    assert answered(late)["error"]["code"] == "payment_canceled"
    assert (await till.cancel(order)).outcome is Outcome.OK


async def test_a_refused_setup_is_cancelled_without_stripe(till: Till) -> None:
    """Stripe never made anything of it, so there is nothing to cancel there."""
    order = till.order(amount=1)
    await till.client.create(order)
    asked = len(till.line.calls)
    answer = await till.cancel(order)
    assert (answer.outcome, view(answer).status) == (Outcome.OK, PaymentStatus.CANCELED)
    assert len(till.line.calls) == asked


async def test_an_unknown_create_that_turns_out_refused_is_cancelled(till: Till) -> None:
    """Asked again under its key, Stripe says no: nothing exists, and the payment is cancelled."""
    order = till.order(amount=1)
    till.line.meets(loses_the_question)
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert view(await till.cancel(order)).status is PaymentStatus.CANCELED


async def test_a_lost_answer_to_cancel_is_asked_for(till: Till) -> None:
    """S04: cancelled once, known at once."""
    payment = await till.created()
    till.line.meets(loses_the_answer)
    assert (await till.cancel(payment)).outcome is Outcome.OK
    assert len(till.line.keys("/cancel")) == 1
    fired("S04", till.line.met)


async def test_a_refusal_that_leaves_the_payment_alive_is_not_final(till: Till) -> None:
    """An undo may never be refused: what Stripe will not cancel now is tried again, under a fresh key, until it can be."""
    payment = await till.created()
    refusal = {"error": {"type": "invalid_request_error", "code": "payment_intent_unexpected_state"}}
    till.line.meets(says(400, refusal))
    answer = await till.cancel(payment)
    assert (answer.outcome, view(answer).status) == (Outcome.NOT_SENT, PaymentStatus.REQUIRES_PAYMENT)
    assert (await till.cancel(payment)).outcome is Outcome.OK
    assert [key[-1] for key in till.line.keys("/cancel")] == ["1", "2"]


async def test_a_cancel_by_hand_at_stripe_is_found(till: Till) -> None:
    """S30: somebody cancelled it in the dashboard; our cancel finds that out and is OK."""
    payment = await till.created()
    await till.at_stripe("POST", f"/v1/payment_intents/{intent_id(payment)}/cancel")
    assert (await till.cancel(payment)).outcome is Outcome.OK


async def test_create_and_cancel_at_the_same_moment_leave_nothing_open(till: Till) -> None:
    """Whoever wins, the saga's next cancel ends it, and no intent stays payable."""
    orders = [till.order() for _ in range(6)]
    await asyncio.gather(*(till.client.create(order) for order in orders), *(till.cancel(order) for order in orders))
    for order in orders:
        body = {"reservation_id": str(order.reservation_id), "generation": 1}
        last = await till.post(f"/internal/v1/payments/{order.payment_id}/cancel", body, key=f"last-{order.payment_id}")
        assert answered(last)["outcome"] == "ok"
        assert {line["status"] for line in await till.intents_of(order.reservation_id)} <= {"canceled"}


async def test_a_cancel_between_admission_and_call_wins(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The create comes again, the cancel finds nothing sent and ends the payment: then nothing is sent any more."""
    establishing, order = till.parts.lifecycle._establishing, till.order()
    establish = establishing.establish
    till.line.meets(says(401))
    assert (await till.client.create(order)).outcome is Outcome.NOT_SENT
    till.line.calls.clear()

    async def after_the_cancel(payment: Payment, *, deadline: float) -> Any:
        assert (await till.cancel(order)).outcome is Outcome.OK
        return await establish(payment, deadline=deadline)

    monkeypatch.setattr(establishing, "establish", after_the_cancel)
    assert (await till.client.create(order)).outcome is Outcome.DECLINED
    assert till.line.calls == []


async def test_a_cancel_that_finds_the_first_call_noted_ends_its_intent(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new payment is admitted with its call: a cancel right after makes and ends the intent, the create finds it ended."""
    establishing, order = till.parts.lifecycle._establishing, till.order()
    create = establishing.create

    async def after_the_cancel(payment: Payment, call: Any, *, deadline: float) -> Any:
        monkeypatch.setattr(establishing, "create", create)
        assert (await till.cancel(order)).outcome is Outcome.OK
        return await create(payment, call, deadline=deadline)

    monkeypatch.setattr(establishing, "create", after_the_cancel)
    assert (await till.client.create(order)).outcome is Outcome.DECLINED
    assert [line["status"] for line in await till.intents_of(order.reservation_id)] == ["canceled"]


async def test_no_secret_of_stripe_reaches_a_log(
    till: Till, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """I25: neither the client secret nor our key is printed while things go wrong."""
    payment = await till.created()
    till.line.meets(loses_the_answer, says(500), says(401))
    await till.client.capture(payment.id)
    await till.cancel(payment)
    printed = f"{caplog.text}{''.join(capsys.readouterr())}"
    assert payment.client_secret not in printed
    assert SECRET_KEY not in printed
