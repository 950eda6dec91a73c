"""Both services as processes: their real behaviours on a store in memory, and their real jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr

import payment_service.background
import payment_service.behaviours
import payment_service.flags
import reservation_service.background
import reservation_service.behaviours
import reservation_service.flags
import shared.database
from payment_service.clients.reservations import ReservationsClient
from payment_service.metrics import Metrics as PaymentMetrics
from payment_service.nudges import Nudges
from payment_service.settings import PaymentSettings
from reservation_service.clients.fast_redis import FastRedis
from reservation_service.clients.payments import PaymentsClient
from reservation_service.metrics import Metrics as ReservationMetrics
from reservation_service.settings import ReservationSettings
from shared.database import Database
from shared.flags import Snapshot
from shared.ticker import Job
from tests.simulation.driving import Driver
from tests.simulation.memory_sql.database import Engine, Store
from tests.simulation.processes import Process, pass_out
from tests.simulation.stripe_objects import WEBHOOK_SECRET
from tests.simulation.wire import NoSeal, Requests

_BOTH: dict[str, Any] = {"auth_jwt_secret": SecretStr("x" * 32), "internal_signing_keys": (("k", SecretStr("y" * 32)),)}
RESERVATION = ReservationSettings(
    **_BOTH, reservation_database_url=SecretStr("memory"), guest_token_secret=SecretStr("z" * 32), redis_url=""
)
PAYMENT = PaymentSettings(
    **_BOTH,
    payment_database_url=SecretStr("memory"),
    stripe_secret_key=SecretStr("sk_test_simulation"),
    stripe_publishable_key="pk_test_simulation",
    stripe_webhook_secrets=(SecretStr(WEBHOOK_SECRET),),
    redis_url="",
)


class _Uncounted:
    """Any metric of a process that nobody scrapes."""

    def _nothing(self, *_arguments: Any, **_named: Any) -> _Uncounted:
        return self

    labels = inc = dec = set = observe = set_function = clear = remove = _nothing


def _uncounted(metrics: Any) -> Any:
    """Return metrics that take in whatever they are told, and keep none of it."""
    for name, kept in vars(metrics).items():
        if isinstance(kept, MetricWrapperBase):
            setattr(metrics, name, _Uncounted())
    return metrics


_METRICS: dict[str, Any] = {
    "reservation": _uncounted(ReservationMetrics(CollectorRegistry())),
    "payment": _uncounted(PaymentMetrics(CollectorRegistry())),
}


async def _nowhere(_loan: Any) -> None:
    """What was lent goes back to no pool: here is none, and whoever is killed meanwhile shall not notice."""


shared.database._put_away = _nowhere  # type: ignore[assignment]

_RESERVATION_JOBS = frozenset({"sweep_expired_holds", "resume_sagas", "cancel_slots"})
_PAYMENT_JOBS = frozenset(
    {"process_webhooks", "deliver_news", "share_breakers", "compare_with_stripe", "ask_unsettled"}
)


class FixedFlags:
    """Flags as an operator left them, asked without a provider."""

    def __init__(self, declared: Any, off: frozenset[str]) -> None:
        self._on = {flag.name: flag.default and flag.name not in off for flag in declared}

    def is_on(self, name: str, _caller: str = "") -> bool:
        return self._on[name]

    def snapshot(self, caller: str) -> Snapshot:
        return Snapshot(self, caller)  # type: ignore[arg-type]

    async def refresh(self, _database: Any) -> int:
        return 0


@dataclass
class Ground:
    """What the processes of one service share."""

    service: str
    store: Store
    settings: Any
    flags: FixedFlags
    clock: Any
    wire: Any
    serve_other: Callable[[Any], Any]
    gateway: Any
    weather: Callable[[], bool]
    on_commit: Callable[[Store], None]
    on_bug: Callable[[BaseException], None]


def start(process: Process, ground: Ground) -> None:
    """Make the behaviours of a process, and let its jobs run."""

    async def on_connect() -> None:
        await pass_out()
        if ground.weather():
            raise TimeoutError

    database = Database(
        Engine(ground.store, on_connect=on_connect, on_commit=ground.on_commit),  # type: ignore[arg-type]
        ground.clock,
    )
    make = _reservation if ground.service == "reservation" else _payment
    process.work, jobs = make(ground, database, process)
    for job in jobs:
        process.drivers[job.name] = Driver(process, job, ground)


def _reservation(ground: Ground, database: Database, _process: Process) -> tuple[Any, list[Job]]:
    requests = Requests(ground.wire, ground.serve_other)
    work = reservation_service.behaviours.Behaviours(
        reservation_service.behaviours.Ground(
            settings=ground.settings,
            database=database,
            clock=ground.clock,
            flags=ground.flags,  # type: ignore[arg-type]
            metrics=_METRICS["reservation"],
            redis=FastRedis("", ground.clock, budget_s=0.03),
            payments=PaymentsClient(
                requests,  # type: ignore[arg-type]
                NoSeal(),  # type: ignore[arg-type]
                call_timeout_s=ground.settings.internal_call_timeout_s,
            ),
        )
    )
    jobs = reservation_service.background.jobs(work)
    return work, [job for job in jobs if job.name in _RESERVATION_JOBS]


def _payment(ground: Ground, database: Database, process: Process) -> tuple[Any, list[Job]]:
    requests = Requests(ground.wire, ground.serve_other)
    nudges = Nudges()
    work = payment_service.behaviours.Behaviours(
        payment_service.behaviours.Ground(
            settings=ground.settings,
            database=database,
            clock=ground.clock,
            flags=ground.flags,  # type: ignore[arg-type]
            metrics=_METRICS["payment"],
            gateway=ground.gateway,
            reservations=ReservationsClient(requests, NoSeal()),  # type: ignore[arg-type]
            nudges=nudges,
        )
    )
    nudges.connect(SimpleNamespace(nudge=lambda name: _nudge(process, name)))  # type: ignore[arg-type]
    jobs = payment_service.background.jobs(work)
    return work, [job for job in jobs if job.name in _PAYMENT_JOBS]


def _nudge(process: Process, name: str) -> None:
    if name in process.drivers:
        process.drivers[name].nudge()
