"""Stripe's signature on raw bytes: what fits is let in, and every kind of garbage meets the same refusal."""

import hashlib
import hmac
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from payment_service.errors import WebhookMalformed, WebhookSignatureInvalid
from payment_service.gateway.webhook_signature import verify
from payment_service.webhooks.inbox import read_delivery

NOW_S = 1_800_000_000.0
WEBHOOK_SECRET = "new"
BODY = b'{"id": "evt_1"}'


def digest(body: bytes = BODY, secret: str = WEBHOOK_SECRET, at_s: int = int(NOW_S)) -> str:
    return hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()


def check(header: str | None, body: bytes = BODY, *, now_s: float = NOW_S) -> None:
    verify(body, header, secrets=("old", "new"), now_s=now_s, tolerance_s=300)


@pytest.mark.parametrize(
    "header",
    [
        f"t={NOW_S:.0f},v1={digest()}",
        f"t={NOW_S:.0f},v1={digest(secret='old')}",
        f"t={NOW_S:.0f},v1={'0' * 64},v1={digest()},v0=whatever",
        f" t={NOW_S:.0f} , v1={digest()} ",
    ],
)
def test_a_fitting_signature_is_accepted(header: str) -> None:
    """W11: any v1 value that fits any of our secrets will do, so a secret can be rotated without a gap."""
    check(header)


@pytest.mark.parametrize("off_s", [-300, 300])
def test_time_may_be_off_a_little_both_ways(off_s: int) -> None:
    """Five minutes are the tolerance, for the past and for the future."""
    check(f"t={NOW_S:.0f},v1={digest()}", now_s=NOW_S + off_s)


@pytest.mark.parametrize("off_s", [-301, 301, 3600, -315_360_000])
def test_a_replayed_or_future_delivery_is_refused(off_s: int) -> None:
    """W07, L5, peers B2.35: the SDK lets a timestamp of any future in; we do not."""
    with pytest.raises(WebhookSignatureInvalid):
        check(f"t={NOW_S:.0f},v1={digest()}", now_s=NOW_S + off_s)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        f"t={NOW_S:.0f}",
        f"v1={digest()}",
        f"t={NOW_S:.0f},v0={digest()}",
        f"t={NOW_S:.0f},v1={digest(secret='guessed')}",
        f"t={NOW_S:.0f},v1={digest()[:-1]}",
        f"t={NOW_S:.0f},v1={digest().upper()}",
        f"t={NOW_S:.0f},t={NOW_S:.0f},v1={digest()}",
        f"t=-1,v1={digest(at_s=-1)}",
        f"t=1e9,v1={digest()}",
        f"t={'9' * 400},v1={digest()}",
        f"t={NOW_S:.0f},v1=\u00e9\u00e9",
        f"t={NOW_S:.0f},v1={digest()}," + "x" * 5000,
    ],
)
def test_a_forged_signature_is_refused(header: str | None) -> None:
    """W09, L4: nothing but the one refusal, non-ASCII values and silly times included."""
    with pytest.raises(WebhookSignatureInvalid):
        check(header)


def test_one_changed_byte_is_refused() -> None:
    """Peers B2.35: the signature covers the bytes as they came."""
    with pytest.raises(WebhookSignatureInvalid):
        check(f"t={NOW_S:.0f},v1={digest()}", body=BODY.replace(b"1", b"2"))


@given(header=st.text(max_size=200), body=st.binary(max_size=200))
@example(header="t=1,v1=\udcff", body=b"\xff\xfe")
@example(header=f"t={NOW_S:.0f},v1=" + "a" * 64, body=b"\xff")
def test_garbage_meets_the_refusal_and_nothing_else(header: str, body: bytes) -> None:
    """W10: anonymous bytes never raise anything that would be a 500."""
    with pytest.raises(WebhookSignatureInvalid):
        check(header, body)


@given(body=st.binary(max_size=300))
@example(body=b"[" * 100_000)
@example(body=b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
@example(body=b"[]")
@example(body=b'"event"')
@example(body=b'{"object": "event"}')
@example(body=b'{"object": "charge", "id": "evt_1", "type": "x"}')
@example(body=b'{"object": "event", "id": 5, "type": "x"}')
@example(body=b'{"object": "event", "id": "evt_1\\u0000", "type": "x"}')
@example(body=b'{"object": "event", "id": "evt_1", "type": ["x"]}')
@example(body=b'{"object": ["event"], "id": "evt_1", "type": "x"}')
def test_what_is_no_event_is_malformed(body: bytes) -> None:
    """L4: well-signed bytes that are no event are refused; depth, arrays and odd types raise nothing else."""
    with pytest.raises(WebhookMalformed):
        read_delivery(body)


@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["object", "id", "payment_intent", "data"]), inner)
        ),
    )
)
def test_an_odd_object_in_an_event_is_no_object(data: object) -> None:
    """An envelope that is right is stored whatever it holds; only words that may be ids are taken from inside."""
    event = {"object": "event", "id": "evt_1", "type": "x.y", "data": data}
    hint = read_delivery(json.dumps(event).encode()).hint
    assert (hint.stripe_event_id, hint.type, hint.livemode) == ("evt_1", "x.y", False)
    assert "\x00" not in hint.object_id + hint.intent_id
