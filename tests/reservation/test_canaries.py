"""Canaries go through every door of the reservation service and through its failures, and are found nowhere again."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog

from shared.auth import GUEST_ISSUER
from shared.telemetry import configure_logging
from tests.answers import answered, refused, seen
from tests.reservation.box_office import BoxOffice, Customer, open_box_office, settings_for
from tests.shared.test_telemetry import EXPORTER, Kept

EMAIL, NAME, PHONE = "canary.person@secret.example", "Canary Personne", "+49 555 0142 857"
CARD = "4242 4242 4242 4242"
KEY = "canary-key-3b7a51"
WORD = "canary-word-9e21"
LINES = f"{WORD}\r\nset-cookie: {WORD}=1"
_BROKEN = f"CHECK (customer ->> 'email' <> '{EMAIL}')"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Logs as in production, written to where a test can read them."""
    before, root, level, page = structlog.get_config(), logging.root.handlers, logging.root.level, io.StringIO()
    monkeypatch.setattr(sys, "stdout", page)
    configure_logging("reservation_service", settings_for("postgresql+asyncpg://nowhere", log_json=True))
    structlog.configure(cache_logger_on_first_use=False)
    yield page
    structlog.configure(**before)
    logging.root.handlers, logging.root.level = root, level


async def everywhere(office: BoxOffice) -> tuple[list[httpx.Response], set[str]]:
    """Send canaries to wherever text is taken, well and badly; return the refusals, and the secrets that came up."""
    guest = Customer(office.http, answered(await office.http.post("/v1/guest-sessions"), 201)["token"])
    offer, customer = await office.offer(), {"name": NAME, "email": EMAIL, "phone": PHONE}
    hold = answered(await guest.hold(offer, key=KEY, client_reference=WORD, metadata={WORD: LINES}), 201)
    booked = answered(await guest.convert(hold["id"], key=KEY, customer=customer), 201)
    secrets = {booked["payment"]["client_secret"], guest.token}
    reseller = await office.operator().ask(
        "POST", "/admin/v1/api-keys", json={"name": "R", "scopes": ["bookings:read"]}
    )
    secrets.add(answered(reseller, 201)["key"])
    refusals = [
        await guest.hold(offer, 1, key=KEY, client_reference=CARD),
        await guest.hold(offer, 99, key=KEY, client_reference=WORD),
        await guest.convert(hold["id"], key=KEY, customer={**customer, "email": WORD}),
        await guest.ask("GET", f"/v1/holds/{WORD}%0d%0a{EMAIL}"),
        await guest.ask("GET", f"/{WORD}?email={EMAIL}"),
        await office.http.post("/v1/reservations/lookup", json={"reference": WORD, "email": EMAIL}),
        await office.http.get("/v1/reservations", headers={"Authorization": f"Bearer {WORD}.{WORD}"}),
        await guest.ask("POST", "/v1/holds", key=KEY, content=f'{{"{WORD}": "{EMAIL}"', headers=_JSON),
    ]
    answered(await office.operator().ask("GET", f"/admin/v1/reservations?email={EMAIL}"))
    await office.parts.engine.drain(5)
    refusals.append(await _a_bug(office, guest, offer, customer))
    return refusals, secrets


_JSON = {"content-type": "application/json"}


async def _a_bug(office: BoxOffice, guest: Customer, offer: Any, customer: dict[str, str]) -> httpx.Response:
    """Let PostgreSQL refuse a row that holds a guest, as a bug of ours would; it repeats the row in its message."""
    held = answered(await guest.hold(offer, key="another"), 201)["id"]
    await office.sql(f"ALTER TABLE reservations ADD CONSTRAINT planted {_BROKEN} NOT VALID")
    lenient = httpx.ASGITransport(office.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=lenient, base_url="http://test") as http:
        answer = await Customer(http, guest.token).convert(held, customer=customer)
    await office.sql("ALTER TABLE reservations DROP CONSTRAINT planted")
    return answer


async def test_canaries_are_found_nowhere(
    reservation_database_url: str, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I25, X06, X07: names, addresses, cards, keys, secrets and line breaks: not in logs, spans, metrics or problems."""
    spans = Kept()
    monkeypatch.setattr(EXPORTER, lambda *_args, **_options: spans)
    traced = {"otel_exporter_otlp_endpoint": "http://collector", "trace_sample_ratio": 1.0}
    async with open_box_office(reservation_database_url, **traced) as office:
        refusals, secrets = await everywhere(office)
        page = (await office.http.get("/metrics")).text
    logged = written.getvalue()

    assert refusals[-1].status_code == 500, seen(refusals[-1])
    for answer in refusals:
        refused(answer, answer.status_code, answer.json()["code"])
    assert "planted" in logged, "the bug was not even logged"
    for line in logged.splitlines():
        assert line.startswith("{"), line
        assert isinstance(json.loads(line), dict), line
    assert "POST /v1/holds/{hold_id}/convert" in spans.text
    assert "reservation_holds_total" in page
    told = {"logs": logged, "spans": spans.text, "metrics": page, "problems": "".join(map(_text, refusals))}
    kept_out = {EMAIL, NAME, PHONE, CARD, CARD.replace(" ", ""), KEY, WORD, "_secret_", *secrets}
    found = [(where, text) for where, content in told.items() for text in kept_out if text in content]
    assert found == []
    assert GUEST_ISSUER not in logged


def _text(answer: httpx.Response) -> str:
    return answer.text + str(dict(answer.headers))
