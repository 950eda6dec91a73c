"""A card payment from intent to capture, driven by the official SDK and, for the browser's part, by plain HTTP."""

import time
from typing import Any

import pytest
import stripe

from tests.sandbox.receiver import WebhookReceiver
from tests.sandbox.running import PUBLISHABLE_KEY, RunningSandbox, told

WEEK_S = 7 * 24 * 3600


async def test_manual_capture_reserves_then_takes_the_money(
    sandbox: RunningSandbox, shared_receiver: WebhookReceiver
) -> None:
    """The booking's path: create, confirm from the browser, capture; amounts and events are right at each step."""
    intent = await sandbox.intent(metadata={"reservation_id": "r1"})
    assert (intent.status, intent.amount_capturable, intent.latest_charge) == ("requires_payment_method", 0, None)

    answer = await sandbox.pays(intent, "pm_card_visa")
    assert (answer.status_code, answer.json()["status"]) == (200, "requires_capture")
    intent = await sandbox.v1.payment_intents.retrieve_async(intent.id, {"expand": ["latest_charge"]})
    assert (intent.amount_capturable, intent.amount_received) == (2000, 0)
    card = intent.latest_charge.payment_method_details.card
    assert card.capture_before == pytest.approx(time.time() + WEEK_S, abs=60)

    intent = await sandbox.v1.payment_intents.capture_async(intent.id)
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("succeeded", 0, 2000)
    assert intent.metadata.to_dict() == {"reservation_id": "r1"}
    expected = [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ]
    assert await sandbox.events(intent.id) == expected
    await shared_receiver.until(lambda: sorted(shared_receiver.about(intent.id)) == sorted(expected))


async def test_automatic_capture_takes_the_money_at_once(sandbox: RunningSandbox) -> None:
    """Without manual capture the confirmation is the payment."""
    intent = await sandbox.paid()
    assert (intent.status, intent.amount_received) == ("succeeded", 2000)
    assert await sandbox.events(intent.id) == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


async def test_partial_capture_releases_the_rest(sandbox: RunningSandbox) -> None:
    """What is not captured is not received, and cannot be captured later."""
    intent = await sandbox.authorised()
    intent = await sandbox.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 1500})
    assert (intent.status, intent.amount_received, intent.amount_capturable) == ("succeeded", 1500, 0)
    charge = await sandbox.v1.charges.retrieve_async(intent.latest_charge)
    assert (charge.amount, charge.amount_captured, charge.captured) == (2000, 1500, True)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await sandbox.v1.payment_intents.capture_async(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"
    assert told(refused).payment_intent.status == "succeeded"


async def test_capture_never_takes_more_than_was_authorised(sandbox: RunningSandbox) -> None:
    """Too large a capture is refused and changes nothing."""
    intent = await sandbox.authorised()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await sandbox.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 2001})
    assert (refused.value.code, refused.value.param) == ("amount_too_large", "amount_to_capture")
    assert (await sandbox.v1.payment_intents.retrieve_async(intent.id)).status == "requires_capture"


async def test_cancel_gives_an_authorisation_back(sandbox: RunningSandbox) -> None:
    """After a cancel nothing is capturable, the charge is released, and neither capture nor confirm nor cancel work."""
    intent = await sandbox.authorised()
    intent = await sandbox.v1.payment_intents.cancel_async(intent.id, {"cancellation_reason": "abandoned"})
    assert (intent.status, intent.amount_capturable, intent.cancellation_reason) == ("canceled", 0, "abandoned")
    charge = await sandbox.v1.charges.retrieve_async(intent.latest_charge)
    assert (charge.refunded, charge.amount_captured) == (True, 0)
    assert (await sandbox.events(intent.id))[-2:] == ["charge.refunded", "payment_intent.canceled"]
    for attempt in ("capture", "confirm", "cancel"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await getattr(sandbox.v1.payment_intents, f"{attempt}_async")(intent.id)
        assert refused.value.code == "payment_intent_unexpected_state"


async def test_a_decline_leaves_the_intent_payable(sandbox: RunningSandbox) -> None:
    """A declined card is 402 with the bank's reason; the same PaymentIntent then takes a good card."""
    intent = await sandbox.intent()
    with pytest.raises(stripe.CardError) as declined:
        await sandbox.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa_chargeDeclined"})
    error = told(declined)
    assert (declined.value.http_status, error.code, error.decline_code) == (402, "card_declined", "generic_decline")
    assert error.payment_intent.status == "requires_payment_method"
    intent = await sandbox.v1.payment_intents.retrieve_async(intent.id)
    assert intent.last_payment_error.decline_code == "generic_decline"
    assert intent.payment_method is None
    failed = await sandbox.v1.charges.retrieve_async(intent.latest_charge)
    assert (failed.status, failed.failure_code) == ("failed", "card_declined")
    intent = await sandbox.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert (intent.status, intent.last_payment_error) == ("requires_capture", None)
    assert "payment_intent.payment_failed" in await sandbox.events(intent.id)


@pytest.mark.parametrize(
    ("number", "code", "decline_code"),
    [
        ("4000000000000002", "card_declined", "generic_decline"),
        ("4000000000009995", "card_declined", "insufficient_funds"),
        ("4000000000009987", "card_declined", "lost_card"),
        ("4000000000000069", "expired_card", "expired_card"),
        ("4000000000000127", "incorrect_cvc", "incorrect_cvc"),
        ("4000000000000119", "processing_error", None),
        ("4100000000000019", "card_declined", "fraudulent"),
        ("4242424242424241", "incorrect_number", None),
        ("4012888888881881", "card_declined", "test_mode_live_card"),
    ],
)
async def test_each_test_number_does_its_one_thing(
    sandbox: RunningSandbox, number: str, code: str, decline_code: str | None
) -> None:
    """Stripe's published numbers fail as published; a real number is refused."""
    intent = await sandbox.intent()
    card = {"type": "card", "card": {"number": number, "exp_month": 12, "exp_year": 2040, "cvc": "123"}}
    with pytest.raises(stripe.CardError) as declined:
        await sandbox.v1.payment_intents.confirm_async(intent.id, {"payment_method_data": card})
    assert (declined.value.code, told(declined).to_dict().get("decline_code")) == (code, decline_code)


async def test_a_good_number_pays(sandbox: RunningSandbox) -> None:
    """4242 4242 4242 4242 works by number, spaces or not; the charge shows its last four digits."""
    intent = await sandbox.intent()
    card = {"type": "card", "card": {"number": "4242 4242 4242 4242", "exp_month": 12, "exp_year": 40, "cvc": "123"}}
    intent = await sandbox.v1.payment_intents.confirm_async(
        intent.id, {"payment_method_data": card, "expand": ["latest_charge"]}
    )
    assert intent.status == "requires_capture"
    assert intent.latest_charge.payment_method_details.card.last4 == "4242"


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ({"exp_month": 1, "exp_year": 2020}, "invalid_expiry_year"),
        ({"exp_month": 13, "exp_year": 2040}, "invalid_expiry_month"),
        ({"exp_month": 1, "exp_year": 2040, "cvc": "12"}, "invalid_cvc"),
    ],
)
async def test_a_card_that_cannot_be_right_is_refused(sandbox: RunningSandbox, card: dict[str, Any], code: str) -> None:
    """Expiry and security code are looked at before the bank is asked."""
    with pytest.raises(stripe.CardError) as refused:
        await sandbox.v1.payment_methods.create_async({"type": "card", "card": {"number": "4242424242424242"} | card})
    assert refused.value.code == code


class TestTheBrowser:
    """What a publishable key may do, and what it may not."""

    async def test_it_sees_public_fields_only(self, sandbox: RunningSandbox) -> None:
        """Metadata and charges are the merchant's; the status is the customer's too."""
        intent = await sandbox.intent(metadata={"secret": "plan"})
        for seen in (
            await sandbox.http.get(
                f"/v1/payment_intents/{intent.id}",
                params={"client_secret": intent.client_secret, "key": PUBLISHABLE_KEY},
            ),
            await sandbox.pays(intent, "pm_card_visa"),
        ):
            assert seen.status_code == 200
            assert {"status", "amount", "client_secret"} <= seen.json().keys()
            assert not {"metadata", "latest_charge", "amount_received", "amount_capturable"} & seen.json().keys()

    async def test_a_decline_shows_public_fields_only(self, sandbox: RunningSandbox) -> None:
        """The PaymentIntent inside an error is trimmed as well."""
        intent = await sandbox.intent(metadata={"secret": "plan"})
        declined = await sandbox.pays(intent, "pm_card_visa_chargeDeclined")
        assert declined.status_code == 402
        inside = declined.json()["error"]["payment_intent"]
        assert inside["status"] == "requires_payment_method"
        assert "metadata" not in inside

    async def test_it_needs_the_client_secret(self, sandbox: RunningSandbox) -> None:
        """Neither without it nor with another intent's."""
        intent, other = await sandbox.intent(), await sandbox.intent()
        for secret in ("", other.client_secret):
            answer = await sandbox.pays(intent, "pm_card_visa", client_secret=secret)
            assert answer.status_code == 400
        assert (await sandbox.v1.payment_intents.retrieve_async(intent.id)).status == "requires_payment_method"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/payment_intents"),
            ("POST", "/v1/refunds"),
            ("GET", "/v1/events"),
            ("POST", "/v1/payment_intents/{id}/capture"),
        ],
    )
    async def test_it_may_do_nothing_else(self, sandbox: RunningSandbox, method: str, path: str) -> None:
        """Everything but confirm, retrieve and a new payment method is 403."""
        intent = await sandbox.authorised()
        headers = {"Authorization": f"Bearer {PUBLISHABLE_KEY}"}
        answer = await sandbox.http.request(method, path.format(id=intent.id), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "secret_key_required")

    async def test_it_cannot_change_the_amount(self, sandbox: RunningSandbox) -> None:
        """A parameter that only a server may send is refused, and the payment with it."""
        intent = await sandbox.intent()
        answer = await sandbox.pays(intent, "pm_card_visa", amount="1")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parameter_unknown")
        assert (await sandbox.v1.payment_intents.retrieve_async(intent.id)).status == "requires_payment_method"

    async def test_any_origin_may_confirm(self, sandbox: RunningSandbox) -> None:
        """A storefront on another port asks first (CORS), like a page that talks to Stripe."""
        preflight = await sandbox.http.options(
            "/v1/payment_intents/pi_x/confirm", headers={"Origin": "http://127.0.0.1:1"}
        )
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "*")
        answer = await sandbox.pays(await sandbox.intent(), "pm_card_visa")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-origin" not in (await sandbox.http.get("/_sandbox/book")).headers
