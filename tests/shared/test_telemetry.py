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
from opentelemetry import propagate
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, TraceFlags
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import MetaData

from shared import telemetry
from shared.flags import Flags, flag_overrides_table
from shared.http_edge import HttpEdge, request_metric
from shared.process_metrics import ProcessMetrics
from shared.settings import SharedSettings
from shared.telemetry import LogLines, TracedApp, end_tracing, metrics_router, tracer_provider
from shared.telling import TELLING
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


def settings_for(endpoint: str, *, ratio: float = 1.0) -> SharedSettings:
    return SharedSettings(
        auth_jwt_secret=SecretStr("a-secret-for-the-tokens-of-these-tests"),
        internal_signing_keys=(("k", SecretStr("a-key")),),
        otel_exporter_otlp_endpoint=endpoint,
        trace_sample_ratio=ratio,
    )


def stack_of(error: BaseException) -> str:
    try:
        raise error
    except BaseException:  # noqa: BLE001  whichever it is
        return telemetry._stack(sys.exc_info())


async def page_of(**environment: str) -> list[str]:
    """Return which metrics are scraped of a process with these start values of flags, and that the page has an end."""
    metrics, app = ProcessMetrics(CollectorRegistry()), FastAPI(openapi_url=None)
    flags = Flags(TELLING, flag_overrides_table(MetaData()), environment)
    app.include_router(metrics_router(metrics.registry, flags))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return [line for line in lines if line.startswith(("# TYPE", "# EOF"))]


async def test_the_page_shows_what_the_flags_let_it() -> None:
    """X14: metrics off: a page of nothing, which is still one; pool_metrics off: all but the pool of connections."""
    whole, poolless = await page_of(), await page_of(FLAG_POOL_METRICS="off")
    assert await page_of(FLAG_METRICS="off") == ["# EOF"]
    pool = ["# TYPE db_client_connections gauge", "# TYPE db_client_connection_wait_seconds histogram"]
    assert [line for line in whole if line not in poolless] == pool
    assert len(poolless) == len(whole) - len(pool) > 3


def test_lines_are_drawn_as_the_flag_says_now() -> None:
    """X14: structured_logging is asked before each line; whoever wants text by LOG_JSON gets text whatever it says."""
    lines, on = LogLines(in_json=True), [True]
    lines.follow(lambda: on[0])
    assert lines(None, "info", {"event": "hello", "seats": 2}) == '{"event":"hello","seats":2}'
    on[0] = False
    text = str(lines(None, "info", {"event": "hello", "seats": 2}))
    assert "hello" in text
    assert not text.startswith("{")
    on[0] = True
    assert not str(LogLines(in_json=False)(None, "info", {"event": "hello"})).startswith("{")


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
    app = TracedApp(provider, settings_for("http://collector"))

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


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("brought", "recorded", "ratio"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-00", False, 1.0),
        (f"00-{TRACE}-00f067aa0ba902b7-01", True, 0.0),
        ("nonsense", False, 0.0),
        ("nonsense", True, 1.0),
        (None, False, 0.0),
        (None, True, 1.0),
    ],
)
async def test_a_request_that_nobody_records_has_its_trace(
    monkeypatch: pytest.MonkeyPatch, brought: str | None, recorded: bool, ratio: float
) -> None:
    """Log lines and the calls that it makes name the trace, its own or the one that it brought; only the span is saved."""
    kept, seen = Kept(), list[str]()
    monkeypatch.setattr(EXPORTER, lambda *_args, **_options: kept)
    settings = settings_for("http://collector", ratio=ratio)
    provider = tracer_provider("test", settings)
    app = TracedApp(provider, settings)

    @app.get("/things/{thing_id}")
    async def thing(thing_id: str) -> str:
        seen.append(telemetry._add_trace_id(None, "", {})["trace_id"])
        called: dict[str, str] = {}
        propagate.inject(called)
        seen.append(called["traceparent"].split("-")[1])
        assert int(called["traceparent"].split("-")[3], 16) & TraceFlags.SAMPLED == int(recorded)
        return thing_id

    app.add_middleware(HttpEdge, metric=request_metric(CollectorRegistry()))
    headers = {} if brought is None else {"traceparent": brought}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        for number in range(2):
            assert (await http.get(f"/things/{number}", headers=headers)).status_code == 200
    await end_tracing(provider)
    assert ("/things/{thing_id}" in kept.text) is recorded
    of_one, of_other = set(seen[:2]), set(seen[2:])
    assert len(of_one) == len(of_other) == 1, "what is logged and what is sent on are one trace"
    assert (of_one == of_other == {TRACE}) is (brought is not None and TRACE in brought)


async def test_what_begins_in_a_process_is_drawn_by_its_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that no request has led to, like those of a saga that goes on by itself, is recorded as often as settings say."""
    kept = Kept()
    monkeypatch.setattr(EXPORTER, lambda *_args, **_options: kept)
    provider = tracer_provider("test", settings_for("http://collector", ratio=0.0))
    provider.get_tracer("test").start_span("nobody's", kind=SpanKind.CLIENT).end()
    await end_tracing(provider)
    assert kept.text == ""


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
        app = TracedApp(provider, settings_for("http://collector"))

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
