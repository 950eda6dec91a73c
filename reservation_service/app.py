"""The only place where the reservation service is wired."""

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

from reservation_service.api import (
    admin_bookings,
    admin_experiences,
    admin_slots,
    availability,
    discounts,
    experiences,
    guest_sessions,
    holds,
    payment_events,
    reservations,
    sagas,
    time_slots,
)
from reservation_service.api.client_address import ClientAddresses
from reservation_service.api.dependencies import Parts
from reservation_service.api.rate_limits import RateLimitDoor, RateLimits
from reservation_service.background import jobs
from reservation_service.booking.availability import SlotWatch
from reservation_service.booking.catalogue import Offers
from reservation_service.booking.group_admission import GroupAdmission, Patience
from reservation_service.booking.holds import Holds
from reservation_service.clients.fast_redis import FastRedis
from reservation_service.clients.payments import PaymentsClient
from reservation_service.clients.rate_counter import RateCounter
from reservation_service.clients.slot_lock import SlotLocks
from reservation_service.flags import DISTRIBUTED_LOCK, FLAGS, RATE_LIMITING, SIGNED_INTERNAL_CALLS
from reservation_service.metrics import Metrics
from reservation_service.saga.definition import Saga
from reservation_service.saga.desk import SagaDesk
from reservation_service.saga.engine import Engine
from reservation_service.saga.reservation_saga import reservation_saga
from reservation_service.saga.steps import Steps
from reservation_service.settings import ReservationSettings
from reservation_service.store import audit
from reservation_service.store.tables import flag_overrides
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

MIGRATIONS = "reservation_service.store.migrations"

_ROUTERS = (
    guest_sessions.router,
    experiences.router,
    time_slots.router,
    availability.router,
    holds.router,
    reservations.router,
    payment_events.router,
    admin_experiences.router,
    admin_slots.router,
    admin_bookings.router,
    sagas.router,
    discounts.router,
    operator_desk(audit.INVARIANTS),
)


@dataclass(frozen=True)
class _House:
    """What lives as long as the process, and in which order it is opened and closed."""

    settings: ReservationSettings
    database: Database
    flags: Flags
    http: httpx.AsyncClient
    engine: Engine
    group: GroupAdmission
    watch: SlotWatch
    redis: FastRedis
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
        self.watch.close()
        await self.background.stop(timeout_s=self.settings.shutdown_grace_s / 2)
        await self.engine.drain(timeout_s=self.settings.shutdown_grace_s / 2)
        await self.group.close()
        await self.redis.close()
        await self.http.aclose()
        await self.database.close()
        self.tracing.shutdown()


def create_app(
    settings: ReservationSettings,
    *,
    clock: Clock | None = None,
    payments_transport: httpx.AsyncBaseTransport | None = None,
    environment: Mapping[str, str] | None = None,
) -> FastAPI:
    """Wire the service. `payments_transport` replaces the network to payment_service, `environment` that of flags."""
    clock = clock or SystemClock()
    database = Database.connect(
        settings.reservation_database_url.get_secret_value(),
        application_name="reservation_service",
        pool_size=settings.database_pool_size,
        pool_timeout_s=settings.database_pool_timeout_s,
    )
    metrics = Metrics(CollectorRegistry())
    metrics.watch_pool(database)
    flags = Flags(FLAGS, flag_overrides, environment)
    tracing = tracer_provider("reservation_service", settings)
    http = _payments_http(settings, payments_transport, tracing)
    saga = _saga(settings, http, flags, clock)
    engine = Engine(database, saga, settings, metrics, clock)
    tokens = TokenVerifier(settings, settings.guest_token_secret.get_secret_value())
    redis = FastRedis(settings.redis_url, clock, budget_s=settings.redis_budget_ms / 1000)
    group = GroupAdmission(
        database,
        clock,
        _locks(settings, redis, metrics, flags, clock),
        metrics,
        Patience(settings.admission_queue_max, settings.admission_deadline_s, settings.admission_group_s),
    )
    watch = SlotWatch(database, settings, metrics, clock)
    health = Health({"database": database.ping}, redis_check(settings.redis_url))
    desk = SagaDesk(database, saga, engine, metrics)
    background = Background(jobs(settings, database, flags, engine, desk, metrics), clock, metrics.ticked)
    house = _House(settings, database, flags, http, engine, group, watch, redis, background, health, tracing)

    app = _describe(FastAPI(lifespan=house.lifespan, telemetry=fastapi_telemetry(tracing), **_DESCRIPTION))
    add_api_docs(app)
    app.include_router(health_router(health))
    app.include_router(metrics_router(metrics.registry))
    limits = RateLimits(settings, RateCounter(redis, metrics, clock), partial(flags.is_on, RATE_LIMITING), metrics)
    addresses = ClientAddresses(settings.trusted_proxies)
    routes = [route for router in _ROUTERS for route in router.routes]
    app.add_middleware(RateLimitDoor, limits=limits, tokens=tokens, addresses=addresses, routes=routes)
    app.add_middleware(HttpEdge, metric=metrics.requests)
    app.state.when_leaving = (watch.close,)
    app.state.parts = Parts(
        settings=settings,
        database=database,
        flags=flags,
        metrics=metrics,
        holds=Holds(database, settings, Offers(database, clock), group, metrics),
        watch=watch,
        engine=engine,
        saga_desk=desk,
        tokens=tokens,
        internal=InternalDoor(
            InternalSigner(settings.internal_signing_keys, tag=TO_RESERVATION_SERVICE, clock=clock),
            bearer=settings.internal_bearer_secret,
            signed_only=lambda: flags.is_on(SIGNED_INTERNAL_CALLS),
        ),
        clock=clock,
    )
    return app


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


def _locks(settings: ReservationSettings, redis: FastRedis, metrics: Metrics, flags: Flags, clock: Clock) -> SlotLocks:
    on = partial(flags.is_on, DISTRIBUTED_LOCK)
    return SlotLocks(redis, metrics, clock, ttl_ms=settings.slot_lock_ttl_ms, enabled=on)


def _saga(settings: ReservationSettings, http: httpx.AsyncClient, flags: Flags, clock: Clock) -> Saga:
    seal = InternalSeal(
        InternalSigner(settings.internal_signing_keys, tag=TO_PAYMENT_SERVICE, clock=clock),
        bearer=settings.internal_bearer_secret,
        signed=lambda: flags.is_on(SIGNED_INTERNAL_CALLS),
    )
    payments = PaymentsClient(http, seal, call_timeout_s=settings.internal_call_timeout_s)
    return reservation_saga(Steps(payments, async_payment_max_s=settings.async_payment_max_seconds))


def _settle_heap() -> None:
    """Take what start-up made out of the collector's sight: its pauses are the p99 otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


_DESCRIPTION: dict[str, Any] = {
    "title": "Holdfast reservation service",
    "version": "1",
    "summary": "Seats that are never sold twice, money that is never lost.",
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
