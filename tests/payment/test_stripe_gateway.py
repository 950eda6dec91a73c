"""What each answer of Stripe's, and each missing one, says about what has happened."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from payment_service.gateway.results import Page, Result
from payment_service.gateway.stripe import StripeGateway
from payment_service.states import RefundStatus
from shared.payment_contract import Outcome, PaymentStatus

PAYMENT_ID = uuid4()
INTENT: dict[str, Any] = {
    "id": "pi_1",
    "object": "payment_intent",
    "status": "requires_payment_method",
    "amount": 4500,
    "amount_received": 0,
    "currency": "eur",
    "client_secret": "pi_1_secret_x",
    "metadata": {"payment_id": str(PAYMENT_ID)},
    "last_payment_error": None,
    "latest_charge": None,
}
Handler = Callable[[httpx.Request], httpx.Response]


def gateway(handler: Handler) -> StripeGateway:
    return StripeGateway.connect(
        SecretStr("sk_test_x"),
        api_base="http://stripe",
        timeout_s=5,
        connect_timeout_s=2,
        transport=httpx.MockTransport(handler),
    )


async def create(handler: Handler) -> Result[Any]:
    stripe = gateway(handler)
    try:
        return await stripe.create_intent(
            amount=4500, currency="EUR", capture_method="manual", metadata={}, key="the-key"
        )
    finally:
        await stripe.close()


def fails_with(error: type[httpx.HTTPError]) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error("why", request=request)  # type: ignore[call-arg]

    return handler


def error(status: int, headers: dict[str, str] | None = None, **members: str) -> Handler:
    return lambda _request: httpx.Response(status, headers=headers or {}, json={"error": members})


def raw(status: int, content: bytes) -> Handler:
    return lambda _request: httpx.Response(status, content=content)


REPLAYED = {"Idempotent-Replayed": "true"}
MEANINGS: dict[str, tuple[Handler, Outcome, str, bool]] = {
    # what comes back: outcome, code, and whether the same call at once may help
    "no connection": (fails_with(httpx.ConnectError), Outcome.NOT_SENT, "provider_unreachable", True),
    "connecting takes too long": (fails_with(httpx.ConnectTimeout), Outcome.NOT_SENT, "provider_unreachable", True),
    "no free connection": (fails_with(httpx.PoolTimeout), Outcome.NOT_SENT, "provider_unreachable", True),
    "no answer in time": (fails_with(httpx.ReadTimeout), Outcome.UNKNOWN, "no_answer", True),
    "sending took too long": (fails_with(httpx.WriteTimeout), Outcome.UNKNOWN, "no_answer", True),
    "reset while sending": (fails_with(httpx.WriteError), Outcome.UNKNOWN, "no_answer", True),
    "reset while reading": (fails_with(httpx.ReadError), Outcome.UNKNOWN, "no_answer", True),
    "closed without an answer": (fails_with(httpx.RemoteProtocolError), Outcome.UNKNOWN, "no_answer", True),
    "500": (error(500, type="api_error"), Outcome.UNKNOWN, "http_500", True),
    "503 as a page": (raw(503, b"<html>busy</html>"), Outcome.UNKNOWN, "http_503", True),
    "500 with advice not to": (
        error(500, {"Stripe-Should-Retry": "false"}, type="api_error"),
        Outcome.UNKNOWN,
        "http_500",
        False,
    ),
    "stored 500": (error(500, REPLAYED, type="api_error"), Outcome.UNKNOWN, "http_500", False),
    "key in use": (
        error(409, type="idempotency_error", code="idempotency_key_in_use"),
        Outcome.UNKNOWN,
        "idempotency_key_in_use",
        True,
    ),
    "other parameters": (error(400, type="idempotency_error"), Outcome.UNKNOWN, "idempotency_key_mismatch", False),
    "too many": (error(429, {"Retry-After": "2"}, type="rate_limit_error"), Outcome.NOT_SENT, "rate_limited", True),
    "our key is wrong": (error(401, type="authentication_error"), Outcome.NOT_SENT, "provider_misconfigured", False),
    "our key may not": (error(403, type="invalid_request_error"), Outcome.NOT_SENT, "provider_misconfigured", False),
    "a lock, with advice to": (
        error(400, {"Stripe-Should-Retry": "true"}, type="invalid_request_error", code="lock_timeout"),
        Outcome.NOT_SENT,
        "lock_timeout",
        True,
    ),
    "amount too small": (
        error(400, type="invalid_request_error", code="amount_too_small"),
        Outcome.DECLINED,
        "amount_too_small",
        False,
    ),
    "no such object": (
        error(404, type="invalid_request_error", code="resource_missing"),
        Outcome.DECLINED,
        "resource_missing",
        False,
    ),
    "a card's no": (
        error(402, type="card_error", code="card_declined", decline_code="expired_card"),
        Outcome.DECLINED,
        "card_declined",
        False,
    ),
    "a proxy's 404": (raw(404, b"<html>no such page</html>"), Outcome.UNKNOWN, "http_404", True),
    "200 as a page": (raw(200, b"<html>it works</html>"), Outcome.UNKNOWN, "http_200", True),
    "200 as a list": (raw(200, b"[1, 2]"), Outcome.UNKNOWN, "malformed_answer", True),
    "200 with nothing": (raw(200, b"{}"), Outcome.UNKNOWN, "malformed_answer", True),
    "200 without an end": (raw(200, b" " * (1024 * 1024 + 1)), Outcome.UNKNOWN, "malformed_answer", False),
    "deeply nested": (raw(200, b'{"a":' * 100_000 + b"1" + b"}" * 100_000), Outcome.UNKNOWN, "http_200", True),
    "moved": (raw(302, b""), Outcome.UNKNOWN, "http_302", True),
    "an error that is a list": (raw(400, b'{"error": [1]}'), Outcome.UNKNOWN, "malformed_answer", True),
}


@pytest.mark.parametrize("name", MEANINGS)
async def test_what_an_answer_means(name: str) -> None:
    """UNKNOWN whenever Stripe may have done it; NOT_SENT and DECLINED only where that is certain."""
    handler, outcome, code, again = MEANINGS[name]
    result = await create(handler)
    assert (result.outcome, result.code, result.again) == (outcome, code, again)
    assert result.value is None


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("amount", "4500"),
        ("amount", 4500.0),
        ("amount", -1),
        ("amount", None),
        ("amount", True),
        ("currency", "EURO"),
        ("status", "a_status_of_the_future"),
        ("id", "pi/../1"),
        ("metadata", ["payment_id"]),
        ("client_secret", 7),
    ],
)
async def test_a_wrong_type_is_no_answer(member: str, value: Any) -> None:
    """X17: Stripe's answers are untrusted input; an intent that is not one leaves the outcome unknown."""
    result = await create(lambda _request: httpx.Response(200, json=INTENT | {member: value}))
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "malformed_answer")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*INTENT, "error", "x"]), inner),
    max_leaves=12,
)


@given(status=st.sampled_from([200, 201, 302, 400, 402, 404, 409, 429, 500]), body=JSON | st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
async def test_no_answer_is_ever_an_exception(status: int, body: Any) -> None:
    """Whatever comes back, the caller gets one of the four outcomes, and OK only for a whole intent."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    result = await create(raw(status, content))
    assert result.outcome in {Outcome.DECLINED, Outcome.NOT_SENT, Outcome.UNKNOWN}


async def test_an_intent_is_read_whole() -> None:
    """All that the rest of the service looks at, in our words: currency in capitals, status by class, times with zone."""
    card = {"payment_method_details": {"card": {"capture_before": 1_800_000_000}}}
    wire = INTENT | {"status": "requires_capture", "latest_charge": card, "something_new": {"a": 1}}
    seen = (await create(lambda _request: httpx.Response(200, json=wire))).value
    assert (seen.id, seen.status, seen.amount, seen.currency) == ("pi_1", PaymentStatus.AUTHORIZED, 4500, "EUR")
    assert seen.payment_id == PAYMENT_ID
    assert seen.capture_before == datetime.fromtimestamp(1_800_000_000, UTC)


@pytest.mark.parametrize(
    ("code", "decline_code", "meaning"),
    [
        ("card_declined", "insufficient_funds", "insufficient_funds"),
        ("card_declined", "generic_decline", "card_declined"),
        ("card_declined", "a_code_of_the_future", "card_declined"),
        ("expired_card", None, "expired_card"),
        ("incorrect_cvc", None, "incorrect_card_data"),
        ("processing_error", None, "processing_error"),
        ("payment_intent_authentication_failure", None, "authentication_failed"),
        ("card_declined", "authentication_required", "authentication_failed"),
        ("card_declined", "try_again_later", "processing_error"),
    ],
)
async def test_a_decline_is_told_in_a_few_words(code: str, decline_code: str | None, meaning: str) -> None:
    """Stripe's many codes become what a guest can do something about, both as a 402 and in an intent."""
    refusal = {"type": "card_error", "code": code, "decline_code": decline_code}
    declined = await create(lambda _request: httpx.Response(402, json={"error": refusal}))
    assert (declined.outcome, declined.decline_class) == (Outcome.DECLINED, meaning)
    intent = await create(lambda _request: httpx.Response(200, json=INTENT | {"last_payment_error": refusal}))
    assert intent.value.decline_class == meaning


async def test_an_old_decline_says_nothing_about_an_authorised_payment() -> None:
    """The first card was declined, the second one paid: nothing is declined any more."""
    wire = INTENT | {"status": "requires_capture", "last_payment_error": {"code": "card_declined"}}
    assert (await create(lambda _request: httpx.Response(200, json=wire))).value.decline_class is None


async def test_a_message_of_stripe_is_never_repeated() -> None:
    """Stripe's sentences may quote what a guest typed; only a code that is a word comes through."""
    result = await create(error(400, type="invalid_request_error", code="No such: 'ada@example.org'", message="x"))
    assert result.code == "refused"


async def test_the_sdk_sends_once_with_our_key() -> None:
    """L6: retries are ours alone, and the key is the one we gave."""
    calls: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(500, headers={"Stripe-Should-Retry": "true"}, json={"error": {}})

    await create(handler)
    assert [call.headers["idempotency-key"] for call in calls] == ["the-key"]
    assert calls[0].headers["stripe-version"]


async def test_a_page_of_the_search_for_an_intent() -> None:
    """Of a stretch of time, a hundred at a time, whoever made them; what carries our id is told, and where to go on."""
    since = datetime.fromtimestamp(1_800_000_000, UTC)
    theirs = [{"id": "pi_8"}, {"id": "pi_7", "metadata": None}, "no intent at all", {"id": "pi_9", "metadata": {}}]

    def handler(request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        assert (asked["created[gte]"], asked["created[lte]"]) == ("1800000000", "1800000600")
        assert (asked["limit"], asked["starting_after"]) == ("100", "pi_0")
        ours = {"id": "pi_1", "metadata": INTENT["metadata"]}
        return httpx.Response(200, json={"object": "list", "data": [ours, *theirs], "has_more": True})

    stripe = gateway(handler)
    result = await stripe.intents_of(PAYMENT_ID, since=since, until=since + timedelta(minutes=10), after="pi_0")
    await stripe.close()
    assert result.value == Page(("pi_1",), "pi_9", has_more=True)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("pending", RefundStatus.PENDING), ("requires_action", RefundStatus.PENDING), ("failed", RefundStatus.FAILED)],
)
async def test_a_refund_is_read(theirs: str, ours: RefundStatus) -> None:
    """Status, sums and whose it is; an id of somebody else's metadata is no id of ours."""
    wire = {"id": "re_1", "status": theirs, "amount": 5, "currency": "eur", "payment_intent": "pi_1"}
    stripe = gateway(lambda _request: httpx.Response(200, json=wire | {"metadata": {"refund_id": "theirs"}}))
    seen = (await stripe.retrieve_refund("re_1")).value
    await stripe.close()
    assert seen is not None
    assert (seen.status, seen.amount, seen.currency, seen.refund_id) == (ours, 5, "EUR", None)
