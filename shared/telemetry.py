"""Logs, traces and the scrape page: set up once per process, the same way in both services."""

import logging
import sys
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import Scope

from shared.settings import SharedSettings

QUIET_PATHS = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})


def _add_trace_id(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
    return event


def configure_logging(service: str, settings: SharedSettings) -> None:
    """Send every line, ours and the libraries', through structlog to standard output."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _add_trace_id,
        structlog.processors.EventRenamer("event"),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json) if settings.log_json else structlog.dev.ConsoleRenderer()
    )
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


def _to_json(event: Any, **_options: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def tracer_provider(service: str, settings: SharedSettings) -> TracerProvider:
    """Make spans for every request (so that logs carry trace ids) and export the sampled ones when told where to."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}),
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
    )
    if settings.otel_exporter_otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  loads half an HTTP library
            OTLPSpanExporter,
        )

        exporter = OTLPSpanExporter(f"{settings.otel_exporter_otlp_endpoint.rstrip('/')}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=8192))
    return provider


def _is_quiet(scope: Any) -> bool:
    return scope.get("path") in QUIET_PATHS


def fastapi_telemetry(provider: TracerProvider) -> TelemetryConfig:
    """Return the framework's own tracing: one span a request, no operation spans, no copies of exceptions."""
    return TelemetryConfig(
        tracer_provider=provider, tracing=True, metrics=False, logs=False, operation_spans=False, exclude=_is_quiet
    )


def metrics_router(registry: CollectorRegistry) -> APIRouter:
    """Return `/metrics` in the OpenMetrics text format."""
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    async def metrics(_request: Request) -> Response:
        page: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    return router


def route_of(scope: Scope) -> str:
    """Return the route template of a finished request; a path that matched nothing is no label."""
    route = scope.get("route")
    return str(getattr(route, "path", "unmatched"))
