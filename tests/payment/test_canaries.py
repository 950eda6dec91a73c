"""What Stripe says of a guest or a card stays with Stripe: not in dead letters, logs, spans, metrics, or answers of ours."""

import io
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shared.payment_contract import CancelPayment
from tests.answers import answered
from tests.payment.line_to_stripe import says
from tests.payment.till import Till, open_till
from tests.reservation.test_canaries import written
from tests.shared.test_telemetry import EXPORTER, Kept

__all__ = ["written"]

EMAIL, CARD, WORD = "canary.person@secret.example", "4242424242424242", "canary-word-9e21"
_COMPLAINT = {
    "error": {
        "type": "card_error",
        "code": "card_declined",
        "message": f"the card {CARD} of {EMAIL} said {WORD}\r\n{WORD}",
        "param": WORD,
        "payment_intent": {"client_secret": f"pi_{WORD}_secret_{WORD}"},
    }
}


async def trouble(till: Till) -> list[str]:
    """Let Stripe complain in every way about a payment, and an event be buried; return what operators see of it."""
    payment = await till.authorized()
    for status in (400, 402, 429, 500):
        till.line.meets(says(status, _COMPLAINT))
        await till.client.capture(payment.id)
    till.line.meets(says(200, f'{{"object": "{WORD}", "email": "{EMAIL}"}}'.encode()))
    await till.client.cancel(uuid4(), CancelPayment(reservation_id=uuid4(), generation=1))
    event: dict[str, Any] = {
        "id": f"evt_{uuid4().hex}",
        "object": "event",
        "type": "payment_intent.succeeded",
        "data": {"object": {"id": "pi_gone", "object": "payment_intent", "receipt_email": EMAIL, "description": WORD}},
    }
    answered(await till.deliver(event))
    till.line.meets(says(404, {"error": {"type": "invalid_request_error", "message": f"{EMAIL} {CARD} {WORD}"}}))
    await till.process()
    (dead,) = [row for row in await till.event_rows() if row["status"] == "dead"]
    shown = [
        await till.admin("GET", f"/webhook-events/{dead['id']}"),
        await till.admin("GET", f"/payments/{payment.id}"),
    ]
    shown += [await till.admin("GET", "/webhook-events/groups"), await till.admin("GET", "/breaker")]
    return [dead["reason"], *(json.dumps(answered(page)) for page in shown)]


async def test_canaries_are_found_nowhere(
    payment_database_url: str, tmp_path: Path, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I25, X07: an address, a card, a client secret and a line break in Stripe's words: nobody of ours repeats them."""
    spans = Kept()
    monkeypatch.setattr(EXPORTER, lambda *_args, **_options: spans)
    traced = {"otel_exporter_otlp_endpoint": "http://collector", "trace_sample_ratio": 1.0}
    async with open_till(payment_database_url, tmp_path, monkeypatch, **traced) as till:
        shown = await trouble(till)
        page = (await till.http.get("/metrics")).text
    told = {"logs": written.getvalue(), "spans": spans.text, "metrics": page, "operators": "".join(shown)}
    assert told["logs"], "nothing was logged at all"
    found = [
        (where, text) for where, content in told.items() for text in (EMAIL, CARD, WORD, "_secret_") if text in content
    ]
    assert found == []
