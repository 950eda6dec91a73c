"""`holdfast saga`: the tree is compared with golden pictures, the verbs go out signed and show what came of them."""

import json
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from typer.testing import CliRunner

from deploy.cli.__main__ import app
from deploy.cli.saga_tree import draw
from deploy.cli.sagas import Status
from reservation_service.api.saga_schemas import ExplainedSagaView
from reservation_service.states import SagaStatus

_SECRET = "a-secret-of-at-least-thirty-two-bytes"
_ID = "01930000-0000-7000-8000-000000000001"
_GOLDEN = Path(__file__).parent / "golden"


def _line(at_s: float, step: str, event: str, *, undo: bool = False, epoch: int = 1, **detail: Any) -> dict[str, Any]:
    at = f"2026-11-23T10:{int(at_s) // 60:02}:{at_s % 60:06.3f}000Z"
    direction = "undo" if undo else "do"
    return {"step": step, "direction": direction, "event": event, "at": at, "detail": detail or None, "epoch": epoch}


_SETUP = [
    _line(0.002, "create_hold", "done"),
    _line(0.002, "create_payment_intent", "started"),
    _line(10.003, "create_payment_intent", "unknown", code="PAYMENT_SERVICE_UNAVAILABLE", detail="Not known yet."),
    _line(11.5, "create_payment_intent", "started", epoch=2),
    _line(11.79, "create_payment_intent", "done", epoch=2),
]
_PAID = [
    *_SETUP,
    _line(62.25, "payment_authorized", "done", epoch=3),
    _line(62.25, "capture_payment", "started", epoch=3),
]
_BOOKING = {
    "reference": "K7QMRT",
    "status": "pending",
    "seats": 2,
    "seats_pinned": True,
    "total": {"amount": 9000, "currency": "EUR"},
    "payment_status": "requires_payment",
    "pay_until": "2026-11-23T10:15:00Z",
    "failure_reason": None,
}
_SAGA: dict[str, Any] = {
    "id": _ID,
    "reservation_id": "01930000-0000-7000-8000-000000000002",
    "status": "waiting",
    "steps": _SETUP,
    "reason": None,
    "attempts": 2,
    "lease_until": None,
    "due_at": "2026-11-23T10:00:19.500Z",
    "created_at": "2026-11-23T10:00:00Z",
    "generation": 1,
    "unwinding_because": None,
    "lease_epoch": 2,
    "operator_can": ["retry", "unwind"],
    "now": "2026-11-23T10:00:12Z",
    "waits_for": "payment_authorized (the guest's bank) until 2026-11-23T10:15:00+00:00",
    "booking": _BOOKING,
}
_WORD = {"by": "cli:ada", "why": "payment service is back"}
SAGAS: dict[str, dict[str, Any]] = {
    "waiting": _SAGA,
    "capturing": _SAGA
    | {
        "status": "running",
        "steps": _PAID,
        "lease_until": "2026-11-23T10:01:47.250Z",
        "lease_epoch": 3,
        "operator_can": [],
        "now": "2026-11-23T10:01:03.250Z",
        "waits_for": "capture_payment, which a worker has in hand",
        "booking": _BOOKING | {"payment_status": "authorized"},
    },
    "confirmed": _SAGA
    | {
        "status": "completed",
        "steps": [
            *_PAID,
            _line(62.61, "capture_payment", "done", epoch=3),
            _line(62.61, "confirm_reservation", "done"),
        ],
        "due_at": None,
        "lease_epoch": 3,
        "operator_can": [],
        "now": "2026-11-23T12:00:00Z",
        "waits_for": "nothing: it is over",
        "booking": _BOOKING | {"status": "confirmed", "payment_status": "captured"},
    },
    "needs_attention": _SAGA
    | {
        "status": "needs_attention",
        "steps": [
            *_PAID,
            _line(72.26, "capture_payment", "unknown", epoch=3, code="PAYMENT_SERVICE_UNAVAILABLE"),
            _line(300.0, "operator", "retry", epoch=3, **_WORD),
            _line(300.1, "capture_payment", "started", epoch=5),
            _line(345.2, "capture_payment", "started", epoch=6),
            _line(345.4, "capture_payment", "stuck", epoch=6, code="amount_mismatch"),
        ],
        "reason": "capture_payment: amount_mismatch",
        "due_at": None,
        "lease_epoch": 6,
        "operator_can": ["retry", "unwind", "resolve"],
        "now": "2026-11-23T12:00:00Z",
        "waits_for": "an operator, because of capture_payment: amount_mismatch",
        "booking": _BOOKING | {"status": "needs_attention", "payment_status": "authorized"},
    },
    "unwound": _SAGA
    | {
        "status": "compensated",
        "unwinding_because": "asked",
        "steps": [
            *_SETUP,
            _line(12.0, "create_payment_intent", "done", undo=True, epoch=4, over_without_money=1),
            _line(12.0, "create_payment_intent", "started", epoch=4),
            _line(12.3, "create_payment_intent", "done", epoch=4),
            _line(80.0, "operator", "unwind", undo=True, epoch=4, **_WORD),
            _line(80.1, "create_payment_intent", "started", undo=True, epoch=6),
            _line(80.4, "create_payment_intent", "done", undo=True, epoch=6),
            _line(80.4, "create_hold", "done", undo=True, epoch=6),
        ],
        "due_at": None,
        "generation": 2,
        "lease_epoch": 6,
        "operator_can": [],
        "now": "2026-11-23T12:00:00Z",
        "waits_for": "nothing: it is over",
        "booking": _BOOKING | {"status": "cancelled", "seats_pinned": False, "payment_status": "canceled"},
    },
}


@pytest.mark.parametrize("name", SAGAS)
def test_the_tree_is_the_golden_one(name: str) -> None:
    """Each stage of a saga's life has its picture; the data has the form that the API promises."""
    ExplainedSagaView.model_validate(SAGAS[name])
    assert draw(SAGAS[name]) + "\n" == (_GOLDEN / f"saga_{name}.txt").read_text()


def test_no_golden_picture_is_left_over() -> None:
    """A picture that nothing is compared with proves nothing."""
    assert {path.stem for path in _GOLDEN.glob("saga_*")} == {f"saga_{name}" for name in SAGAS}


def test_the_command_knows_every_status() -> None:
    """`saga list --status` takes what the service knows."""
    assert {str(status) for status in Status} == {str(status) for status in SagaStatus}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """A service that shows one saga and refuses the verb `resolve`; returns what it was asked."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if request.url.path.endswith("/resolve"):
            return httpx.Response(409, json={"code": "INVALID_SAGA_STATUS", "detail": "it is completed"})
        if request.url.path.endswith("/sagas"):
            return httpx.Response(200, json={"data": [SAGAS["needs_attention"]], "has_more": False})
        return httpx.Response(200, json=SAGAS["needs_attention"])

    def request(method: str, url: str, **options: Any) -> httpx.Response:
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            return client.request(method, url, **options)

    monkeypatch.setattr(httpx, "request", request)
    monkeypatch.setenv("AUTH_JWT_SECRET", _SECRET)
    monkeypatch.setenv("RESERVATION_SERVICE_URL", "http://reservation")
    return requests


def _run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["saga", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.stdout, result.stderr


def _bearer(request: httpx.Request) -> dict[str, Any]:
    token = request.headers["authorization"].removeprefix("Bearer ")
    claims: dict[str, Any] = jwt.decode(token, _SECRET, algorithms=["HS256"])
    return claims


def test_explain_and_list(asked: list[httpx.Request]) -> None:
    """Looking needs a viewer's token; the list shows what needs attention, and why."""
    code, out, _ = _run("explain", _ID)
    assert (code, out) == (0, draw(SAGAS["needs_attention"]) + "\n")
    assert json.loads(_run("explain", _ID, "--json")[1])["id"] == _ID
    code, out, _ = _run("list")
    assert out.splitlines()[0].endswith("needs_attention  capture_payment: amount_mismatch")
    assert out.splitlines()[1] == "1 needs_attention"
    assert [_bearer(request)["roles"] for request in asked] == [["viewer"]] * 3
    assert asked[-1].url.params["status"] == "needs_attention"


@pytest.mark.parametrize("verb", ["retry", "unwind"])
def test_a_verb_is_signed_for(asked: list[httpx.Request], verb: str) -> None:
    """The verb goes out as an operator with a name, carries the reason, and shows how the saga then stands."""
    code, out, _ = _run(verb, _ID, "--reason", "looked at both sides")
    (request,) = asked
    assert (code, request.method, request.url.path) == (0, "POST", f"/admin/v1/sagas/{_ID}/{verb}")
    assert json.loads(request.content) == {"reason": "looked at both sides"}
    assert _bearer(request)["roles"] == ["operator"]
    assert _bearer(request)["sub"].startswith("cli:")
    assert out.startswith(f"saga {_ID}")
    assert _run(verb, _ID)[0] == 2  # no verb without a reason


def test_a_refused_verb_says_why(asked: list[httpx.Request]) -> None:
    """A refusal is exit code 1 with its code and sentence, never a traceback."""
    code, out, err = _run("resolve", _ID, "--outcome", "confirmed", "--reason", "x")
    assert (code, out) == (1, "")
    assert err.strip() == "INVALID_SAGA_STATUS: it is completed"
    assert json.loads(asked[0].content)["outcome"] == "confirmed"
