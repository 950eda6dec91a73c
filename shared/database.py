"""One engine per service: short named transactions, honest weather, and a pool that can be watched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
import orjson
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from shared.clock import Clock, SystemClock
from shared.crashpoints import crashpoint
from shared.prepared import ERRORS, ONE_MOMENT, Begun, gave_up, is_closed, json_text, one_statement, refuse_closed
from shared.problems import Weather

# SQLSTATE classes and codes that say "not now" rather than "never": connection trouble, admin shutdown, resources,
# lock timeout, cancelled statement, serialization failure, deadlock. Source: PostgreSQL manual, appendix A.
_WEATHER_CLASSES = ("08", "53", "57", "58")
_WEATHER_CODES = frozenset({"40001", "40P01", "55P03", "25P03", "25P04"})
_UNIQUE_VIOLATION = "23505"
_LOCK_TIMEOUT = "55P03"
_GAVE_WAY = frozenset({"40001", "40P01"})
_KEPT_S = 60.0

# The names by which behaviours speak of the database, so that only `store/` speaks SQL.
Connection = AsyncConnection


class Row(Protocol):
    """Anything that is asked by column name: a row of a result, or a dictionary that stands in for one."""

    def __getitem__(self, column: str, /) -> Any: ...


class DatabaseAway(Weather):
    """The database, or a connection to it, could not be had in time."""


class LockedOut(DatabaseAway):
    """Somebody else kept a lock for longer than we wait for one; nothing of this transaction was kept."""


class Overtaken(DatabaseAway):
    """PostgreSQL ended this transaction in favour of another (deadlock, serialization); it may run again at once."""


class Conflict(Exception):
    """Somebody else was faster with something that may exist only once; nothing of this transaction was kept."""


class PoolWatch(Protocol):
    """Who wants to know how long a request waited for a connection (seconds)."""

    def acquired(self, waited_s: float) -> None: ...


def sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's five-character code, or an empty string."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", "") or "")


def is_weather(error: BaseException) -> bool:
    """Tell whether an error of the database is trouble that passes, rather than a bug of ours."""
    if isinstance(error, DBAPIError | asyncpg.PostgresError):
        code, lost = sqlstate(error), isinstance(error, DBAPIError) and error.connection_invalidated
        # A migration has changed what a prepared statement gives back: it is prepared anew when it comes again.
        lost = lost or isinstance(error, asyncpg.InvalidCachedStatementError)
        return lost or code.startswith(_WEATHER_CLASSES) or code in _WEATHER_CODES
    return isinstance(error, PoolTimeoutError | TimeoutError | OSError)


def _weather(error: BaseException) -> DatabaseAway:
    code = sqlstate(error)
    kind = Overtaken if code in _GAVE_WAY else LockedOut if code == _LOCK_TIMEOUT else DatabaseAway
    return kind(type(error).__name__)


_TROUBLE = (DBAPIError, PoolTimeoutError, TimeoutError, OSError, *ERRORS)


@dataclass(frozen=True, eq=False)
class _Loan:
    """A connection that the pool has lent, and until when it may go round without the pool, which closes old ones."""

    connection: AsyncConnection
    until_s: float


class _Kept:
    """Connections between two users: the way through SQLAlchemy's pool costs more than most statements.

    The pool still opens them, bounds them and lets callers wait. Kept is only what has nothing of SQLAlchemy's on it, only
    for a while, and nothing while somebody waits at the pool.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._loans: list[_Loan] = []

    def __len__(self) -> int:
        return len(self._loans)

    async def take(self) -> _Loan:
        """Return a connection: the one that was used last, or the pool's."""
        while self._loans:
            loan = self._loans.pop()
            if self._is_fit(loan):
                return loan
            await _put_away(loan)
        return _Loan(await self._engine.connect(), self._clock.monotonic() + _KEPT_S)

    async def give_back(self, loan: _Loan, *, wanted: bool) -> None:
        """Take a connection back; `wanted` says that somebody waits at the pool."""
        if wanted or not self._is_fit(loan) or loan.connection.in_transaction():
            await _put_away(loan)
        else:
            self._loans.append(loan)

    async def close(self) -> None:
        """Give all of them back to the pool."""
        while self._loans:
            await _put_away(self._loans.pop())

    def _is_fit(self, loan: _Loan) -> bool:
        return self._clock.monotonic() < loan.until_s and not is_closed(loan.connection)


async def _put_away(loan: _Loan) -> None:
    """Give a connection to the pool, also when whoever does that is cancelled meanwhile."""
    await asyncio.shield(asyncio.create_task(_close(loan.connection)))


async def _close(connection: AsyncConnection) -> None:
    if is_closed(connection) and not connection.invalidated:
        await connection.invalidate()
    await connection.close()


class Database:
    """Hands out transactions. Nobody holds a connection across a call to another system (a house-rule test)."""

    def __init__(self, engine: AsyncEngine, clock: Clock | None = None) -> None:
        self.engine = engine
        self.waiting = 0
        self.watch: PoolWatch | None = None
        self._clock = clock or SystemClock()
        self._kept = _Kept(engine, self._clock)

    @classmethod
    def connect(cls, url: str, *, application_name: str, pool_size: int = 8, pool_timeout_s: float = 2.0) -> "Database":
        """Make the engine; no connection is opened yet. A statement may take 5 s, a lock 3 s."""
        engine = create_async_engine(
            url,
            isolation_level="AUTOCOMMIT",  # `shared.prepared` begins and ends transactions, for both kinds of statements
            skip_autocommit_rollback=True,
            json_serializer=json_text,
            json_deserializer=orjson.loads,
            hide_parameters=True,  # an error's text ends in logs, and parameters hold guests' data and secrets
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_s,
            pool_recycle=1800,
            connect_args={
                "timeout": 5,
                "command_timeout": 6,
                "max_cached_statement_lifetime": 0,  # what is prepared stays so for as long as its connection
                "server_settings": {
                    "application_name": application_name,
                    "statement_timeout": "5000",
                    "lock_timeout": "3000",
                    "idle_in_transaction_session_timeout": "10000",
                    "timezone": "UTC",
                    "jit": "off",
                },
            },
        )
        event.listen(engine.sync_engine, "checkout", refuse_closed)
        return cls(engine)

    @asynccontextmanager
    async def transaction(self, name: str, *, of_one_statement: bool = False) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits on leaving, with a crash point on either side of the commit.

        `name` is a literal: it names the crash points `<name>.before_commit` and `<name>.after_commit`. One statement
        (a prepared one) needs no BEGIN and no COMMIT: it is kept as a whole or not at all, and two trips are saved.
        Raises Conflict when a unique constraint was hit, and DatabaseAway when the database is not to be had or the
        outcome of the commit is not known: everything done in one of our transactions may safely be done again.
        """
        async with self._connection() as connection:
            if of_one_statement:
                crashpoint(f"{name}.before_commit")
                with one_statement(connection):
                    yield connection
            else:
                async with Begun(connection):
                    yield connection
                    crashpoint(f"{name}.before_commit")
            crashpoint(f"{name}.after_commit")

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in autocommit: each statement is its own snapshot, and nothing is left open."""
        async with self._connection() as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Lend a read-only connection whose statements all see one moment; for audits, which join many tables."""
        async with self._connection() as connection, Begun(connection, ONE_MOMENT):
            yield connection

    async def lend(self) -> AsyncConnection:
        """Lend a connection for good; the borrower closes it. Raises DatabaseAway."""
        self.waiting += 1
        try:
            return (await self._kept.take()).connection
        except _TROUBLE as error:
            raise DatabaseAway(type(error).__name__) from error
        finally:
            self.waiting -= 1

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        started = self._clock.monotonic()
        self.waiting += 1
        acquired = False
        try:
            loan = await self._kept.take()
            acquired = True
            self.waiting -= 1
            if self.watch:
                self.watch.acquired(self._clock.monotonic() - started)
            try:
                yield loan.connection
            except BaseException as error:
                if await gave_up(loan.connection, error) and isinstance(error, ERRORS):
                    raise DatabaseAway(type(error).__name__) from error
                raise
            finally:
                await self._kept.give_back(loan, wanted=self.waiting > 0)
        except _TROUBLE as error:
            if is_weather(error):
                raise _weather(error) from error
            if sqlstate(error) == _UNIQUE_VIOLATION:
                raise Conflict from error
            raise
        finally:
            if not acquired:
                self.waiting -= 1

    async def ping(self, timeout_s: float = 1.0) -> None:
        """Ask the database for a sign of life. Raises DatabaseAway."""
        try:
            async with asyncio.timeout(timeout_s), self.reading() as connection:
                await connection.execute(text("SELECT 1"))
        except TimeoutError as error:
            raise DatabaseAway("ping") from error

    async def oldest_transaction_s(self) -> float:
        """Return for how long somebody, whoever it is, has kept a transaction of this database open.

        Those of other roles are seen by members of pg_read_all_stats only.
        """
        async with self.reading() as connection:
            open_for = await connection.execute(
                text(
                    "SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        return max(float(open_for.scalar_one() or 0), 0.0)

    def pool_state(self) -> dict[str, int]:
        """Return how many connections are active and idle, and how many requests wait for one."""
        pool = self.engine.pool
        if not isinstance(pool, AsyncAdaptedQueuePool):
            return {"active": 0, "idle": 0, "waiting": self.waiting}
        kept = len(self._kept)
        return {"active": pool.checkedout() - kept, "idle": pool.checkedin() + kept, "waiting": self.waiting}

    async def close(self) -> None:
        await self._kept.close()
        await self.engine.dispose()
