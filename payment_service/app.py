"""The only place where the payment service is wired."""

import gc
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

from payment_service.api import admin, breaker, payments, stripe_webhook, webhook_events
from payment_service.api.dependencies import Parts
from payment_service.background import Nudges, jobs
from payment_service.clients.reservations import ReservationsClient
from payment_service.flags import CIRCUIT_BREAKER, FLAGS, PAYMENT_RETRIES, SIGNED_INTERNAL_CALLS, WEBHOOK_INBOX
from payment_service.gateway.guarded import GuardedGateway, log_retries_without_arguments
from payment_service.gateway.stripe import StripeGateway
from payment_service.gateway.ways import Ways, breaker_policy, ways_to_stripe
from payment_service.metrics import Metrics
from payment_service.payments.answers import Answers
from payment_service.payments.asking import Asking
from payment_service.payments.establishing import Establishing
from payment_service.payments.lifecycle import Lifecycle
from payment_service.payments.notifying import Notifying, capped_backoff
from payment_service.payments.reading import Reading
from payment_service.payments.refunding import Refunding
from payment_service.payments.replays import Replays
from payment_service.payments.switchboard import Switchboard
from payment_service.settings import PaymentSettings
from payment_service.store import audit
from payment_service.store.tables import flag_overrides
from payment_service.webhooks.inbox import Inbox
from payment_service.webhooks.processing import Processing, ProcessingLimits
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
from shared.telemetry import fastapi_telemetry, metrics_router, tracer_provider
from shared.ticker import Background

MIGRATIONS = "payment_service.store.migrations"


_ROUTERS = (
    payments.router,
    stripe_webhook.router,
    webhook_events.router,
    admin.router,
    breaker.router,
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

    settings: PaymentSettings
    database: Database
    flags: Flags
    gateway: StripeGateway
    reservations: httpx.AsyncClient
    background: Background
    health: Health
    tracing: TracerProvider

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Start the background work; on the way out, let what runs come to rest and close everything."""
        await self.flags.refresh(self.database)
        self.background.start()
        _settle_heap()
        self.health.started = True
        yield
        self.health.draining = True
        await self.background.stop(timeout_s=self.settings.shutdown_grace_s / 2)
        await self.reservations.aclose()
        await self.gateway.close()
        await self.database.close()
        self.tracing.shutdown()


def create_app(
    settings: PaymentSettings,
    *,
    clock: Clock | None = None,
    stripe_transport: httpx.AsyncBaseTransport | None = None,
    reservations_transport: httpx.AsyncBaseTransport | None = None,
    environment: Mapping[str, str] | None = None,
) -> FastAPI:
    """Wire the service. The transports replace the network in tests, `environment` that of flags."""
    clock = clock or SystemClock()
    log_retries_without_arguments()
    database = Database.connect(
        settings.payment_database_url.get_secret_value(),
        application_name="payment_service",
        pool_size=settings.database_pool_size,
        pool_timeout_s=settings.database_pool_timeout_s,
    )
    metrics = Metrics(CollectorRegistry())
    metrics.watch_pool(database)
    flags = Flags(FLAGS, flag_overrides, environment)
    tracing = tracer_provider("payment_service", settings)
    gateway = _gateway(settings, stripe_transport)
    nudges = Nudges()
    switchboard = Switchboard(
        database,
        breaker_policy(settings),
        clock=clock,
        enabled=partial(flags.is_on, CIRCUIT_BREAKER),
        watch=metrics,
        nudge=nudges.breakers,
    )
    retries_enabled = partial(flags.is_on, PAYMENT_RETRIES)
    ways = ways_to_stripe(
        settings, gateway, switchboard.breakers, clock=clock, retries_enabled=retries_enabled, watch=metrics
    )
    http = _reservations_http(settings, reservations_transport, tracing)
    processing = _processing(settings, database, ways.background, metrics, nudges)
    notifying = _notifying(settings, database, http, clock, flags, metrics)
    health = Health({"database": database.ping}, redis_check(settings.redis_url))
    table = jobs(settings, database, flags, metrics, processing, notifying, switchboard)
    background = Background(table, clock, metrics.ticked)
    nudges.connect(background)
    house = _House(settings, database, flags, gateway, http, background, health, tracing)

    app = _describe(FastAPI(lifespan=house.lifespan, telemetry=fastapi_telemetry(tracing), **_DESCRIPTION))
    add_api_docs(app)
    app.include_router(health_router(health))
    app.include_router(metrics_router(metrics.registry))
    limits = {stripe_webhook.PATH: stripe_webhook.BODY_LIMIT_BYTES}
    app.add_middleware(HttpEdge, metric=metrics.requests, body_limits=limits)
    app.state.parts = _parts(settings, database, clock, flags, ways, switchboard, processing, metrics, nudges)
    return app


def openapi_document() -> dict[str, Any]:
    """Return the description of the API, without needing a database or an environment."""
    return _describe(FastAPI(**_DESCRIPTION)).openapi()


def _describe(app: FastAPI) -> FastAPI:
    install_problem_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app


def _settle_heap() -> None:
    """Take what start-up made out of the collector's sight: its pauses are the p99 otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _gateway(settings: PaymentSettings, transport: httpx.AsyncBaseTransport | None) -> StripeGateway:
    return StripeGateway.connect(
        settings.stripe_secret_key,
        api_base=settings.stripe_api_base,
        timeout_s=settings.stripe_timeout_s,
        connect_timeout_s=settings.stripe_connect_timeout_s,
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


def _processing(
    settings: PaymentSettings,
    database: Database,
    provider: GuardedGateway,
    metrics: Metrics,
    nudges: Nudges,
) -> Processing:
    limits = ProcessingLimits(
        batch=settings.webhook_batch_size,
        lease_s=settings.webhook_lease_seconds,
        budget_s=settings.background_budget_s,
        max_attempts=settings.webhook_max_attempts,
        weather_max_age_s=settings.webhook_weather_max_age_h * 3600,
        livemode=settings.livemode,
    )
    backoff = capped_backoff(settings.webhook_backoff_first_s, settings.webhook_backoff_max_s)
    return Processing(database, provider, metrics, limits, backoff=backoff, nudge_news=nudges.news)


def _notifying(
    settings: PaymentSettings,
    database: Database,
    http: httpx.AsyncClient,
    clock: Clock,
    flags: Flags,
    metrics: Metrics,
) -> Notifying:
    seal = InternalSeal(
        InternalSigner(settings.internal_signing_keys, tag=TO_RESERVATION_SERVICE, clock=clock),
        bearer=settings.internal_bearer_secret,
        signed=lambda: flags.is_on(SIGNED_INTERNAL_CALLS),
    )
    return Notifying(
        database,
        ReservationsClient(http, seal),
        metrics,
        batch=settings.outbox_batch_size,
        lease_s=settings.outbox_lease_seconds,
        backoff=capped_backoff(settings.outbox_backoff_first_s, settings.outbox_backoff_max_s),
    )


def _parts(
    settings: PaymentSettings,
    database: Database,
    clock: Clock,
    flags: Flags,
    ways: Ways,
    switchboard: Switchboard,
    processing: Processing,
    metrics: Metrics,
    nudges: Nudges,
) -> Parts:
    answers = Answers(settings.stripe_publishable_key)
    asking = Asking(database, ways.background, nudge=nudges.news)
    trusted_h, budget_s = settings.stripe_key_trusted_h, settings.gateway_budget_s
    return Parts(
        database=database,
        clock=clock,
        flags=flags,
        tokens=TokenVerifier(settings),
        internal=InternalDoor(
            InternalSigner(settings.internal_signing_keys, tag=TO_PAYMENT_SERVICE, clock=clock),
            bearer=settings.internal_bearer_secret,
            signed_only=lambda: flags.is_on(SIGNED_INTERNAL_CALLS),
        ),
        lifecycle=Lifecycle(
            database,
            ways.interactive,
            answers,
            establishing=Establishing(database, ways.interactive, key_trusted_h=trusted_h),
            asking=asking,
            budget_s=budget_s,
            nudge=nudges.news,
        ),
        refunding=Refunding(
            database, ways.background, answers, key_trusted_h=trusted_h, budget_s=budget_s, nudge=nudges.news
        ),
        reading=Reading(
            database,
            ways.background,
            answers,
            asking,
            interval_s=settings.refresh_interval_s,
            budget_s=settings.refresh_budget_s,
        ),
        replays=Replays(database, answers, metrics, lease_s=settings.idempotency_lease_s),
        inbox=Inbox(
            database,
            processing,
            metrics,
            secrets=[secret.get_secret_value() for secret in settings.stripe_webhook_secrets],
            tolerance_s=settings.webhook_tolerance_s,
            clock=clock,
            inline=lambda: not flags.is_on(WEBHOOK_INBOX),
            nudge=nudges.webhooks,
        ),
        switchboard=switchboard,
        nudge_webhooks=nudges.webhooks,
    )
