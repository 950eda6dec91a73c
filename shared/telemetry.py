"""Logs, traces and the scrape page: set up once per process, the same way in both services."""

import asyncio
import logging
import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import Receive, Scope, Send

from shared.flags import Flags
from shared.settings import SharedSettings
from shared.telling import METRICS, POOL_METRICS

_EXPORT_S = 3
_LEAVE_S = 4.0
# What a stranger writes and the framework copies: a search for an e-mail address stands in a query.
_SAID_BY_STRANGERS = ("url.path", "url.query", "server.address", "http.request.method_original")
_OF_THE_POOL = "db_client_connection"
_TRACE = "holdfast.trace"
_LEFT_OUT = "fastapi.telemetry"  # the framework's own mark of a request that it has nothing more to do with
_IDS, _W3C = RandomIdGenerator(), TraceContextTextMapPropagator()
QUIET_PATHS = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})


def _add_trace_id(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
    return event


class LogLines:
    """Draws the lines of the log: as JSON, unless settings or the flag that is followed say that people read them."""

    def __init__(self, *, in_json: bool) -> None:
        self._in_json = in_json
        self._is_on: Callable[[], bool] = lambda: True
        self._json = structlog.processors.JSONRenderer(serializer=_to_json)
        self._text = structlog.dev.ConsoleRenderer()

    def follow(self, is_on: Callable[[], bool]) -> None:
        """Ask this before each line from now on."""
        self._is_on = is_on

    def __call__(self, logger: Any, name: str, event: structlog.typing.EventDict) -> str | bytes:
        draw = self._json if self._in_json and self._is_on() else self._text
        return draw(logger, name, event)


def configure_logging(service: str, settings: SharedSettings) -> LogLines:
    """Send every line, ours and the libraries', through structlog to standard output."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _add_trace_id,
        structlog.processors.EventRenamer("event"),
        structlog.processors.ExceptionRenderer(_stack),
    ]
    renderer = LogLines(in_json=settings.log_json)
    structlog.configure(
        processors=[*chain, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level)
    for noisy in ("httpx", "httpcore", "uvicorn.access", "alembic", "stripe"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return renderer


def _stack(exc_info: Any) -> str:
    """Draw the stack of an error and of what led to it, each with the first line of its text.

    The next lines are where PostgreSQL repeats the row that failed, and pydantic what it was given.
    """
    return "\n".join(_told(exc_info[1]))


def _told(error: BaseException) -> Iterator[str]:
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _told(before)
        yield "and from there:"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
    yield f"{type(error).__module__}.{type(error).__qualname__}: {str(error).partition(chr(10))[0][:300]}"
    for inner in getattr(error, "exceptions", ()):
        yield from _told(inner)


def _to_json(event: Any, **_options: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def tracer_provider(service: str, settings: SharedSettings) -> TracerProvider:
    """Make spans for every request (so that logs carry trace ids) and export the sampled ones when told where to."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}),
        sampler=ParentBased(_DrawnAtTheDoor(settings.trace_sample_ratio)),
        shutdown_on_exit=False,  # `end_tracing` does that, and waits for no collector that is away
    )
    provider.add_span_processor(_Discreet())
    if settings.otel_exporter_otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  loads half an HTTP library
            OTLPSpanExporter,
        )

        url = f"{settings.otel_exporter_otlp_endpoint.rstrip('/')}/v1/traces"
        exporter = OTLPSpanExporter(url, timeout=_EXPORT_S)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=8192))
    return provider


class _Discreet(SpanProcessor):
    """Takes out of every span what a stranger wrote; `http.route` says what was asked for."""

    def on_start(self, span: Span, parent_context: Any = None) -> None:  # noqa: ARG002  the SDK's signature
        for name in _SAID_BY_STRANGERS:
            if name in (span.attributes or {}):
                span.set_attribute(name, "")


async def end_tracing(provider: TracerProvider) -> None:
    """Send the spans that are left; a collector that is away holds up no process that wants to end."""
    last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    last.start()
    await asyncio.to_thread(last.join, _LEAVE_S)


class _DrawnAtTheDoor(TraceIdRatioBased):
    """Draws what begins in this process; a request that nobody has drawn before us never comes this far."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        *rest: Any,
        **named: Any,
    ) -> SamplingResult:
        if kind is SpanKind.SERVER:
            return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, *rest, **named)
        return super().should_sample(parent_context, trace_id, name, kind, attributes, *rest, **named)


class _Draw:
    """Says whether the framework leaves a request out: those that nobody records cost a tenth of a hold otherwise.

    One that is left out has ids all the same, for the log and for whom we call: see `InItsTrace`.
    """

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio

    def __call__(self, scope: Any) -> bool:
        if scope.get("path") in QUIET_PATHS:
            return True
        trace_context = _begun_elsewhere(scope)
        if trace_context is None:
            if random.random() < self._ratio:  # noqa: S311  whom it meets is no secret
                return False
            trace_context = SpanContext(_IDS.generate_trace_id(), _IDS.generate_span_id(), is_remote=False)
        elif trace_context.trace_flags.sampled:
            return False
        scope[_TRACE] = trace_context
        return True


def _begun_elsewhere(scope: Scope) -> SpanContext | None:
    """Return the trace that a request brings along, if it is one."""
    for name, value in scope.get("headers", ()):
        if name == b"traceparent":
            found = trace.get_current_span(_W3C.extract({"traceparent": value.decode("latin-1")})).get_span_context()
            return found if found.is_valid else None
    return None


class InItsTrace:
    """Lets what a request does that the framework left out be known by its trace: log lines, and calls that it makes."""

    __slots__ = ("_token", "_trace_context")

    def __init__(self, scope: Scope) -> None:
        self._trace_context: SpanContext | None = scope.get(_TRACE)

    def __enter__(self) -> None:
        if self._trace_context is not None:
            self._token = attach(trace.set_span_in_context(trace.NonRecordingSpan(self._trace_context)))

    def __exit__(self, *_error: object) -> None:
        if self._trace_context is not None:
            detach(self._token)


class TracedApp(FastAPI):
    """An app with the framework's own tracing: one span a sampled request, no operation spans, no copies of exceptions.

    A request that nobody records goes past that tracing: to be left out by it costs a context and half a dozen calls.
    """

    def __init__(self, provider: TracerProvider, settings: SharedSettings, **described: Any) -> None:
        config = TelemetryConfig(
            tracer_provider=provider, tracing=True, metrics=False, logs=False, operation_spans=False
        )
        super().__init__(telemetry=config, **described)
        self._leaves_out = _Draw(settings.trace_sample_ratio)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._leaves_out(scope):
            scope[_LEFT_OUT] = None
        await super().__call__(scope, receive, send)


class _Shown:
    """What of a registry is on the page, as the flags stand."""

    def __init__(self, registry: CollectorRegistry, flags: Flags) -> None:
        self._registry = registry
        self._flags = flags

    def collect(self) -> Iterable[Metric]:
        if not self._flags.is_on(METRICS):
            return []
        families = self._registry.collect()
        if self._flags.is_on(POOL_METRICS):
            return families
        return (family for family in families if not family.name.startswith(_OF_THE_POOL))


def metrics_router(registry: CollectorRegistry, flags: Flags) -> APIRouter:
    """Return `/metrics` in the OpenMetrics text format."""
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    async def metrics(_request: Request) -> Response:
        page: bytes = generate_latest(_Shown(registry, flags))  # type: ignore[no-untyped-call]
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    return router


def route_of(scope: Scope) -> str:
    """Return the route template of a finished request; a path that matched nothing is no label."""
    route = scope.get("route")
    return str(getattr(route, "path", "unmatched"))
