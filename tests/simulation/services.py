"""Both services as processes: their real behaviours on a store in memory, their real jobs, and a door for each.

Jobs run as often as in production, but not when there is nothing to find: a driver looks at the store for the next
instant at which a row falls due, and sleeps until then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry
from pydantic import SecretStr

import payment_service.background
import payment_service.behaviours
import payment_service.flags
import reservation_service.background
import reservation_service.behaviours
import reservation_service.flags
from payment_service.api import payments as payment_doors
from payment_service.clients.reservations import ReservationsClient
from payment_service.metrics import Metrics as PaymentMetrics
from payment_service.nudges import Nudges
from payment_service.settings import PaymentSettings
from payment_service.states import UNSETTLED
from payment_service.store import tables as payment_tables
from reservation_service.clients.fast_redis import FastRedis
from reservation_service.clients.payments import PaymentsClient
from reservation_service.metrics import Metrics as ReservationMetrics
from reservation_service.settings import ReservationSettings
from reservation_service.store import tables as reservation_tables
from shared.database import Database
from shared.flags import Snapshot
from shared.payment_contract import (
    CancelPayment,
    CapturePayment,
    CreatePayment,
    PaymentEvent,
    PaymentEventReceipt,
    RefundPayment,
)
from shared.problems import Problem, Weather
from shared.ticker import Job
from tests.simulation.memory_sql.database import Engine, Store
from tests.simulation.processes import Process, pass_out
from tests.simulation.stripe_double import WEBHOOK_SECRET
from tests.simulation.wire import NoSeal, Requests, answer, refused

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
_METRICS = {"reservation": ReservationMetrics(CollectorRegistry()), "payment": PaymentMetrics(CollectorRegistry())}

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
            metrics=_METRICS["reservation"],  # type: ignore[arg-type]
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
            metrics=_METRICS["payment"],  # type: ignore[arg-type]
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


# when a job would find something


def _earliest(rows: Any) -> datetime | None:
    due = [max(row["due_at"], row["lease_until"] or row["due_at"]) for row in rows if row["due_at"] is not None]
    return min(due, default=None)


def _of_table(table: Any) -> Callable[[Store, Any], datetime | None]:
    return lambda store, _settings: _earliest(store.rows(table).values())


def _next_lapse(store: Store, _settings: Any) -> datetime | None:
    rows = store.rows(reservation_tables.reservations).values()
    return min((row["expires_at"] for row in rows if row["status"] == "held"), default=None)


def _next_unsettled(store: Store, settings: Any) -> datetime | None:
    rows = store.rows(payment_tables.payments).values()
    asked = [
        row["refreshed_at"] or row["created_at"] for row in rows if row["status"] in UNSETTLED and row["intent_id"]
    ]
    return min(asked) + timedelta(seconds=settings.reconcile_interval_seconds) if asked else None


def _next_comparison(store: Store, _settings: Any) -> datetime | None:
    passes = store.rows(payment_tables.reconciliation_passes).values()
    if not passes:
        return store.now()
    # Old history is not read for ever: only while there is money that may still move.
    return _earliest(passes) if store.rows(payment_tables.payments) else None


def _open_breaker(store: Store, _settings: Any) -> datetime | None:
    return (
        store.now() if any(row["state"] != "closed" for row in store.rows(payment_tables.breakers).values()) else None
    )


_NEXT: Mapping[str, Callable[[Store, Any], datetime | None]] = {
    "sweep_expired_holds": _next_lapse,
    "resume_sagas": _of_table(reservation_tables.sagas),
    "cancel_slots": _of_table(reservation_tables.slot_cancellations),
    "process_webhooks": _of_table(payment_tables.webhook_events),
    "deliver_news": _of_table(payment_tables.outbox),
    "share_breakers": _open_breaker,
    "compare_with_stripe": _next_comparison,
    "ask_unsettled": _next_unsettled,
}


class Driver:
    """Runs one job of one process: when a row falls due, when it is nudged, and never more often than its interval."""

    def __init__(self, process: Process, job: Job, ground: Ground) -> None:
        self._job = job
        self._ground = ground
        self._next = _NEXT[job.name]
        self._woken = asyncio.Event()
        self._nudged = False
        process.spawn(self._drive())

    def nudge(self) -> None:
        self._nudged = True
        self._woken.set()

    def look_again(self) -> None:
        """Somebody has written something: the next instant may be another one."""
        self._woken.set()

    async def _drive(self) -> None:
        loop, job = asyncio.get_running_loop(), self._job
        earliest_s = 0.0
        while True:
            self._woken.clear()
            wait_s = 0.0 if self._nudged else max(self._next_in_s(), earliest_s - loop.time())
            if wait_s > 0:
                try:
                    async with asyncio.timeout(None if math.isinf(wait_s) else wait_s):
                        await self._woken.wait()
                except TimeoutError:
                    pass
                else:
                    continue
            self._nudged = False
            handled = await self._run()
            earliest_s = loop.time() + (0.0 if handled >= job.batch else job.interval_s)

    def _next_in_s(self) -> float:
        due = self._next(self._ground.store, self._ground.settings)
        return math.inf if due is None else max(0.0, (due - self._ground.clock.now()).total_seconds() + 1e-5)

    async def _run(self) -> int:
        if not self._job.enabled():
            return 0
        try:
            return await self._job.run_once()
        except Weather:
            return 0
        except Exception as error:  # noqa: BLE001  the world is told
            self._ground.on_bug(error)
            return 0
        except BaseExceptionGroup as errors:
            _weather, others = errors.split(Weather)
            if others:
                raise
            return 0


# doors


async def serve_payment(work: Any, request: Any, on_bug: Callable[[BaseException], None]) -> Any:
    """Do what the internal door of payment_service does with a request, from its routes on."""
    parts = SimpleNamespace(
        lifecycle=work.lifecycle, refunding=work.refunding, reading=work.reading, replays=work.replays
    )
    key = request.headers.get("idempotency-key", "")
    try:
        told = await _route(parts, request, key)
        return answer(200, told.model_dump_json().encode())
    except (Problem, Weather) as error:
        return refused(error)
    except Exception as error:  # noqa: BLE001  a door answers 500; the world is told
        on_bug(error)
        return answer(500, b'{"code": "INTERNAL"}')


async def _route(parts: Any, request: Any, key: str) -> Any:
    path = request.url.removeprefix("/internal/v1/payments").strip("/")
    payment_id, _, verb = path.partition("/")
    if request.method == "GET":
        return await payment_doors.get_payment(parts, UUID(payment_id))
    body = request.content

    def door(name: str) -> Any:
        return SimpleNamespace(
            method="POST", url=SimpleNamespace(path=request.url), scope={"route": SimpleNamespace(name=name)}
        )

    match verb:
        case "":
            order = CreatePayment.model_validate_json(body)
            return await payment_doors.create_payment(door("create_payment"), parts, key, order)
        case "capture":
            return await payment_doors.capture_payment(
                door("capture_payment"), parts, key, UUID(payment_id), CapturePayment.model_validate_json(body)
            )
        case "cancel":
            return await payment_doors.cancel_payment(
                door("cancel_payment"), parts, key, UUID(payment_id), CancelPayment.model_validate_json(body)
            )
        case "refunds":
            return await payment_doors.refund_payment(
                door("refund_payment"), parts, key, UUID(payment_id), RefundPayment.model_validate_json(body)
            )
    raise NotImplementedError(request.url)


async def serve_reservation(work: Any, request: Any, on_bug: Callable[[BaseException], None]) -> Any:
    """Take in a payment event, as the internal door of reservation_service does."""
    try:
        applied = await work.engine.signal(PaymentEvent.model_validate_json(request.content))
        receipt = PaymentEventReceipt(result="applied" if applied else "ignored")
        return answer(200, receipt.model_dump_json().encode())
    except (Problem, Weather) as error:
        return refused(error)
    except Exception as error:  # noqa: BLE001  a door answers 500; the world is told
        on_bug(error)
        return answer(500, b'{"code": "INTERNAL"}')
