"""The only place where the payment service is wired."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from payment_service.api import (
    admin,
    breaker,
    payments,
    reconciliation,
    stripe_export,
    stripe_webhook,
    webhook_events,
    webhook_replays,
)
from payment_service.api.dependencies import Parts
from payment_service.background import jobs
from payment_service.behaviours import Behaviours, Ground
from payment_service.clients.reservations import ReservationsClient
from payment_service.flags import FLAGS, SIGNED_INTERNAL_CALLS
from payment_service.gateway.guarded import log_retries_without_arguments
from payment_service.gateway.stripe import StripeGateway
from payment_service.metrics import Metrics
from payment_service.nudges import Nudges
from payment_service.settings import PaymentSettings
from payment_service.store import audit
from payment_service.store.tables import flag_overrides
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

MIGRATIONS = "payment_service.store.migrations"


_ROUTERS = (
    payments.router,
    stripe_webhook.router,
    webhook_events.router,
    webhook_replays.router,
    admin.router,
    breaker.router,
    reconciliation.router,
    stripe_export.router,
    operator_desk(audit.INVARIANTS),
)
_DESCRIPTION: dict[str, Any] = {
    "title": "Holdfast payment service",
    "version": "1",
    "summary": "Money that is never lost.",
    "docs_url": None,
    "redoc_url": None,
}


@dataclass(frozen=True)
class _House:
    """What lives as long as the process, and in which order it is opened and closed."""

    ground: Ground
    http: httpx.AsyncClient
    background: Background
    health: Health
    tracing: TracerProvider
    tokens: TokenVerifier

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Start the background work; on the way out, let what runs come to rest and close everything."""
        ground = self.ground
        await ground.flags.refresh(ground.database)
        self.background.start()
        with heap.settled():
            self.health.started = True
            yield
        self.health.draining = True
        await self.background.stop(timeout_s=ground.settings.shutdown_grace_s / 2)
        await self.http.aclose()
        await self.tokens.close()
        await ground.gateway.close()
        await ground.database.close()
        await end_tracing(self.tracing)


def create_app(
    settings: PaymentSettings,
    *,
    clock: Clock | None = None,
    stripe_transport: httpx.AsyncBaseTransport | None = None,
    reservations_transport: httpx.AsyncBaseTransport | None = None,
    environment: Mapping[str, str] | None = None,
) -> FastAPI:
    """Wire the service. The transports replace the network in tests, `environment` that of flags."""
    log_retries_without_arguments()
    database = Database.connect(
        settings.payment_database_url.get_secret_value(),
        application_name="payment_service",
        pool_size=settings.database_pool_size,
        pool_timeout_s=settings.database_pool_timeout_s,
    )
    metrics = Metrics(CollectorRegistry())
    metrics.watch_pool(database)
    tracing = tracer_provider("payment_service", settings)
    clock, flags = clock or SystemClock(), Flags(FLAGS, flag_overrides, environment)
    http = _reservations_http(settings, reservations_transport, tracing)
    ground = Ground(
        settings=settings,
        database=database,
        clock=clock,
        flags=flags,
        metrics=metrics,
        gateway=_gateway(settings, stripe_transport),
        reservations=ReservationsClient(http, _seal(settings, clock, flags)),
        nudges=Nudges(),
    )
    work = Behaviours(ground)
    health = Health(
        {"database": database.ping}, {"webhook_event_types": work.endpoints.check, **redis_check(settings.redis_url)}
    )
    background = Background(jobs(work), ground.clock, metrics.ticked)
    ground.nudges.connect(background)
    tokens = TokenVerifier(settings, keys=SigningKeys.of(settings, clock))
    house = _House(ground, http, background, health, tracing, tokens)

    app = _describe(TracedApp(tracing, settings, lifespan=house.lifespan, **_DESCRIPTION))
    add_api_docs(app)
    app.include_router(health_router(health))
    app.include_router(metrics_router(metrics.registry, flags))
    limits = {stripe_webhook.PATH: stripe_webhook.BODY_LIMIT_BYTES}
    app.add_middleware(HttpEdge, metric=metrics.requests, body_limits=limits)
    app.state.parts = _parts(work, tokens)
    app.state.health = health
    app.state.logs_in_json = partial(flags.is_on, STRUCTURED_LOGGING)
    return app


def openapi_document() -> dict[str, Any]:
    """Return the description of the API, without needing a database or an environment."""
    return _describe(FastAPI(**_DESCRIPTION)).openapi()


def _describe(app: FastAPI) -> FastAPI:
    install_problem_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app


def _gateway(settings: PaymentSettings, transport: httpx.AsyncBaseTransport | None) -> StripeGateway:
    return StripeGateway.connect(
        settings.stripe_secret_key,
        api_base=settings.stripe_api_base,
        timeout_s=settings.stripe_timeout_s,
        connect_timeout_s=settings.stripe_connect_timeout_s,
        system=settings.stripe_system_name,
        transport=transport,
    )


def _reservations_http(
    settings: PaymentSettings, transport: httpx.AsyncBaseTransport | None, tracing: TracerProvider
) -> httpx.AsyncClient:
    http = httpx.AsyncClient(
        base_url=settings.reservation_service_url,
        transport=transport,
        timeout=httpx.Timeout(settings.reservation_timeout_s, connect=settings.reservation_connect_timeout_s),
        trust_env=False,
    )
    HTTPXClientInstrumentor.instrument_client(http, tracer_provider=tracing)
    return http


def _seal(settings: PaymentSettings, clock: Clock, flags: Flags) -> InternalSeal:
    return InternalSeal(
        InternalSigner(settings.internal_signing_keys, tag=TO_RESERVATION_SERVICE, clock=clock),
        bearer=settings.internal_bearer_secret,
        signed=partial(flags.is_on, SIGNED_INTERNAL_CALLS),
    )


def _parts(work: Behaviours, tokens: TokenVerifier) -> Parts:
    ground, settings = work.ground, work.ground.settings
    return Parts(
        database=ground.database,
        clock=ground.clock,
        flags=ground.flags,
        tokens=tokens,
        internal=InternalDoor(
            InternalSigner(settings.internal_signing_keys, tag=TO_PAYMENT_SERVICE, clock=ground.clock),
            bearer=settings.internal_bearer_secret,
            signed_only=partial(ground.flags.is_on, SIGNED_INTERNAL_CALLS),
        ),
        lifecycle=work.lifecycle,
        refunding=work.refunding,
        reading=work.reading,
        exporting=work.exporting,
        replays=work.replays,
        inbox=work.inbox,
        switchboard=work.switchboard,
        event_replays=work.replaying,
        nudge_webhooks=ground.nudges.webhooks,
    )
