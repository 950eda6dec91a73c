"""What runs past SQLAlchemy, on the asyncpg connection below the one that its pool has lent (decision 0026).

Statements that run for every request are put together once, when the module is read, and handed to the driver as they
are: to build one anew, to find it among those that were compiled, and to wrap what comes back costs more than PostgreSQL
takes to run it. What runs seldom stays with SQLAlchemy. So that both stand in one transaction, SQLAlchemy's connections
are in autocommit, and what begins and ends a transaction is here.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import asyncpg
import orjson
from sqlalchemy import Insert
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.expression import ClauseElement

READ_COMMITTED = "BEGIN"
ONE_MOMENT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""Every statement sees what was there at the first one, and none may write."""

ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that asyncpg raises by itself; silence is a TimeoutError."""

_LEFT = "statements_left"


class NotCommitted(RuntimeError):
    """A bug: an error of PostgreSQL's was swallowed inside a transaction, so its commit kept nothing."""


class Begun:
    """A transaction: committed on leaving, and undone when an error leaves it.

    Whatever happens, no open transaction goes back to the pool: what cannot be rolled back at once is closed.
    """

    def __init__(self, connection: AsyncConnection, begin: str = READ_COMMITTED) -> None:
        self._connection = connection
        self._begin = begin
        self._driver = _driver_of(connection)

    async def __aenter__(self) -> AsyncConnection:
        try:
            await self._driver.execute(self._begin)
        except BaseException:
            await _give_up(self._connection)
            raise
        return self._connection

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None:
            await self._undo(error)
            return
        try:
            said = await self._driver.execute("COMMIT")
        except BaseException as trouble:
            await self._undo(trouble)
            raise
        if said != "COMMIT":
            raise NotCommitted(said)

    async def _undo(self, error: BaseException) -> None:
        if await gave_up(self._connection, error):
            return
        try:
            await self._driver.execute("ROLLBACK")
        except BaseException:
            await _give_up(self._connection)
            raise


async def gave_up(connection: AsyncConnection, error: BaseException) -> bool:
    """Close a connection for good if this error leaves it unfit for anybody else; tell whether it did.

    It is when it is lost, when its server is silent, and when its user was cancelled, perhaps in mid-statement. The
    driver stumbles over a server that has said good-bye while nothing was asked: its InternalClientError.
    """
    interrupted = not isinstance(error, Exception)
    interrupted |= isinstance(error, TimeoutError | OSError | asyncpg.InternalClientError)
    if not (interrupted or is_closed(connection)):
        return False
    await _give_up(connection)
    return True


async def _give_up(connection: AsyncConnection) -> None:
    if not connection.invalidated:
        await connection.invalidate()


@contextmanager
def one_statement(connection: AsyncConnection) -> Iterator[None]:
    """Let one prepared statement run here, which is its own transaction; a second one is a bug, and raises."""
    left = _info(connection)
    left[_LEFT] = 1
    try:
        yield
    finally:
        left.pop(_LEFT, None)


async def _fetch(connection: AsyncConnection, query: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
    """Run a statement and return its rows."""
    rows: list[asyncpg.Record] = await _next(connection).fetch(query, *arguments)
    return rows


async def _execute(connection: AsyncConnection, query: str, arguments: Sequence[Any]) -> int:
    """Run a statement and return how many rows it has touched."""
    said: str = await _next(connection).execute(query, *arguments)
    return int(said.rpartition(" ")[2])


def refuse_closed(pooled: Any, _record: Any, _fairy: Any) -> None:
    """Have the pool open another connection for one that the server has closed while it lay idle."""
    if pooled.driver_connection.is_closed():
        raise DisconnectionError


def is_closed(connection: AsyncConnection) -> bool:
    """Tell whether the server, or we, have closed the connection below this one."""
    return connection.invalidated or bool(_driver_of(connection).is_closed())


def _next(connection: AsyncConnection) -> Any:
    info = _info(connection)
    if _LEFT in info:
        info[_LEFT] -= 1
        if info[_LEFT] < 0:
            raise RuntimeError("a transaction of one statement was given a second one")
    return _driver_of(connection)


def _info(connection: AsyncConnection) -> dict[Any, Any]:
    return connection.sync_connection.info  # type: ignore[union-attr]  # only an engine's that never connected is None


def _driver_of(connection: AsyncConnection) -> Any:
    return connection.sync_connection.connection.driver_connection  # type: ignore[union-attr]


def json_text(value: Any) -> str:
    """Write a value as the JSON that goes to the database."""
    return orjson.dumps(value).decode()


_DIALECT = asyncpg_dialect(json_serializer=json_text)  # type: ignore[no-untyped-call]
_PUT_IN_LATER = "__[POSTCOMPILE"


class Prepared:
    """One statement with its places for values, which every call names. Rows are dictionaries, as asyncpg decodes them."""

    def __init__(self, statement: ClauseElement) -> None:
        """Compile it. Raises ValueError for a list whose length changes its text: say `= ANY(...)`."""
        if isinstance(statement, Insert):
            statement = statement.inline()  # it returns what it says, and no key of its own accord
        compiled: Any = statement.compile(dialect=_DIALECT)
        self.sql: str = compiled.string
        if _PUT_IN_LATER in self.sql:
            raise ValueError(f"the text of this statement depends on its values: {self.sql}")
        self._places = tuple(_Place(compiled.binds[name], name) for name in compiled.positiontup or ())
        self._wanted = frozenset(place.name for place in self._places if place.is_open)

    async def rows(self, connection: AsyncConnection, **values: Any) -> list[dict[str, Any]]:
        """Run it and return all rows."""
        return [dict(row) for row in await _fetch(connection, self.sql, self._arguments(values))]

    async def row(self, connection: AsyncConnection, **values: Any) -> dict[str, Any] | None:
        """Run it and return its one row; None when there is none."""
        found = await _fetch(connection, self.sql, self._arguments(values))
        if len(found) > 1:
            raise LookupError(f"one row was asked for, and {len(found)} came")
        return dict(found[0]) if found else None

    async def one(self, connection: AsyncConnection, **values: Any) -> dict[str, Any]:
        """Run it and return its one row, which must be there."""
        found = await self.row(connection, **values)
        if found is None:
            raise LookupError("one row was asked for, and none came")
        return found

    async def value(self, connection: AsyncConnection, **values: Any) -> Any:
        """Run it and return the first column of its one row; None when there is none."""
        found = await self.row(connection, **values)
        return None if found is None else next(iter(found.values()))

    async def count(self, connection: AsyncConnection, **values: Any) -> int:
        """Run it and return how many rows it has touched."""
        return await _execute(connection, self.sql, self._arguments(values))

    def _arguments(self, values: Mapping[str, Any]) -> list[Any]:
        if values.keys() != self._wanted:
            raise TypeError(f"this statement takes {sorted(self._wanted)}, not {sorted(values)}: {self.sql}")
        return [place.filled(values) for place in self._places]


class _Place:
    """A `$n` of a statement: open for a value of this name, or filled with a constant for good."""

    def __init__(self, bind: Any, name: str) -> None:
        self.name = bind.key if bind.required else name
        self.is_open = bool(bind.required)
        self._process = bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
        self._constant = None if self.is_open else self._processed(bind.effective_value)

    def filled(self, values: Mapping[str, Any]) -> Any:
        return self._processed(values[self.name]) if self.is_open else self._constant

    def _processed(self, value: Any) -> Any:
        return self._process(value) if self._process else value
