"""Idempotency keys, exactly as Stripe documents them."""

import asyncio

import pytest
import stripe

from tests.sandbox.conftest import Start
from tests.sandbox.running import RunningSandbox, told

PARAMS = {"amount": 500, "currency": "eur", "allowed_payment_method_types": ["card"]}


async def test_the_same_key_replays_the_first_answer(sandbox: RunningSandbox) -> None:
    """One intent, byte for byte the same answer, and a header that says it is a replay of which request."""
    first = await sandbox.v1.payment_intents.create_async(PARAMS, {"idempotency_key": "replay-1"})
    original = sandbox.last_headers["request-id"]
    assert "idempotent-replayed" not in sandbox.last_headers
    again = await sandbox.v1.payment_intents.create_async(PARAMS, {"idempotency_key": "replay-1"})
    assert again.to_dict() == first.to_dict()
    assert sandbox.last_headers["idempotent-replayed"] == "true"
    assert sandbox.last_headers["original-request"] == original
    assert sandbox.last_headers["request-id"] != original


async def test_a_replay_shows_the_past(sandbox: RunningSandbox) -> None:
    """A replayed create shows the intent as it was, not as it is: the current state is GET."""
    options = {"idempotency_key": "replay-past"}
    first = await sandbox.v1.payment_intents.create_async(PARAMS, options)
    await sandbox.v1.payment_intents.cancel_async(first.id)
    assert (await sandbox.v1.payment_intents.create_async(PARAMS, options)).status == "requires_payment_method"


async def test_other_parameters_under_the_same_key_are_refused(sandbox: RunningSandbox) -> None:
    """A changed body is 400 `idempotency_error`, another endpoint as well."""
    await sandbox.v1.payment_intents.create_async(PARAMS, {"idempotency_key": "mismatch"})
    with pytest.raises(stripe.IdempotencyError):
        await sandbox.v1.payment_intents.create_async(PARAMS | {"amount": 501}, {"idempotency_key": "mismatch"})
    intent = await sandbox.authorised()
    with pytest.raises(stripe.IdempotencyError):
        await sandbox.v1.payment_intents.capture_async(intent.id, {}, {"idempotency_key": "mismatch"})
    assert (await sandbox.v1.payment_intents.retrieve_async(intent.id)).status == "requires_capture"


async def test_a_decline_is_replayed_without_asking_the_bank(sandbox: RunningSandbox) -> None:
    """Errors are stored too: the same key gives the same 402, and there is one failed charge."""
    intent = await sandbox.intent()
    params = {"payment_method": "pm_card_visa_chargeDeclined"}
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            await sandbox.v1.payment_intents.confirm_async(intent.id, params, {"idempotency_key": "declined"})
    assert sandbox.last_headers["idempotent-replayed"] == "true"
    assert len((await sandbox.v1.charges.list_async({"payment_intent": intent.id})).data) == 1


async def test_refused_parameters_are_not_stored(sandbox: RunningSandbox) -> None:
    """After a validation error the key is still free for the corrected request."""
    options = {"idempotency_key": "corrected"}
    with pytest.raises(stripe.InvalidRequestError):
        await sandbox.v1.payment_intents.create_async(PARAMS | {"amount": 1}, options)
    assert (await sandbox.v1.payment_intents.create_async(PARAMS, options)).amount == 500


async def test_a_key_in_use_is_409(sandbox: RunningSandbox) -> None:
    """While the first request under a key is on its way, a second one is turned away; later it replays."""
    await sandbox.fault(operation="payment_intents.create", action="delay_after", delay_ms=1500, count=1)
    options = {"idempotency_key": "busy"}
    slow = asyncio.create_task(sandbox.v1.payment_intents.create_async(PARAMS, options))
    await asyncio.sleep(0.3)
    with pytest.raises(stripe.APIError) as refused:
        await sandbox.v1.payment_intents.create_async(PARAMS, options)
    assert (refused.value.http_status, told(refused).code) == (409, "idempotency_key_in_use")
    first = await slow
    assert (await sandbox.v1.payment_intents.create_async(PARAMS, options)).id == first.id


async def test_fifty_callers_with_one_key_make_one_intent(sandbox: RunningSandbox) -> None:
    """Whatever the interleaving, a key creates once."""
    options = {"idempotency_key": "crowd"}
    calls = [sandbox.v1.payment_intents.create_async(PARAMS, options) for _ in range(50)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    ids = {answer.id for answer in answers if not isinstance(answer, BaseException)}
    assert len(ids) == 1
    assert all(answer.http_status == 409 for answer in answers if isinstance(answer, stripe.StripeError))


async def test_a_key_that_is_too_long_is_refused(sandbox: RunningSandbox) -> None:
    """255 characters are Stripe's limit."""
    with pytest.raises(stripe.IdempotencyError):
        await sandbox.v1.payment_intents.create_async(PARAMS, {"idempotency_key": "k" * 256})


async def test_a_key_is_forgotten_after_a_day(start: Start) -> None:
    """24 hours later, by the sandbox's clock, the same key makes a new charge: Stripe's trap for blind retries."""
    sandbox = await start()
    options = {"idempotency_key": "old"}
    first = await sandbox.v1.payment_intents.create_async(PARAMS, options)
    await sandbox.steer("clock", {"advance_s": 24 * 3600 - 60})
    assert (await sandbox.v1.payment_intents.create_async(PARAMS, options)).id == first.id
    await sandbox.steer("clock", {"advance_s": 61})
    assert (await sandbox.v1.payment_intents.create_async(PARAMS, options)).id != first.id


async def test_killed_in_the_middle_of_a_burst_it_has_done_each_call_wholly_or_not_at_all(start: Start) -> None:
    """Sixty creates, `kill -9` among them, then all keys again: one intent, one event and one authorisation per key."""
    sandbox = await start()

    async def create(number: int) -> stripe.PaymentIntent:
        params = PARAMS | {"capture_method": "manual", "payment_method": "pm_card_visa", "confirm": True}
        intent: stripe.PaymentIntent = await sandbox.v1.payment_intents.create_async(
            params, {"idempotency_key": f"burst-{number}"}
        )
        return intent

    calls = [asyncio.create_task(create(number)) for number in range(60)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    sandbox.kill()
    first = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(outcome, stripe.APIConnectionError) for outcome in first)
    await sandbox.start()
    again = [await create(number) for number in range(60)]
    for before, after in zip(first, again, strict=True):
        assert isinstance(before, stripe.APIConnectionError) or getattr(before, "id", None) == after.id
    book = (await sandbox.look("book"))["payment_intents"]
    assert [line["authorized"] for line in book] == [500] * 60
    events = await sandbox.v1.events.list_async({"limit": 100, "type": "payment_intent.amount_capturable_updated"})
    assert sorted(event.data.object.id for event in events.data) == sorted(intent.id for intent in again)
