"""The `holdfast` command: finds the system around it, prints data for programs, and ends with a code that says enough."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from typer.testing import CliRunner

from deploy.cli import openapi as describing
from deploy.cli.__main__ import app
from deploy.embedded.clone import Clone, Running
from deploy.embedded.credentials import load_or_make, write_private

_OURS = ("AUTH_JWT_SECRET", "RESERVATION_SERVICE_URL", "PAYMENT_SERVICE_URL", "STRIPE_SECRET_KEY", "STRIPE_API_BASE")
_SECRET = "a-secret-of-at-least-thirty-two-bytes"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone that ran once, and an environment that says nothing else."""
    for name in (*_OURS, "RESERVATION_DATABASE_URL", "PAYMENT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path))
    load_or_make(tmp_path)
    write_private(tmp_path / "ports.json", json.dumps({"postgres": 1, "payment": 2, "reservation": 3, "sandbox": 4}))
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[Clone]:
    """The same clone while it is up."""
    clone = Clone(folder)
    with clone.held():
        urls = {name: f"http://{name}" for name in ("reservation", "payment", "sandbox")}
        clone.publish(Running(4711, urls, {}))
        yield clone


def _run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.stdout, result.stderr


def _claims(token: str, secret: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, secret, algorithms=["HS256"])
    return claims


def test_a_token_is_signed_with_the_clone_s_secret(folder: Path) -> None:
    """Without any setting, the token fits the system that runs here."""
    code, out, _ = _run("token", "--role", "viewer", "--sub", "ada", "--ttl", "60", "--scope", "bookings:external")
    claims = _claims(out.strip(), load_or_make(folder).auth_jwt_secret)
    assert code == 0
    assert (claims["sub"], claims["roles"], claims["scope"]) == ("ada", ["viewer"], "bookings:external")
    assert claims["exp"] - claims["iat"] == 60


@pytest.mark.usefixtures("folder")
def test_a_token_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH_JWT_SECRET wins; the default is an operator, and a customer has no role."""
    monkeypatch.setenv("AUTH_JWT_SECRET", _SECRET)
    assert _claims(_run("token")[1].strip(), _SECRET)["roles"] == ["operator"]
    assert _claims(_run("token", "--role", "customer")[1].strip(), _SECRET)["roles"] == []


def test_without_a_clone_or_a_secret_there_is_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to start or to set; nothing is made."""
    monkeypatch.delenv("AUTH_JWT_SECRET", raising=False)
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path / "none"))
    code, out, err = _run("token")
    assert (code, out) == (3, "")
    assert "make run" in err
    assert "AUTH_JWT_SECRET" in err
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("folder")
def test_wrong_usage_ends_with_two() -> None:
    """Scripts can tell a typing error from a broken system."""
    assert _run("token", "--role", "king")[0] == 2
    assert _run("token", "--ttl", "0")[0] == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["migrate", "audit", "demo", "status"])
def test_with_nothing_running_a_command_says_so(command: str) -> None:
    """A clone that is down is exit code 3 and a sentence, never a traceback."""
    code, _, err = _run(command)
    assert code == 3
    assert "nothing runs" in err


def _answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    transport = httpx.MockTransport(answer)

    def request(method: str, url: str, **options: Any) -> httpx.Response:
        with httpx.Client(transport=transport) as client:
            return client.request(method, url, **options)

    monkeypatch.setattr(httpx, "request", request)
    monkeypatch.setattr(httpx, "get", partial(request, "GET"))


def _audit(violations: int, *, folder: Path) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        assert _claims(token, load_or_make(folder).auth_jwt_secret)["roles"] == ["viewer"]
        if "export" in request.url.path:
            return httpx.Response(200, json={"data": [], "has_more": False, "next_cursor": None})
        check = {"id": "seats", "title": "seats add up", "violations": violations, "examples": ["slot-1"][:violations]}
        return httpx.Response(200, json={"ok": not violations, "checked_at": "now", "checks": [check]})

    return answer


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("violations", [0, 2])
def test_audit_asks_both_services(violations: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean is 0; a violation in any check is exit code 1 and shown with an example."""
    _answering(monkeypatch, _audit(violations, folder=folder))
    code, out, _ = _run("audit", "--json")
    report = json.loads(out)
    assert code == (1 if violations else 0)
    assert report["ok"] is not bool(violations)
    assert [check["service"] for check in report["checks"]][:3] == ["reservation", "payment", "three-way"]
    assert report["in_flight"] == []
    code, out, _ = _run("audit")
    assert ("2 VIOLATIONS" in out) is bool(violations)


@pytest.mark.usefixtures("running")
def test_audit_of_a_service_that_refuses_is_not_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit that could not be made never looks like a clean one."""
    _answering(monkeypatch, lambda _request: httpx.Response(503))
    assert _run("audit")[0] == 3


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(("state", "code"), [("ready", 0), ("not_ready", 1)])
def test_status_tells_whether_the_services_are_ready(state: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up but not ready is exit code 1."""
    _answering(monkeypatch, lambda _request: httpx.Response(200, json={"status": state}))
    exit_code, out, _ = _run("status", "--json")
    assert exit_code == code
    assert json.loads(out)["services"] == {"reservation": state, "payment": state}


@pytest.mark.usefixtures("folder")
def test_migrate_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, reservation_database_url: str, payment_database_url: str
) -> None:
    """Databases named by the environment are migrated without a running clone; a second time changes nothing."""
    monkeypatch.setenv("RESERVATION_DATABASE_URL", reservation_database_url)
    monkeypatch.setenv("PAYMENT_DATABASE_URL", payment_database_url)
    code, out, _ = _run("migrate", "--json")
    assert code == 0
    assert [(one["service"], one["before"] == one["after"]) for one in json.loads(out)] == [
        ("reservation", True),
        ("payment", True),
    ]


@pytest.mark.usefixtures("folder")
def test_migrate_of_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable database is exit code 3 and a sentence."""
    for name in ("RESERVATION_DATABASE_URL", "PAYMENT_DATABASE_URL"):
        monkeypatch.setenv(name, "postgresql+asyncpg://nobody@127.0.0.1:1/none")
    code, _, err = _run("migrate")
    assert code == 3
    assert "cannot reach" in err


def test_the_api_description_is_written_stably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are sorted and the file ends in a newline, so that a difference is a difference."""
    monkeypatch.setattr(describing, "documents", lambda: {"reservation": {"b": 1, "a": "é"}})
    (path,) = describing.write(tmp_path / "new")
    assert path.read_text() == '{\n  "a": "é",\n  "b": 1\n}\n'
    assert [one.name for one in path.parent.iterdir()] == ["reservation.json"]
