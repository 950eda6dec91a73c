"""Misbehaviour on demand: each fault does what it says, as often as it was asked to, and no oftener."""

import time

import httpx
import pytest
import stripe

from tests.sandbox.conftest import Start
from tests.sandbox.receiver import WebhookReceiver
from tests.sandbox.running import SECRET_KEY, RunningSandbox, eventually

PARAMS = {"amount": 700, "currency": "eur", "allowed_payment_method_types": ["card"]}


async def created_under(sandbox: RunningSandbox, key: str) -> stripe.PaymentIntent:
    """Create under an Idempotency-Key."""
    intent: stripe.PaymentIntent = await sandbox.v1.payment_intents.create_async(PARAMS, {"idempotency_key": key})
    return intent


async def count_of_intents(sandbox: RunningSandbox) -> int:
    return len((await sandbox.look("book"))["payment_intents"])


async def test_a_status_without_effect(sandbox: RunningSandbox) -> None:
    """500 once: nothing was done and nothing is stored, so the same key then works."""
    await sandbox.fault(operation="payment_intents.create", action="status", status=500, count=1)
    before = await count_of_intents(sandbox)
    with pytest.raises(stripe.APIError) as failed:
        await created_under(sandbox, "status-1")
    assert failed.value.http_status == 500
    assert await count_of_intents(sandbox) == before
    assert (await created_under(sandbox, "status-1")).amount == 700
    (fault,) = (await sandbox.look("faults"))["faults"]
    assert (fault["seen"], fault["fired"]) == (2, 1)


async def test_a_status_with_effect(sandbox: RunningSandbox) -> None:
    """500 although it was done: the intent exists, the key is free, and a blind retry makes a second one."""
    await sandbox.fault(operation="payment_intents.create", action="status", status=500, applied=True, count=1)
    before = await count_of_intents(sandbox)
    with pytest.raises(stripe.APIError):
        await created_under(sandbox, "status-2")
    assert await count_of_intents(sandbox) == before + 1


@pytest.mark.parametrize("applied", [True, False])
async def test_a_saved_500_is_replayed_for_ever(sandbox: RunningSandbox, applied: bool) -> None:
    """Stripe's trap: the stored 500 comes again under the same key, with or without an effect behind it."""
    key = f"saved-{applied}"
    await sandbox.fault(
        operation="payment_intents.create", action="status", status=500, saved=True, applied=applied, count=1
    )
    before = await count_of_intents(sandbox)
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await created_under(sandbox, key)
    assert sandbox.last_headers["idempotent-replayed"] == "true"
    assert await count_of_intents(sandbox) == before + applied


async def test_a_connection_cut_before_anything_happened(sandbox: RunningSandbox) -> None:
    """No answer, no effect."""
    await sandbox.fault(operation="payment_intents.create", action="drop_before", count=1)
    before = await count_of_intents(sandbox)
    with pytest.raises(stripe.APIConnectionError):
        await created_under(sandbox, "cut-before")
    assert await count_of_intents(sandbox) == before
    (entry,) = [entry for entry in await sandbox.journal() if entry["idempotency_key"] == "cut-before"]
    assert (entry["status"], entry["faults"]) == (None, ["drop_before"])


async def test_a_connection_cut_after_it_was_done(sandbox: RunningSandbox) -> None:
    """No answer, but the effect is there: the same key finds it."""
    await sandbox.fault(operation="payment_intents.create", action="drop_after", count=1)
    before = await count_of_intents(sandbox)
    with pytest.raises(stripe.APIConnectionError):
        await created_under(sandbox, "cut-after")
    assert await count_of_intents(sandbox) == before + 1
    await created_under(sandbox, "cut-after")
    assert sandbox.last_headers["idempotent-replayed"] == "true"
    assert await count_of_intents(sandbox) == before + 1


async def test_rate_limiting_is_429_in_front_of_the_key(sandbox: RunningSandbox) -> None:
    """429 carries Retry-After and Stripe-Should-Retry when asked, and is not stored."""
    await sandbox.fault(operation="*", action="status", status=429, retry_after_s=2, should_retry=True, count=1)
    with pytest.raises(stripe.RateLimitError) as limited:
        await created_under(sandbox, "limited")
    headers = limited.value.headers or {}
    assert (headers["retry-after"], headers["stripe-should-retry"]) == ("2", "true")
    assert (await created_under(sandbox, "limited")).amount == 700


async def test_a_proxy_in_between_answers_html(sandbox: RunningSandbox) -> None:
    """A 502 page is no JSON; the SDK says so."""
    await sandbox.fault(operation="payment_intents.create", action="html", status=502, count=1)
    with pytest.raises(stripe.APIError) as failed:
        await created_under(sandbox, "html")
    assert failed.value.http_status == 502


async def test_the_answer_can_tell_another_amount(sandbox: RunningSandbox) -> None:
    """The lie is in one answer only."""
    await sandbox.fault(operation="payment_intents.create", action="wrong_amount", amount=7, count=1)
    intent = await created_under(sandbox, "lie")
    assert intent.amount == 7
    assert (await sandbox.v1.payment_intents.retrieve_async(intent.id)).amount == 700


async def test_delays_before_and_after(sandbox: RunningSandbox) -> None:
    """A caller that gives up after `delay_before` has still created it in the end: a late success."""
    await sandbox.fault(operation="payment_intents.create", action="delay_before", delay_ms=1000, count=1)
    before = await count_of_intents(sandbox)
    headers = {"Authorization": f"Bearer {SECRET_KEY}"}
    with pytest.raises(httpx.TimeoutException):
        await sandbox.http.post(
            "/v1/payment_intents", data={"amount": "700", "currency": "eur"}, headers=headers, timeout=0.3
        )
    assert await count_of_intents(sandbox) == before

    async def created() -> bool:
        return await count_of_intents(sandbox) == before + 1

    await eventually(created)
    await sandbox.fault(operation="payment_intents.create", action="delay_after", delay_ms=200, count=1)
    began = time.monotonic()
    await created_under(sandbox, "slow")
    assert time.monotonic() - began > 0.2


@pytest.mark.parametrize("fault", [{"action": "delay_after", "delay_ms": 1000}, {"action": "webhook_first"}])
async def test_the_webhook_can_overtake_the_answer(
    start: Start, receiver: WebhookReceiver, fault: dict[str, object]
) -> None:
    """When the answer arrives, the event has long been delivered."""
    sandbox = await start(receiver.url)
    await sandbox.fault(operation="payment_intents.create", **fault)
    intent = await sandbox.intent()
    assert receiver.about(intent.id) == ["payment_intent.created"]


async def test_skip_and_probability_follow_the_seed(start: Start) -> None:
    """The same seed fails the same calls in two sandboxes; `skip` lets the first ones pass."""
    patterns = []
    for seed in (1, 1, 2):
        sandbox = await start()
        await sandbox.http.delete("/_sandbox/faults")
        await sandbox.fault(
            operation="payment_intents.list", action="status", status=503, probability=0.5, seed=seed, skip=3
        )
        outcomes = []
        for _ in range(30):
            answer = await sandbox.http.get("/v1/payment_intents", headers={"Authorization": f"Bearer {SECRET_KEY}"})
            outcomes.append(answer.status_code)
        assert outcomes[:3] == [200, 200, 200]
        assert set(outcomes) == {200, 503}
        patterns.append(outcomes)
        sandbox.kill()
    assert patterns[0] == patterns[1] != patterns[2]


async def test_faults_survive_a_restart_and_can_be_cleared(start: Start) -> None:
    """A killed sandbox comes back as bad as it was, with the counts it had."""
    sandbox = await start()
    await sandbox.fault(operation="payment_intents.create", action="status", status=503, count=2)
    with pytest.raises(stripe.APIError):
        await created_under(sandbox, "k1")
    sandbox.kill()
    await sandbox.start()
    with pytest.raises(stripe.APIError):
        await created_under(sandbox, "k1")
    assert (await created_under(sandbox, "k1")).amount == 700
    assert (await sandbox.http.delete("/_sandbox/faults")).json() == {"cleared": 1}
    assert await sandbox.look("faults") == {"faults": []}


async def test_a_script_is_in_force_from_the_first_start_on(
    start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`SANDBOX_FAULTS` names a JSON list; it is read once, so clearing it lasts over a restart."""
    script = tmp_path_factory.mktemp("script") / "faults.json"
    script.write_text('[{"operation": "payment_intents.create", "action": "status", "status": 503}]')
    sandbox = await start(SANDBOX_FAULTS=str(script))
    with pytest.raises(stripe.APIError):
        await created_under(sandbox, "scripted")
    await sandbox.http.delete("/_sandbox/faults")
    sandbox.kill()
    await sandbox.start()
    assert (await created_under(sandbox, "scripted")).amount == 700


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status"},
        {"operation": "*", "event": "*", "action": "status"},
        {"operation": "*", "action": "explode"},
        {"event": "*", "action": "status"},
        {"operation": "*", "action": "status", "status": "500"},
        {"operation": "*", "action": "status", "colour": "red"},
        {"operation": "*", "action": "status", "count": True},
        {"operation": "*", "action": "status", "id": 7},
        {"operation": "*", "action": "delay_after", "delay_ms": -1},
        "nonsense",
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(sandbox: RunningSandbox, fault: object) -> None:
    """422 with a sentence, and nothing is in force."""
    answer = await sandbox.http.post("/_sandbox/faults", json=fault)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert await sandbox.look("faults") == {"faults": []}
