"""Runs the jobs of a process: as often as in production, but not when there is nothing to find.

A driver looks at the store for the next instant at which a row falls due, and sleeps until then.
"""

from __future__ import annotations

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
    if not store.rows(payment_tables.payments):
        return None  # there is nothing to compare, and old history is not read for ever
    passes = store.rows(payment_tables.reconciliation_passes).values()
    return _earliest(passes) if passes else store.now()


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

_TOLD_BY_NO_ROW = frozenset(
    {"share_breakers"}
)  # what is to be shared is known to the process that nudges, and to no row


class Driver:
    """Runs one job of one process: when a row falls due, when it is nudged, and never more often than its interval."""

    def __init__(self, process: Process, job: Job, ground: Any) -> None:
        self._process = process
        self._job = job
        self._ground = ground
        self._next = _NEXT[job.name]
        self._enabled = job.enabled()
        self._is_running = False
        self._nudged = False
        self._earliest_s = 0.0
        self._timer: Any = None
        self._timer_at_s = math.inf
        self.look_again()

    def stop(self) -> None:
        self._enabled = False
        self._ring_at(math.inf)

    def nudge(self) -> None:
        self._nudged = True
        self.look_again()

    def look_again(self) -> None:
        """Somebody has written something: the next instant may be another one."""
        if self._enabled and not self._is_running:
            due_s = self._due_at_s()
            self._ring_at(due_s if self._nudged else max(due_s, self._earliest_s))

    def _due_at_s(self) -> float:
        clock = self._ground.clock
        now_s: float = clock.monotonic()
        if self._nudged and self._job.name in _TOLD_BY_NO_ROW:
            return now_s
        due = self._next(self._ground.store, self._ground.settings)
        if due is None:
            return math.inf
        return now_s + max(0.0, (due - clock.now()).total_seconds() + 1e-5)

    def _ring_at(self, at_s: float) -> None:
        if at_s != self._timer_at_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if math.isinf(at_s) else self._process.at(at_s, self._rings)
            self._timer_at_s = at_s

    def _rings(self) -> None:
        self._timer, self._timer_at_s = None, math.inf
        self._is_running = True
        self._process.spawn(self._drive())

    async def _drive(self) -> None:
        self._nudged = False
        handled = await self._run()
        more = handled >= self._job.batch
        self._earliest_s = self._ground.clock.monotonic() + (0.0 if more else self._job.interval_s)
        self._is_running = False
        self.look_again()

    async def _run(self) -> int:
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
