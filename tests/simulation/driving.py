"""Runs the jobs of a process: as often as in production, but not when there is nothing to find.

A driver looks at the store for the next instant at which a row falls due, and sleeps until then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from payment_service.states import UNSETTLED
from payment_service.store import tables as payment_tables
from reservation_service.store import tables as reservation_tables
from shared.problems import Weather
from shared.ticker import Job
from tests.simulation.memory_sql.database import Store
from tests.simulation.processes import Process


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

    def __init__(self, process: Process, job: Job, ground: Any) -> None:
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
