"""One connection, kept for the life of the process, on which many holds are taken in one round trip and one commit.

asyncpg's `fetchmany` pipelines the one-hold statement: N holds, each with its own answer, sequential semantics, one
durable transaction. A hot slot is a queue behind one row lock, so one connection per process reaches what many cannot.
"""

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from reservation_service.store.slots import HOLD_SQL, NewHold, statement_values
from shared.database import Conflict, Database, DatabaseAway, Row

_LOCK_TIMEOUT_MS = 100
# PostgreSQL keeps a plan until statistics are made anew, a minute apart at best. One for an empty table reads it from end
# to end, and on the first day of a sale a minute is forty thousand holds.
PLANNED_FOR = 1000
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_AWAY = (
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    OSError,
    TimeoutError,
)


class Blocked(Exception):
    """Somebody keeps a slot locked; nothing of the batch was done."""


def _positional(sql: str) -> tuple[str, tuple[str, ...]]:
    """Turn `:name` parameters into `$n`, and say which name stands at which place."""
    names = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
    return _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", sql), names


_SQL, _NAMES = _positional(HOLD_SQL)


class HoldLane:
    """Runs batches of holds; reconnects by itself after trouble."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lent: AsyncConnection | None = None
        self._statement: Any = None
        self._planned_for = 0

    async def take(self, batch: Sequence[NewHold], *, timeout_s: float) -> Sequence[Row]:
        """Take seats for all of `batch`, which is sorted by slot; one row each, as `slots.take_seats` gives it.

        Raises Conflict (a key was taken meanwhile), Blocked (a slot's lock was not to be had in 100 ms): nothing was
        done then. Raises DatabaseAway when the connection broke: then only reading the keys again can tell.
        """
        try:
            statement = self._statement or await self._connect()
            arguments = [[values[name] for name in _NAMES] for values in map(statement_values, batch)]
            await self._plan_anew_after(len(batch), timeout_s=timeout_s)
            rows: Sequence[Row] = await statement.fetchmany(arguments, timeout=timeout_s)
        except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError) as error:
            raise Conflict from error
        except asyncpg.LockNotAvailableError as error:
            raise Blocked from error
        except _AWAY as error:
            await self.close()
            raise DatabaseAway(type(error).__name__) from error
        return rows

    async def locked_slots(self, slot_ids: Sequence[UUID], *, timeout_s: float) -> set[UUID]:
        """Return which of these slots are locked by somebody right now."""
        if self._lent is None:
            await self._connect()
        try:
            raw = await self._raw()
            free = await raw.fetch(
                "SELECT id FROM time_slots WHERE id = ANY($1) FOR UPDATE SKIP LOCKED", list(slot_ids), timeout=timeout_s
            )
        except _AWAY as error:
            await self.close()
            raise DatabaseAway(type(error).__name__) from error
        return set(slot_ids) - {row["id"] for row in free}

    async def close(self) -> None:
        """Give the connection up; the next batch opens another one."""
        lent, self._lent, self._statement = self._lent, None, None
        if lent is not None:
            await lent.invalidate()
            await lent.close()

    async def _plan_anew_after(self, holds: int, *, timeout_s: float) -> None:
        """Let a plan serve so many holds only."""
        if self._planned_for <= 0:
            raw = await self._raw()
            await raw.execute("DISCARD PLANS", timeout=timeout_s)
            self._planned_for = PLANNED_FOR
        self._planned_for -= holds

    async def _connect(self) -> Any:
        self._lent = await self._database.lend()
        raw = await self._raw()
        await raw.execute(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}")
        self._statement, self._planned_for = await raw.prepare(_SQL), PLANNED_FOR
        return self._statement

    async def _raw(self) -> Any:
        if self._lent is None:
            raise DatabaseAway("not connected")
        return (await self._lent.get_raw_connection()).driver_connection
