"""Wrong calls: Stripe's status, type, code and parameter, so that the SDK raises what it would raise."""

from typing import Any

import pytest
import stripe

from tests.sandbox.running import SECRET_KEY, RunningSandbox, told


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"currency": "eur"}, "parameter_missing", "amount"),
        ({"amount": 100}, "parameter_missing", "currency"),
        ({"amount": 0, "currency": "eur"}, "parameter_invalid_integer", "amount"),
        ({"amount": -5, "currency": "eur"}, "parameter_invalid_integer", "amount"),
        ({"amount": "1e3", "currency": "eur"}, "parameter_invalid_integer", "amount"),
        ({"amount": 49, "currency": "eur"}, "amount_too_small", "amount"),
        ({"amount": 29, "currency": "gbp"}, "amount_too_small", "amount"),
        ({"amount": 100_000_000, "currency": "eur"}, "amount_too_large", "amount"),
        ({"amount": 1501, "currency": "kwd"}, "parameter_invalid_integer", "amount"),
        ({"amount": 100, "currency": "xxx"}, "parameter_invalid_string", "currency"),
        ({"amount": 100, "currency": "eur", "customer": "cus_1"}, "parameter_unknown", "customer"),
        ({"amount": 100, "currency": "eur", "shipping": {"colour": "red"}}, "parameter_unknown", "shipping[colour]"),
        ({"amount": 100, "currency": "eur", "capture_method": "later"}, None, "capture_method"),
        ({"amount": 100, "currency": "eur", "confirm": "maybe"}, None, "confirm"),
        ({"amount": 100, "currency": "eur", "metadata": {"k": "v" * 501}}, "parameter_invalid_string", "metadata"),
        ({"amount": 100, "currency": "eur", "return_url": "http://shop"}, None, "return_url"),
        ({"amount": 100, "currency": "eur", "payment_method": "pm_none"}, "resource_missing", "payment_method"),
        ({"amount": 100, "currency": "eur", "expand": ["colour"]}, None, "expand"),
        (
            {"amount": 100, "currency": "eur", "payment_method_types": ["card"]},
            "payment_method_types_no_longer_supported",
            "payment_method_types",
        ),
        (
            {"amount": 100, "currency": "eur", "allowed_payment_method_types": ["us_bank_account"]},
            None,
            "allowed_payment_method_types",
        ),
    ],
)
async def test_wrong_parameters_are_named(
    sandbox: RunningSandbox, params: dict[str, Any], code: str | None, param: str
) -> None:
    """Each wrong parameter of a create is refused with its code and name, and nothing is created."""
    before = (await sandbox.v1.payment_intents.list_async({"limit": 1})).data
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await sandbox.v1.payment_intents.create_async(params)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert (await sandbox.v1.payment_intents.list_async({"limit": 1})).data == before


@pytest.mark.parametrize(
    ("amount", "currency"), [(50, "jpy"), (50, "eur"), (30, "gbp"), (1500, "kwd"), (99_999_999, "usd")]
)
async def test_amounts_at_the_limit_pass(sandbox: RunningSandbox, amount: int, currency: str) -> None:
    """The smallest and largest amounts are taken exactly, zero-decimal currencies as whole units."""
    intent = await sandbox.intent(amount, currency=currency)
    assert (intent.amount, intent.currency) == (amount, currency)


@pytest.mark.parametrize(
    ("service", "object_id"),
    [("payment_intents", "pi_1"), ("charges", "ch_1"), ("refunds", "re_1"), ("events", "evt_1"), ("disputes", "du_1")],
)
async def test_unknown_ids_are_404(sandbox: RunningSandbox, service: str, object_id: str) -> None:
    """An id of nothing is `resource_missing`."""
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await getattr(sandbox.v1, service).retrieve_async(object_id)
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


async def test_unknown_urls_are_404_with_stripes_body(sandbox: RunningSandbox) -> None:
    """What the sandbox does not cover says so in Stripe's error shape."""
    answer = await sandbox.http.post("/v1/customers", headers={"Authorization": f"Bearer {SECRET_KEY}"})
    assert answer.status_code == 404
    assert "Unrecognized request URL" in answer.json()["error"]["message"]


@pytest.mark.parametrize("key", ["", "sk_test_wrong", "rk_test_other"])
async def test_a_wrong_key_is_401(sandbox: RunningSandbox, key: str) -> None:
    """Without the right key nothing is done, and the answer does not repeat the key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = await sandbox.http.get("/v1/payment_intents", headers=headers)
    assert answer.status_code == 401
    assert not key or key not in answer.text


async def test_basic_auth_works_like_curl_does_it(sandbox: RunningSandbox) -> None:
    """`curl -u sk_test_...:` sends the key as a user name."""
    assert (await sandbox.http.get("/v1/payment_intents", auth=(SECRET_KEY, ""))).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"amount=100&amount[x]=1",
        b"a[b=1",
        b"[]=1",
        b"amount[][][][][][][]=1",
        b"\xff\xfe=1",
        b"x" * 300_000,
        b"a=1&" * 1100,
    ],
)
async def test_broken_forms_are_400(sandbox: RunningSandbox, body: bytes) -> None:
    """Nothing that can be sent as a body makes the sandbox fail."""
    headers = {"Authorization": f"Bearer {SECRET_KEY}", "Content-Type": "application/x-www-form-urlencoded"}
    answer = await sandbox.http.post("/v1/payment_intents", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_confirming_needs_a_payment_method(sandbox: RunningSandbox) -> None:
    """A confirm without any method is refused with the PaymentIntent in the error."""
    intent = await sandbox.intent()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await sandbox.v1.payment_intents.confirm_async(intent.id)
    assert told(refused).payment_intent.id == intent.id


async def test_a_server_must_give_a_return_url_when_redirects_are_possible(sandbox: RunningSandbox) -> None:
    """Stripe's well-known stumbling block with automatic payment methods exists here too."""
    params = {"amount": 100, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await sandbox.v1.payment_intents.create_async(params)
    assert refused.value.param == "return_url"
    never = {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
    assert (await sandbox.v1.payment_intents.create_async(params | never)).status == "succeeded"


async def test_it_says_that_it_is_not_stripe(sandbox: RunningSandbox) -> None:
    """The front page, the health page and each answer's Server header say so; the page loads nothing from elsewhere."""
    page = await sandbox.http.get("/")
    assert "not Stripe" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "not Stripe" in page.headers["server"]
    assert "not Stripe" in (await sandbox.look("health"))["what"]
