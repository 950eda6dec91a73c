"""`holdfast reservation show`: a booking's story as people read it, compared with golden pictures."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from deploy.cli.__main__ import app
from reservation_service.api.timeline_schemas import OperatorsTimelineView

_GOLDEN = Path(__file__).parent / "golden"
_ID = "01930000-0000-7000-8000-000000000002"
_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_BOOKING = {
    "id": _ID,
    "reference": "K7QMRT",
    "status": "confirmed",
    "seats": 2,
    "payment": {"status": "captured", "amount": {"amount": 9000, "currency": "EUR"}},
}


def _line(at_s: float, service: str, kind: str, what: str, detail: str = "", **more: str) -> dict[str, str]:
    at = f"2026-11-23T10:{int(at_s) // 60:02}:{at_s % 60:06.3f}000Z"
    return {
        "at": at,
        "service": service,
        "kind": kind,
        "what": what,
        "detail": detail,
        "by": "",
        "trace_id": "",
        **more,
    }


_OURS = [
    _line(0.0, "reservation", "state", "held"),
    _line(31.5, "reservation", "state", "pending", "converted", trace_id=_TRACE),
    _line(31.502, "reservation", "saga", "begun", "convert", trace_id=_TRACE),
    _line(31.503, "reservation", "saga", "create_payment_intent started", trace_id=_TRACE),
    _line(41.6, "reservation", "saga", "create_payment_intent unknown", "PAYMENT_SERVICE_UNAVAILABLE", trace_id=_TRACE),
    _line(95.0, "reservation", "operator", "retry", "payment service is back", by="cli:ada"),
    _line(95.2, "payment", "call", "create", "ok"),
    _line(95.25, "payment", "status", "requires_payment", "version 1"),
    _line(124.0, "payment", "webhook", "payment_intent.amount_capturable_updated", "processed"),
    _line(124.1, "reservation", "message", "payment authorized", "version 2, generation 1"),
    _line(124.4, "reservation", "saga", "capture_payment done", trace_id=_TRACE),
    _line(124.4, "reservation", "state", "confirmed", "paid", trace_id=_TRACE),
]
STORIES: dict[str, dict[str, Any]] = {
    "whole": {"data": _OURS, "partial": False},
    "partial": {"data": [line for line in _OURS if line["service"] == "reservation"], "partial": True},
}


@pytest.fixture
def shows(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A service that knows one booking; its story is what a test puts here, and `asked` the paths it was asked for."""
    state: dict[str, Any] = {"story": STORIES["whole"], "asked": []}

    def answer(request: httpx.Request) -> httpx.Response:
        state["asked"].append(request.url.raw_path.decode())
        if request.url.path.endswith("/timeline"):
            return httpx.Response(200, json=state["story"])
        if "reference" in request.url.params:
            known = request.url.params["reference"] == "K7QMRT"
            return httpx.Response(200, json={"data": [_BOOKING] if known else [], "has_more": False})
        return httpx.Response(200, json=_BOOKING)

    def request(method: str, url: str, **options: Any) -> httpx.Response:
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            return client.request(method, url, **options)

    monkeypatch.setattr(httpx, "request", request)
    monkeypatch.setenv("AUTH_JWT_SECRET", "a-secret-of-at-least-thirty-two-bytes")
    monkeypatch.setenv("RESERVATION_SERVICE_URL", "http://reservation")
    return state


@pytest.mark.parametrize("name", STORIES)
def test_the_story_is_the_golden_one(shows: dict[str, Any], name: str) -> None:
    """One line each: when, where, what, why, who, and the trace; the data has the form that the API promises."""
    OperatorsTimelineView.model_validate(STORIES[name])
    shows["story"] = STORIES[name]
    result = CliRunner().invoke(app, ["reservation", "show", _ID])
    assert result.exit_code == 0, result.output
    assert result.stdout == (_GOLDEN / f"reservation_{name}.txt").read_text()


def test_it_is_found_by_its_reference(shows: dict[str, Any]) -> None:
    """By reference the id is looked up first; one that nobody has is exit code 1, and `--json` gives the data."""
    told = json.loads(CliRunner().invoke(app, ["reservation", "show", "K7QMRT", "--json"]).stdout)
    assert (told["reservation"]["id"], told["timeline"]) == (_ID, STORIES["whole"])
    assert shows["asked"] == [
        "/admin/v1/reservations?reference=K7QMRT&limit=1",
        f"/admin/v1/reservations/{_ID}/timeline",
    ]
    unknown = CliRunner().invoke(app, ["reservation", "show", "NOBODY"])
    assert (unknown.exit_code, unknown.stderr.strip()) == (1, "there is no reservation NOBODY")
