"""The internal door: who may come in, and that one key has one effect."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from payment_service.flags import SIGNED_INTERNAL_CALLS
from shared.flags import Override
from tests.answers import answered, refused
from tests.payment.line_to_stripe import never_connects
from tests.payment.till import BEARER, Till, view
from tests.scenarios import fired

PAYMENTS = "/internal/v1/payments"


def body_of(till: Till, **changed: Any) -> dict[str, Any]:
    order: dict[str, Any] = till.order().model_dump(mode="json")
    return order | changed


async def test_a_replay_gets_the_kept_outcome_and_the_payment_as_it_is_now(till: Till) -> None:
    """I20: no second effect; what has become of the payment since is not hidden."""
    body = body_of(till)
    first = answered(await till.post(PAYMENTS, body, key="k"))
    payment = view(await till.client.get(first["payment"]["id"]))
    await till.cancel(payment)
    calls = len(till.line.calls)
    again = answered(await till.post(PAYMENTS, body, key="k"))
    assert (again["outcome"], again["payment"]["status"]) == ("ok", "canceled")
    assert len(till.line.calls) == calls


async def test_a_kept_refusal_comes_with_its_reason(till: Till) -> None:
    """DECLINED is final: the replay has the same code, and Stripe is not asked again."""
    body = body_of(till, amount=1)
    first = answered(await till.post(PAYMENTS, body, key="k"))
    again = answered(await till.post(PAYMENTS, body, key="k"))
    assert first == again
    assert (again["outcome"], again["error"]["code"]) == ("declined", "amount_too_small")
    assert len(till.line.calls) == 1


async def test_what_is_not_final_is_not_kept(till: Till) -> None:
    """NOT_SENT heals: the same call under the same key goes through when Stripe is back."""
    body = body_of(till)
    till.line.meets(never_connects)
    assert answered(await till.post(PAYMENTS, body, key="k"))["outcome"] == "not_sent"
    assert answered(await till.post(PAYMENTS, body, key="k"))["outcome"] == "ok"


async def test_a_key_means_one_request(till: Till) -> None:
    """Another body under a known key is 422; the order of members and the spacing make no other body."""
    body = body_of(till)
    answered(await till.post(PAYMENTS, body, key="k"))
    refused(await till.post(PAYMENTS, body | {"amount": 9900}, key="k"), 422, "IDEMPOTENCY_KEY_REUSED")
    shuffled = dict(reversed(body.items()))
    assert answered(await till.post(PAYMENTS, shuffled, key='"k"'))["outcome"] == "ok"


async def test_a_key_of_a_failed_request_still_means_that_request(till: Till) -> None:
    """Even when nothing final came of the first request, its key cannot be used for another."""
    body = body_of(till)
    till.line.meets(never_connects)
    await till.post(PAYMENTS, body, key="k")
    refused(await till.post(PAYMENTS, body | {"amount": 9900}, key="k"), 422, "IDEMPOTENCY_KEY_REUSED")


async def test_keys_of_different_verbs_do_not_meet(till: Till) -> None:
    """One key for create and for cancel: two requests, each with its own answer."""
    body = body_of(till)
    answered(await till.post(PAYMENTS, body, key="k"))
    cancel = {"reservation_id": body["reservation_id"], "generation": 1}
    canceled = answered(await till.post(f"{PAYMENTS}/{body['payment_id']}/cancel", cancel, key="k"))
    assert canceled["payment"]["status"] == "canceled"


async def test_while_the_first_one_runs_the_others_wait_outside(till: Till) -> None:
    """K02: ten at once under one key: one goes to Stripe, the others are told to come again."""
    body, arrived, gate = body_of(till), asyncio.Event(), asyncio.Event()

    async def slow(request: Any, sandbox: Any) -> Any:
        arrived.set()
        await gate.wait()
        return await sandbox.handle_async_request(request)

    till.line.meets(slow)
    first = asyncio.create_task(till.post(PAYMENTS, body, key="k"))
    await arrived.wait()
    for _ in range(9):
        problem = refused(await till.post(PAYMENTS, body, key="k"), 409, "IDEMPOTENCY_IN_PROGRESS")
        assert problem["retryable"] is True
    gate.set()
    assert answered(await first)["outcome"] == "ok"
    assert len(till.line.calls) == 1
    fired("K02", 9)


async def test_the_marker_of_a_killed_process_runs_out(till: Till) -> None:
    """A process died with the request in hand: after the lease the same call is taken up."""
    body = body_of(till)
    till.line.meets(never_connects)
    await till.post(PAYMENTS, body, key="k")
    lease = "UPDATE idempotent_answers SET lease_until = clock_timestamp() + :left"
    await till.sql(lease, left=timedelta(seconds=15))
    refused(await till.post(PAYMENTS, body, key="k"), 409, "IDEMPOTENCY_IN_PROGRESS")
    await till.sql(lease, left=timedelta(seconds=-1))
    assert answered(await till.post(PAYMENTS, body, key="k"))["outcome"] == "ok"


async def test_old_answers_are_forgotten(till: Till) -> None:
    """After a month the broom takes an answer; younger ones stay."""
    answered(await till.post(PAYMENTS, body_of(till), key="old"))
    await till.sql("UPDATE idempotent_answers SET created_at = created_at - interval '31 days'")
    answered(await till.post(PAYMENTS, body_of(till), key="young"))
    assert await till.run("forget_old_answers") == 1
    rows = await till.sql("SELECT key FROM idempotent_answers")
    assert [row["key"] for row in rows] == ["young"]


async def test_a_post_without_a_good_key_is_refused(till: Till) -> None:
    """Missing and malformed keys are 400, before anything is done; an unsigned key is no key."""
    body = body_of(till)
    refused(await till.post(PAYMENTS, body, key="k" * 256), 400, "IDEMPOTENCY_KEY_INVALID")
    refused(await till.post(PAYMENTS, body), 401, "INTERNAL_SIGNATURE_INVALID")


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": 10**40},
        {"amount": 2**63},
        {"amount": "12.5"},
        {"amount": None},
        {"currency": "eur"},
        {"currency": "EUR\x00"},
        {"generation": 0},
        {"generation": 2**31},
        {"payment_id": "no-id"},
        {"capture_method": "later"},
    ],
)
async def test_a_strange_order_is_422(till: Till, changed: dict[str, Any]) -> None:
    """V01: whatever stands in the body, it is refused by its form and never by a crash."""
    refused(await till.post(PAYMENTS, body_of(till, **changed), key="k"), 422, "VALIDATION_FAILED")


@pytest.mark.parametrize("raw", [b'{"amount": 1e400}', b'{"amount": NaN}', b"[]", b"{}", b"nonsense", b"\xff"])
async def test_a_strange_body_is_4xx(till: Till, raw: bytes) -> None:
    """L11: numbers that are none, and bytes that are no JSON."""
    answer = await till.post(PAYMENTS, raw, key="k")
    assert (answer.status_code, answer.json()["code"]) in {(400, "MALFORMED_JSON"), (422, "VALIDATION_FAILED")}


async def test_a_reason_that_cannot_be_stored_is_422(till: Till) -> None:
    """V05: NUL in a text is refused at the door, not by the database."""
    payment = await till.captured()
    body = {"refund_id": str(uuid4()), "amount": 1, "reason": "because\x00"}
    refused(await till.post(f"{PAYMENTS}/{payment.id}/refunds", body, key="k"), 422, "VALIDATION_FAILED")


async def test_nobody_else_comes_in(till: Till) -> None:
    """X03, X05: unsigned, changed after signing, and signed for another direction or path are 401."""
    body = body_of(till)
    refused(await till.http.post(PAYMENTS, json=body), 401, "INTERNAL_SIGNATURE_INVALID")
    refused(await till.http.get(f"{PAYMENTS}/{uuid4()}"), 401, "INTERNAL_SIGNATURE_INVALID")
    bearer = {"authorization": f"Bearer {BEARER}", "idempotency-key": "k"}
    refused(await till.http.post(PAYMENTS, json=body, headers=bearer), 401, "INTERNAL_SIGNATURE_INVALID")
    headers = {"idempotency-key": "k", "content-type": "application/json"}
    till.signer.sign("POST", f"http://payments{PAYMENTS}", headers, b"{}")
    refused(await till.http.post(PAYMENTS, json=body, headers=headers), 401, "INTERNAL_SIGNATURE_INVALID")


async def test_without_signing_the_shared_secret_opens_and_nothing_else(till: Till) -> None:
    """`signed_internal_calls` off: signatures still do, the right secret does, a wrong or empty one does not."""
    override = Override(enabled=False)
    await till.parts.flags.set(till.parts.database, SIGNED_INTERNAL_CALLS, override, by="olga", reason="test")
    assert answered(await till.post(PAYMENTS, body_of(till), key="signed"))["outcome"] == "ok"
    for token, status in ((BEARER, 200), ("guessed", 401), ("", 401)):
        headers = {"authorization": f"Bearer {token}", "idempotency-key": f"key-{token}"}
        answer = await till.http.post(PAYMENTS, json=body_of(till), headers=headers)
        assert answer.status_code == status
