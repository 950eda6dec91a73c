"""How a payment is shown: asked afresh but not too often, never worse than what is stored, and with its history."""

import asyncio
from pathlib import Path

import httpx
import pytest

from shared.payment_contract import Outcome, PaymentStatus
from tests.answers import answered, refused
from tests.payment.line_to_stripe import never_connects, tells
from tests.payment.till import Till, intent_id, open_till


async def test_a_payment_is_asked_afresh(till: Till) -> None:
    """No webhook has come, and the guest's page knows all the same: reading asks Stripe."""
    payment = await till.created()
    await till.pay(payment, "pm_card_visa_chargeDeclined")
    seen = await till.seen(payment.id)
    assert (seen.status, seen.decline_class) == (PaymentStatus.REQUIRES_PAYMENT, "card_declined")
    await till.pay(payment)
    seen = await till.seen(payment.id)
    assert (seen.status, seen.decline_class) == (PaymentStatus.AUTHORIZED, None)


async def test_many_readers_ask_once(
    payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty pages poll at once: one question to Stripe in two seconds, and everybody gets an answer."""
    async with open_till(payment_database_url, tmp_path, monkeypatch, refresh_interval_s=2.0) as till:
        payment = await till.created()
        asked = len(till.line.calls)
        answers = await asyncio.gather(*(till.client.get(payment.id) for _ in range(20)))
        assert {answer.outcome for answer in answers} == {Outcome.OK}
        assert [answer.stale for answer in answers].count(False) == 1  # the others were not asked for
        assert len(till.line.calls) == asked + 1
        await till.sql("UPDATE payments SET refreshed_at = refreshed_at - interval '3 seconds'")
        await till.client.get(payment.id)
        assert len(till.line.calls) == asked + 2


async def test_a_crowd_of_readers_does_not_use_up_what_stripe_allows(
    payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads and events share one pace; who finds no turn in time is shown what is stored, at once."""
    async with open_till(payment_database_url, tmp_path, monkeypatch, webhook_looks_per_s=0.1) as till:
        payments = [await till.created() for _ in range(5)]
        asked = len(till.line.calls)
        answers = await asyncio.gather(*(till.client.get(payment.id) for payment in payments))
        assert {answer.outcome for answer in answers} == {Outcome.OK}
        assert len(till.line.calls) == asked + 1


async def test_without_stripe_what_is_stored_is_shown(till: Till) -> None:
    """A read never fails because of Stripe; the answer says that it is what was stored, until Stripe is heard again."""
    payment = await till.created()
    till.line.meets(never_connects)
    answer = await till.client.get(payment.id)
    assert (answer.outcome, answer.stale) == (Outcome.OK, True)
    await asyncio.sleep(0.002)
    assert (await till.client.get(payment.id)).stale is False
    await till.cancel(payment)
    assert (await till.client.get(payment.id)).stale is False


async def test_what_is_settled_is_not_asked_for(till: Till) -> None:
    """A captured or cancelled payment moves by its webhooks only; reading it costs no call."""
    for payment in (await till.captured(), await till.created()):
        await till.cancel(payment)
        asked = len(till.line.calls)
        await till.client.get(payment.id)
        assert len(till.line.calls) == asked


async def test_a_payment_in_trouble_says_so(till: Till) -> None:
    """Stripe contradicts us: the answer is UNKNOWN with the reason, so that nobody goes on with it."""
    payment = await till.created()
    till.line.meets(tells(amount=1))
    answer = await till.client.get(payment.id)
    assert answer.outcome is Outcome.UNKNOWN
    assert answer.error is not None
    assert answer.error.code == "amount_mismatch"
    await till.seen(payment.id)  # the next look shows the truth, and the mark goes


async def test_the_timeline_tells_everything_in_order(till: Till) -> None:
    """One line for each change, call and event: what support reads first."""
    payment = await till.captured()
    await till.deliver_all("payment_intent.succeeded")
    await till.process()
    lines = answered(await till.signed_get(f"/internal/v1/payments/{payment.id}/timeline"))["data"]
    assert [(line["kind"], line["what"], line["detail"]) for line in lines] == [
        ("call", "create", "ok"),
        ("status", "requires_payment", "version 1"),
        ("status", "authorized", "version 2"),
        ("call", "capture", "ok"),
        ("status", "captured", "version 3"),
        ("webhook", "payment_intent.succeeded", "nothing-new"),
    ]
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    assert intent_id(payment) not in str(lines)


async def test_an_unknown_payment_is_404(till: Till) -> None:
    """An id that names nothing, with and without a timeline."""
    for path in ("", "/timeline"):
        missing = f"/internal/v1/payments/0199aaaa-0000-7000-8000-000000000001{path}"
        refused(await till.signed_get(missing), 404, "PAYMENT_NOT_FOUND")


async def test_the_service_lives_without_hands(
    payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its tickers running, a paid booking is told to the neighbour by itself, within a moment of the webhook."""
    async with open_till(payment_database_url, tmp_path, monkeypatch) as till:
        app = till.http._transport.app  # type: ignore[attr-defined]
        async with app.router.lifespan_context(app):
            payment = await till.created()
            await till.pay(payment)
            await till.deliver_all("payment_intent.amount_capturable_updated")
            async with asyncio.timeout(5):
                while PaymentStatus.AUTHORIZED not in {event.status for event in till.neighbour.told}:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            ready = answered(await probe(till.http, "/readyz"))
            assert ready["status"] == "ready"
            page = (await till.http.get("/metrics")).text
            assert 'payment_webhooks_received_total{result="stored"} 1.0' in page
            assert 'payment_operations_total{operation="create_payment",outcome="ok"} 1.0' in page
            assert 'payment_provider_call_duration_seconds_count{operation="create_intent",outcome="ok"} 1.0' in page
        assert (await till.http.get("/readyz")).status_code == 503


async def probe(http: httpx.AsyncClient, path: str) -> httpx.Response:
    """Ask a probe; probes carry no request id, so one is put in for the common check."""
    response = await http.get(path)
    response.headers["request-id"] = "probe"
    return response
