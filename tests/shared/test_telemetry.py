"""What is told about a request to those who watch: nothing that it brought along, and never at its expense."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from pydantic import SecretStr

from shared import telemetry
from shared.settings import SharedSettings
from shared.telemetry import end_tracing, fastapi_telemetry, tracer_provider
from tests.answers import CANARY
from tests.scenarios import fired

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter"
_LEAVES_WITHIN_S = 30
_REQUESTS = 50


class Kept(SpanExporter):
    """Keeps what would have been sent."""

    def __init__(self) -> None:
        self.text = ""

    def export(self, spans: Any) -> SpanExportResult:
        self.text += "".join(span.to_json() for span in spans)
        return SpanExportResult.SUCCESS


def settings_for(endpoint: str) -> SharedSettings:
    return SharedSettings(
        auth_jwt_secret=SecretStr("a-secret-for-tokens"),
        internal_signing_keys=(("k", SecretStr("a-key")),),
        otel_exporter_otlp_endpoint=endpoint,
        trace_sample_ratio=1.0,
    )


def stack_of(error: BaseException) -> str:
    try:
        raise error
    except BaseException:  # noqa: BLE001  whichever it is
        return telemetry._stack(sys.exc_info())


def test_a_stack_repeats_no_row() -> None:
    """I25, X07: of each error in a chain the type, the place and the first line; what PostgreSQL adds stays out."""

    def fails() -> None:
        try:
            raise ValueError(f"a check was violated\nDETAIL:  Failing row contains ({CANARY}).")
        except ValueError as error:
            raise RuntimeError(f"it did not work\n{CANARY}") from error

    try:
        fails()
    except RuntimeError as error:
        told = stack_of(error)
    assert CANARY not in told
    assert told.index("builtins.ValueError: a check was violated") < told.index(
        "builtins.RuntimeError: it did not work"
    )
    assert "in fails" in told
    group = stack_of(ExceptionGroup("two", [ValueError(f"one\n{CANARY}"), TypeError("other")]))
    assert "builtins.TypeError: other" in group
    assert CANARY not in group


async def test_a_span_repeats_nothing_of_a_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """I25, X07: not the query, not a path that leads nowhere, not the host, not the method; the route is told."""
    kept = Kept()
    monkeypatch.setattr(EXPORTER, lambda *_args, **_options: kept)
    provider = tracer_provider("test", settings_for("http://collector"))
    app = FastAPI(telemetry=fastapi_telemetry(provider))

    @app.get("/things/{thing_id}")
    async def thing(thing_id: str) -> str:
        return thing_id

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{CANARY}.example") as http:
        assert (await http.get(f"/things/{CANARY}?email={CANARY}@example.org")).status_code == 200
        assert (await http.get(f"/{CANARY}%0d%0a")).status_code == 404
        await http.request(f"M{CANARY.replace('-', '')}", "/things/1")
    await end_tracing(provider)
    assert "/things/{thing_id}" in kept.text
    assert CANARY not in kept.text
    assert CANARY.replace("-", "") not in kept.text


@contextmanager
def collector(kind: str) -> Iterator[tuple[str, Any]]:
    """Yield the address of a collector that is not there, or takes everything and never answers; and what has come."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        if kind == "away":
            listening.close()
        yield f"http://127.0.0.1:{port}", listening


@pytest.mark.parametrize("kind", ["away", "silent"])
async def test_a_collector_that_is_away_is_not_noticed(kind: str) -> None:
    """X15: requests are answered, spans beyond the queue are dropped, and the process ends when it is told to."""
    with collector(kind) as (endpoint, listening):
        provider = tracer_provider("test", settings_for(endpoint))
        app = FastAPI(telemetry=fastapi_telemetry(provider))

        @app.get("/")
        async def answer() -> str:
            return "ok"

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            for _ in range(_REQUESTS):
                assert (await http.get("/")).status_code == 200
        tracer = provider.get_tracer("test")
        for _ in range(20_000):  # more than any queue holds
            tracer.start_span("one of many").end()
        async with asyncio.timeout(_LEAVES_WITHIN_S):
            await end_tracing(provider)
        if kind == "silent":
            listening.settimeout(5)
            listening.accept()[0].close()  # somebody did knock
    fired("X15", _REQUESTS)
