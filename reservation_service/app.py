"""The only place where the reservation service is wired."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from starlette.middleware.cors import CORSMiddleware

from reservation_service.api import (
    admin_bookings,
    admin_experiences,
    admin_slots,
    api_keys,
    audit_export,
    availability,
    discounts,
    experiences,
    guest_sessions,
    holds,
    lookup,
    payment_events,
    reservations,
    sagas,
    time_slots,
    timelines,
)
from reservation_service.api.client_address import ClientAddresses
from reservation_service.api.dependencies import Parts
from reservation_service.api.hold_door import HoldDoor
from reservation_service.api.manners import MANNERS
from reservation_service.api.rate_limits import RateLimitDoor, RateLimits
from reservation_service.background import jobs
from reservation_service.behaviours import Behaviours, Ground
from reservation_service.clients.fast_redis import FastRedis
from reservation_service.clients.payments import PaymentsClient
from reservation_service.clients.rate_counter import RateCounter
from reservation_service.flags import FLAGS, RATE_LIMITING, SIGNED_INTERNAL_CALLS
from reservation_service.metrics import Metrics
from reservation_service.settings import ReservationSettings
from reservation_service.store import audit
from reservation_service.store.tables import flag_overrides
from shared import heap
from shared.api_docs import add_api_docs
from shared.auth import TokenVerifier
from shared.clock import Clock, SystemClock
from shared.database import Database
from shared.flags import Flags
from shared.health import Health, health_router
from shared.http_edge import HttpEdge
from shared.internal_calls import InternalDoor, InternalSeal
from shared.operator_desk import operator_desk
from shared.payment_contract import TO_PAYMENT_SERVICE, TO_RESERVATION_SERVICE
from shared.problems import install_problem_handlers
from shared.redis_health import redis_check
from shared.signing import InternalSigner
from shared.signing_keys import SigningKeys
from shared.telemetry import TracedApp, end_tracing, metrics_router, tracer_provider
from shared.telling import STRUCTURED_LOGGING
from shared.ticker import Background

MIGRATIONS = "reservation_service.store.migrations"

_SHOWN_TO_PAGES = (
    "ETag", "Expires-In-Ms", "Idempotent-Replayed", "Idempotency-Renewed", "RateLimit", "RateLimit-Policy", "Request-Id",
    "Retry-After", "Server-Timing",
)  # fmt: skip
_ROUTERS = (
    guest_sessions.router,
    experiences.router,
    time_slots.router,
    availability.router,
    holds.router,
    lookup.router,
    reservations.router,
    timelines.router,
    payment_events.router,
    admin_experiences.router,
    admin_slots.router,
    admin_bookings.router,
    audit_export.router,
    sagas.router,
    discounts.router,
    api_keys.router,
    operator_desk(audit.INVARIANTS),
)


@dataclass(frozen=True)
class _House:
    """What lives as long as the process, and in which order it is opened and closed."""

    work: Behaviours
    http: httpx.AsyncClient
    background: Background
    health: Health
    tracing: TracerProvider
    tokens: TokenVerifier

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Start the background work; on the way out, let what runs come to rest and close everything."""
        work, ground = self.work, self.work.ground
        await ground.flags.refresh(ground.database)
        await work.api_keys.refresh()
        self.background.start()
        with heap.settled():
            self.health.started = True
            yield
        self.health.draining = True
        work.watch.close()
        await self.background.stop(timeout_s=ground.settings.shutdown_grace_s / 2)
        await work.engine.drain(timeout_s=ground.settings.shutdown_grace_s / 2)
        await work.group.close()
        await ground.redis.close()
        await self.http.aclose()
        await self.tokens.close()
        await ground.database.close()
        await end_tracing(self.tracing)


def create_app(
    settings: ReservationSettings,
    *,
    clock: Clock | None = None,
    payments_transport: httpx.AsyncBaseTransport | None = None,
    environment: Mapping[str, str] | None = None,
) -> FastAPI:
    """Wire the service. `payments_transport` replaces the network to payment_service, `environment` that of flags."""
    database = Database.connect(
        settings.reservation_database_url.get_secret_value(),
        application_name="reservation_service",
        pool_size=settings.database_pool_size,
        pool_timeout_s=settings.database_pool_timeout_s,
    )
    metrics = Metrics(CollectorRegistry())
    metrics.watch_pool(database)
    tracing = tracer_provider("reservation_service", settings)
    http = _payments_http(settings, payments_transport, tracing)
    clock, flags = clock or SystemClock(), Flags(FLAGS, flag_overrides, environment)
    ground = Ground(
        settings=settings,
        database=database,
        clock=clock,
        flags=flags,
        metrics=metrics,
        redis=FastRedis(settings.redis_url, clock, budget_s=settings.redis_budget_ms / 1000),
        payments=PaymentsClient(http, _seal(settings, clock, flags), call_timeout_s=settings.internal_call_timeout_s),
    )
    work = Behaviours(ground)
    health = Health({"database": database.ping}, redis_check(settings.redis_url))
    tokens = _tokens(work)
    house = _House(work, http, Background(jobs(work), clock, metrics.ticked), health, tracing, tokens)

    app = _describe(TracedApp(tracing, settings, lifespan=house.lifespan, **_DESCRIPTION))
    add_api_docs(app)
    app.include_router(health_router(health))
    app.include_router(metrics_router(metrics.registry, flags))
    app.state.parts = _parts(work, tokens)
    app.state.health = health
    app.state.logs_in_json = partial(flags.is_on, STRUCTURED_LOGGING)
    app.state.when_leaving = (work.watch.close,)
    _shorten_the_way(app)  # each of these stands around those before it
    _limit_rates(app)
    app.add_middleware(HttpEdge, metric=metrics.requests)
    _open_to_pages(app, settings.cors_allowed_origins)
    return app


def _tokens(work: Behaviours) -> TokenVerifier:
    settings = work.ground.settings
    keys = SigningKeys.of(settings, work.ground.clock)
    guest_secret = settings.guest_token_secret.get_secret_value()
    return TokenVerifier(settings, guest_secret, keys=keys, api_keys=work.api_keys.caller)


def _parts(work: Behaviours, tokens: TokenVerifier) -> Parts:
    ground, settings = work.ground, work.ground.settings
    counter = RateCounter(ground.redis, ground.metrics, ground.clock)
    return Parts(
        settings=settings,
        database=ground.database,
        flags=ground.flags,
        metrics=ground.metrics,
        holds=work.holds,
        watch=work.watch,
        engine=work.engine,
        calling_off=work.calling_off,
        saga_desk=work.saga_desk,
        timelines=work.timelines,
        tokens=tokens,
        api_keys=work.api_keys,
        rate_limits=RateLimits(settings, counter, partial(ground.flags.is_on, RATE_LIMITING), ground.metrics),
        internal=InternalDoor(
            InternalSigner(settings.internal_signing_keys, tag=TO_RESERVATION_SERVICE, clock=ground.clock),
            bearer=settings.internal_bearer_secret,
            signed_only=partial(ground.flags.is_on, SIGNED_INTERNAL_CALLS),
        ),
        clock=ground.clock,
    )


def _shorten_the_way(app: FastAPI) -> None:
    ordinary = next(route for route in holds.router.routes if getattr(route, "operation_id", "") == "createHold")
    app.add_middleware(HoldDoor, parts=app.state.parts, route=ordinary)


def _limit_rates(app: FastAPI) -> None:
    parts: Parts = app.state.parts
    app.add_middleware(
        RateLimitDoor,
        limits=parts.rate_limits,
        tokens=parts.tokens,
        addresses=ClientAddresses(parts.settings.trusted_proxies),
        routes=[route for router in _ROUTERS for route in router.routes],
    )


def _open_to_pages(app: FastAPI, origins: Sequence[str]) -> None:
    """Let the browsers of these pages call the API. Tokens are sent by hand, so no cookie ever counts."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match"],
            expose_headers=_SHOWN_TO_PAGES,
            max_age=600,
        )


def _seal(settings: ReservationSettings, clock: Clock, flags: Flags) -> InternalSeal:
    return InternalSeal(
        InternalSigner(settings.internal_signing_keys, tag=TO_PAYMENT_SERVICE, clock=clock),
        bearer=settings.internal_bearer_secret,
        signed=partial(flags.is_on, SIGNED_INTERNAL_CALLS),
    )


def _payments_http(
    settings: ReservationSettings, transport: httpx.AsyncBaseTransport | None, tracing: TracerProvider
) -> httpx.AsyncClient:
    http = httpx.AsyncClient(
        base_url=settings.payment_service_url,
        transport=transport,
        trust_env=False,  # a proxy of the shell's is not on the way to our own service
        timeout=httpx.Timeout(settings.internal_call_timeout_s, connect=2.0, pool=1.0),
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
    )
    HTTPXClientInstrumentor.instrument_client(http, tracer_provider=tracing)
    return http


_DESCRIPTION: dict[str, Any] = {
    "title": "Holdfast reservation service",
    "version": "1",
    "summary": "Seats that are never sold twice, money that is never lost.",
    "description": MANNERS,
    "docs_url": None,
    "redoc_url": None,
}


def _describe(app: FastAPI) -> FastAPI:
    install_problem_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app


def openapi_document() -> dict[str, Any]:
    """Return the description of the public API, without needing a database or an environment."""
    return _describe(FastAPI(**_DESCRIPTION)).openapi()
