"""Create, capture and cancel: whatever gets lost on the way, each ends in one intent and one truth."""

from uuid import uuid4

import pytest

from shared.payment_contract import Outcome, PaymentStatus
from tests.answers import answered, refused
from tests.payment.line_to_stripe import loses_the_answer, loses_the_question, never_connects, passes, says, tells
from tests.payment.till import DECLINED_CARD, Till, intent_id, view
from tests.scenarios import fired


async def test_a_payment_is_created_authorised_and_captured(till: Till) -> None:
    """The whole way: the guest's browser gets what it needs, and exactly the amount asked for is taken."""
    order = till.order(amount=4500)
    payment = await till.created(order)
    assert (payment.id, payment.status, payment.amount) == (order.payment_id, PaymentStatus.REQUIRES_PAYMENT, 4500)
    assert payment.client_secret
    assert payment.publishable_key == "pk_test_till"

    await till.pay(payment)
    authorized = await till.seen(payment.id)
    assert authorized.status is PaymentStatus.AUTHORIZED
    assert authorized.capture_before is not None

    captured = await till.client.capture(payment.id)
    assert (captured.outcome, view(captured).status) == (Outcome.OK, PaymentStatus.CAPTURED)
    assert view(captured).captured == 4500
    (line,) = await till.intents_of(order.reservation_id)
    assert line["net"] == 4500


async def test_stripe_is_told_whose_payment_it_is(till: Till) -> None:
    """Peers B3.41, B3.45: the intent carries our ids, and the key is a function of booking, generation and step, never of the caller's key."""
    order = till.order(currency="JPY", amount=500)
    answered(await till.post("/internal/v1/payments", order.model_dump(mode="json"), key="whatever-the-caller-likes"))
    sent = till.line.form(0)
    assert (sent["amount"], sent["currency"]) == ("500", "jpy")
    assert sent["metadata[payment_id]"] == str(order.payment_id)
    assert sent["metadata[reservation_id]"] == str(order.reservation_id)
    assert till.line.keys("/v1/payment_intents") == [f"{order.reservation_id}:1:create:1"]


async def test_a_lost_answer_to_create_is_found_by_its_key(till: Till) -> None:
    """S01, peers B3.43: UNKNOWN, then the same call under the same Stripe key: one intent, however often it is tried."""
    order = till.order()
    till.line.meets(loses_the_answer, loses_the_answer)
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert (await till.client.create(order)).outcome is Outcome.OK
    assert len(await till.intents_of(order.reservation_id)) == 1
    assert len(set(till.line.keys("/v1/payment_intents"))) == 1
    fired("S01", till.line.met)


async def test_what_was_never_sent_is_said_so_until_something_was(till: Till) -> None:
    """NOT_SENT frees the seats at a deadline, so it is said only while no earlier call may have happened."""
    order = till.order()
    till.line.meets(never_connects, loses_the_answer, never_connects)
    assert (await till.client.create(order)).outcome is Outcome.NOT_SENT
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN


async def test_a_refused_setup_is_final(till: Till) -> None:
    """Stripe's definite no (an amount below its minimum) is kept: the same order never asks again."""
    order = till.order(amount=1)
    answer = await till.client.create(order)
    assert (answer.outcome, view(answer).status) == (Outcome.DECLINED, PaymentStatus.SETUP_FAILED)
    assert answer.error is not None
    assert answer.error.code == "amount_too_small"
    asked = len(till.line.calls)
    again = await till.post("/internal/v1/payments", order.model_dump(mode="json"), key="another-key")
    assert answered(again)["outcome"] == "declined"
    assert len(till.line.calls) == asked


async def test_a_stored_failure_is_not_repeated_but_looked_behind(till: Till) -> None:
    """S06: when Stripe only replays a 500 under the key, the intent that it made is found by its metadata."""
    order = till.order()
    till.line.meets(loses_the_answer, says(500, idempotent_replayed="true"))
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert (await till.client.create(order)).outcome is Outcome.OK
    assert len(await till.intents_of(order.reservation_id)) == 1
    fired("S06", till.line.met)


async def test_a_spent_key_is_replaced_once_it_is_proven_to_have_made_nothing(till: Till) -> None:
    """S06, S07: no intent is found behind the replayed 500, so the next key is used, and one intent exists."""
    order = till.order()
    till.line.meets(says(500, idempotent_replayed="true"))
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert (await till.client.create(order)).outcome is Outcome.OK
    assert len(await till.intents_of(order.reservation_id)) == 1
    assert [key[-1] for key in till.line.keys("/v1/payment_intents")] == ["1", "2"]
    fired("S06", till.line.met)
    fired("S07", till.line.met)


async def test_an_old_key_is_not_trusted(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """S24: Stripe forgets keys after a day; a create that may have happened before that is looked for, not repeated.

    Here a key is old after three minutes, so that the intent is as old as the call that made it.
    """
    monkeypatch.setattr(till.parts.lifecycle._establishing, "_key_trusted_s", 180.0)
    order = till.order()
    till.line.meets(loses_the_answer)
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    await till.sql("UPDATE payment_calls SET asked_at = asked_at - interval '4 minutes'")
    await till.sandbox("POST", "/clock", advance_s=25 * 3600)
    await till.sql("UPDATE payments SET created_at = created_at - interval '4 minutes'")
    assert (await till.client.create(order)).outcome is Outcome.OK
    assert len(await till.intents_of(order.reservation_id)) == 1
    assert len(till.line.keys("/v1/payment_intents")) == 1
    (search,) = [call.url.params for call in till.line.calls if call.method == "GET" and call.url.params.get("limit")]
    minutes = (int(search["created[lte]"]) - int(search["created[gte]"])) / 60
    assert minutes == 10, "around the call that may have made it, however many payments there were since"
    fired("S24", till.line.met)


async def test_a_search_that_fails_proves_nothing(till: Till) -> None:
    """While the lost intent cannot be looked for, the outcome stays unknown and no new key is tried."""
    order = till.order()
    till.line.meets(says(500, idempotent_replayed="true"), never_connects)
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert len(till.line.keys("/v1/payment_intents")) == 1


async def test_an_id_means_one_payment_for_ever(till: Till) -> None:
    """Neither another amount under the same id, nor another id for the same booking and generation, is accepted."""
    order = till.order()
    await till.created(order)
    other_amount = order.model_dump(mode="json") | {"amount": 9900}
    refused(await till.post("/internal/v1/payments", other_amount, key="k1"), 409, "PAYMENT_IDENTITY_TAKEN")
    other_id = order.model_dump(mode="json") | {"payment_id": str(uuid4())}
    refused(await till.post("/internal/v1/payments", other_id, key="k2"), 409, "PAYMENT_IDENTITY_TAKEN")
    assert len(await till.intents_of(order.reservation_id)) == 1


async def test_a_wrong_amount_is_never_ok(till: Till) -> None:
    """S23: Stripe's object shows another amount: unknown, marked for a person, and found by the audit."""
    order = till.order()
    till.line.meets(tells(amount=1))
    answer = await till.client.create(order)
    assert (answer.outcome, view(answer).status) == (Outcome.UNKNOWN, PaymentStatus.NONE)
    assert answer.error is not None
    assert answer.error.code == "amount_mismatch"
    assert await till.violated() == {"no-contradiction": 1}

    assert (await till.cancel(order)).outcome is Outcome.OK
    assert [line["status"] for line in await till.intents_of(order.reservation_id)] == ["canceled"]
    fired("S23", till.line.met)


async def test_another_currency_is_a_wrong_amount(till: Till) -> None:
    """4500 yen are not 4500 cents; the mark goes away when Stripe shows the right object."""
    order = till.order()
    till.line.meets(tells(currency="jpy"))
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert (await till.seen(order.payment_id)).status is PaymentStatus.REQUIRES_PAYMENT
    assert (await till.client.create(order)).outcome is Outcome.OK


async def test_a_lost_answer_to_capture_is_asked_for(till: Till) -> None:
    """S02: Stripe captured, the answer got lost; asking at once makes it known, and nothing is captured twice."""
    payment = await till.authorized()
    till.line.meets(loses_the_answer)
    answer = await till.client.capture(payment.id)
    assert (answer.outcome, view(answer).captured) == (Outcome.OK, 4500)
    fired("S02", till.line.met)


async def test_an_unknown_capture_is_asked_for_before_it_is_repeated(till: Till) -> None:
    """Peers B3.47: from UNKNOWN only ask: the next call begins with a look, and only then captures, once."""
    payment = await till.authorized()
    till.line.meets(loses_the_answer, never_connects)
    assert (await till.client.capture(payment.id)).outcome is Outcome.UNKNOWN
    assert (await till.client.capture(payment.id)).outcome is Outcome.OK
    assert len(till.line.keys("/capture")) == 1


async def test_a_refusal_that_nobody_can_look_behind_is_unknown(till: Till) -> None:
    """S02: Stripe refuses to capture what it has captured; as long as nobody has seen why, that is no decline."""
    payment = await till.authorized()
    till.line.meets(loses_the_answer, never_connects)
    assert (await till.client.capture(payment.id)).outcome is Outcome.UNKNOWN
    till.line.meets(never_connects, passes, never_connects)
    assert (await till.client.capture(payment.id)).outcome is Outcome.UNKNOWN
    assert len(till.line.keys("/capture")) == 2, "the look before was not answered, so it was tried again"
    assert (await till.client.capture(payment.id)).outcome is Outcome.OK
    fired("S02", till.line.met)


async def test_a_capture_that_did_not_happen_gets_a_fresh_key(till: Till) -> None:
    """A stored 500 would come back for ever under its key; the look shows that nothing was taken, so the key moves on."""
    payment = await till.authorized()
    till.line.meets(loses_the_question)
    assert (await till.client.capture(payment.id)).outcome is Outcome.UNKNOWN
    assert (await till.client.capture(payment.id)).outcome is Outcome.OK
    assert [key[-1] for key in till.line.keys("/capture")] == ["1", "2"]
    assert [line["net"] for line in await till.intents_of(payment.reservation_id)] == [4500]


async def test_capturing_again_is_ok_without_asking(till: Till) -> None:
    """A captured payment is captured; a second caller with another key learns that without a call to Stripe."""
    payment = await till.captured()
    asked = len(till.line.calls)
    again = answered(await till.post(f"/internal/v1/payments/{payment.id}/capture", {}, key="another"))
    assert (again["outcome"], again["payment"]["captured"]) == ("ok", 4500)
    assert len(till.line.calls) == asked


async def test_capture_notices_an_authorisation_that_nobody_told(till: Till) -> None:
    """No webhook came: capture looks first and finds the money reserved."""
    payment = await till.created()
    await till.pay(payment)
    assert (await till.client.capture(payment.id)).outcome is Outcome.OK


async def test_capture_too_early_takes_nothing(till: Till) -> None:
    """Nobody has paid yet: nothing was sent, and the same call may come again when somebody has."""
    payment = await till.created()
    answer = await till.client.capture(payment.id)
    assert answer.outcome is Outcome.NOT_SENT
    assert answer.error is not None
    assert answer.error.code == "payment_not_authorized"
    await till.pay(payment)
    assert (await till.client.capture(payment.id)).outcome is Outcome.OK


async def test_capture_after_a_decline_is_declined(till: Till) -> None:
    """The bank has said no since: the saga unwinds instead of asking for ever."""
    payment = await till.created()
    assert (await till.pay(payment, DECLINED_CARD)).status_code == 402
    answer = await till.client.capture(payment.id)
    assert answer.outcome is Outcome.DECLINED
    assert view(answer).decline_class == "insufficient_funds"


async def test_capture_of_an_expired_authorisation_is_declined(till: Till) -> None:
    """S15: Stripe has cancelled the authorisation by itself; the refusal says so and the payment shows it."""
    payment = await till.authorized()
    await till.at_stripe("POST", f"/v1/payment_intents/{intent_id(payment)}/cancel")
    answer = await till.client.capture(payment.id)
    assert (answer.outcome, view(answer).status) == (Outcome.DECLINED, PaymentStatus.CANCELED)
    fired("S15", [line["status"] for line in await till.intents_of(payment.reservation_id)].count("canceled"))


async def test_a_rate_limited_capture_was_not_sent_and_says_when(till: Till) -> None:
    """S08: 429 comes before Stripe looks at the call, so nothing has happened; its wait is passed on."""
    payment = await till.authorized()
    till.line.meets(says(429, {"error": {"type": "invalid_request_error"}}, retry_after="3"))
    answer = await till.client.capture(payment.id)
    assert answer.outcome is Outcome.NOT_SENT
    assert answer.error is not None
    assert answer.error.retry_after_ms == 3000
    fired("S08", till.line.met)


async def test_capture_of_nothing_is_404(till: Till) -> None:
    """An id that was never heard of, or is no id, names nothing."""
    refused(await till.post(f"/internal/v1/payments/{uuid4()}/capture", {}, key="k"), 404, "PAYMENT_NOT_FOUND")
    refused(await till.post("/internal/v1/payments/nonsense/capture", {}, key="k"), 404, "PAYMENT_NOT_FOUND")
