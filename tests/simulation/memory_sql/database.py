"""A database in memory: rows by primary key, constraints that are checked on each write, transactions that roll back.

Transactions run one after the other, because nothing inside one of ours ever waits for anything else (a rule of the
house); a second one that begins meanwhile is an error of whoever let that happen. Rows are replaced, never altered, so
whoever has read one keeps what was read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from tests.simulation.memory_sql import by_hand
from tests.simulation.memory_sql.expressions import Env, Expr
from tests.simulation.memory_sql.functions import Text
from tests.simulation.memory_sql.planning import planned
from tests.simulation.memory_sql.result import Result
from tests.simulation.memory_sql.schema import Row, Table, UniqueConstraint

UNIQUE, CHECK, REQUIRED, PARENT = "23505", "23514", "23502", "23503"

Change = tuple[Table, Row | None, Row | None]
"""A table, the row as it was, and as it is; None where there was, or is, none."""


class DBAPIError(Exception):
    """What SQLAlchemy makes of an error of the driver."""

    def __init__(self, state: str, what: str = "") -> None:
        super().__init__(state, what)
        self.orig = _Cause(state)
        self.connection_invalidated = False


class IntegrityError(DBAPIError):
    pass


class _Cause(Exception):
    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.sqlstate = state


_AS_IT_IS = frozenset({int, bool, UUID, datetime, type(None), dict, list, bytes, float})


class Store:
    """All rows of one service; it outlives every process."""

    def __init__(self, now: Callable[[], datetime], watch: Callable[[Sequence[Change]], None] | None = None) -> None:
        self.now = now
        self.commits = 0
        self.parameters: Any = None
        self.watch = watch
        self._tables: dict[Table, dict[Any, Row]] = defaultdict(dict)
        self._numbers: dict[str, int] = defaultdict(int)
        self._changes: list[Change] | None = None

    def rows(self, table: Table) -> dict[Any, Row]:
        return self._tables[table]

    def all(self, table: Table) -> list[Row]:
        return list(self._tables[table].values())

    def next_number(self, name: str) -> int:
        """Return the next number of a sequence; like PostgreSQL's, it is not given back by a rollback."""
        self._numbers[name] += 1
        return self._numbers[name]

    # writing

    def new_row(self, table: Table, values: dict[str, Any]) -> Row:
        row = table.blank(self)
        self._put(table, row, values, {})
        return row

    def _put(self, table: Table, row: Row, values: dict[str, Any], looked_at: dict[Any, Row]) -> None:
        """Put values into a row: plain ones as they are, what is to be computed by looking at other rows."""
        for name, value in values.items():
            if name not in row:
                raise NotImplementedError(f"{table.name}.{name}")
            plain = value.of(Env(looked_at, self)) if isinstance(value, Expr) else value
            row[name] = plain if type(plain) in _AS_IT_IS and name not in table.texts else _stored(table, name, plain)

    def add(self, table: Table, row: Row) -> Row:
        if self.conflict(table, row, None) is not None:
            raise IntegrityError(UNIQUE, table.name)
        self._check(table, row, row)
        for column, parent, key in table.parents:
            if row[column] is not None and not (key == "id" and row[column] in self._tables[table.neighbours[parent]]):
                raise IntegrityError(PARENT, f"{table.name}.{column}")
        self._tables[table][table.key_of(row)] = row
        self._note(table, None, row)
        return row

    def change(self, table: Table, row: Row, values: dict[str, Any]) -> Row:
        new = dict(row)
        self._put(table, new, values, {table: row})
        for unique, columns in table.touches.items():
            if not columns.isdisjoint(values):
                other = self._like(table, new, unique.columns, unique.only)
                if other is not None and other is not row:
                    raise IntegrityError(UNIQUE, f"{table.name} {unique.name}")
        self._check(table, new, values)
        self._tables[table][table.key_of(row)] = new
        self._note(table, row, new)
        return new

    def remove(self, table: Table, row: Row) -> None:
        del self._tables[table][table.key_of(row)]
        self._note(table, row, None)

    def conflict(self, table: Table, row: Row, on: tuple[str, ...] | None) -> Row | None:
        """Return a row that this one cannot stand beside: because of these columns, or of any unique ones."""
        if on is None or on == table.primary_key:
            other = self._tables[table].get(table.key_of(row))
            if other is not None:
                return other
        for unique in table.uniques:
            if on is None or on == unique.columns:
                other = self._like(table, row, unique.columns, unique.only)
                if other is not None:
                    return other
        return None

    def _like(self, table: Table, row: Row, columns: tuple[str, ...], only: Any) -> Row | None:
        if any([row[name] is None for name in columns]) or (only is not None and not only.holds(row)):  # noqa: C419
            return None
        first, wanted = columns[0], row[columns[0]]
        for other in self._tables[table].values():
            if (
                other[first] == wanted
                and other[table.primary_key[0]] != row[table.primary_key[0]]
                and all(other[name] == row[name] for name in columns)
                and (only is None or only.holds(other))
            ):
                return other
        return None

    def _check(self, table: Table, row: Row, written: dict[str, Any]) -> None:
        """Check what a row must be, as far as what was written into it has a say."""
        for name in table.required:
            if row[name] is None:
                raise IntegrityError(REQUIRED, f"{table.name}.{name}")
        for name, condition in table.checks:
            if not condition.columns.isdisjoint(written) and not condition.holds(row):
                raise IntegrityError(CHECK, name)

    # transactions

    def begin(self) -> None:
        if self._changes is not None:
            raise AssertionError("something waited inside a transaction")
        self._changes = []

    def roll_back(self) -> None:
        changes, self._changes = self._changes or [], None
        for table, old, new in reversed(changes):
            if old is None and new is not None:
                del self._tables[table][table.key_of(new)]
            elif old is not None:
                self._tables[table][table.key_of(old)] = old

    def commit(self) -> None:
        changes, self._changes = self._changes or [], None
        self.commits += 1
        if changes and self.watch:
            self.watch(changes)

    def _note(self, table: Table, old: Row | None, new: Row | None) -> None:
        if self._changes is None:
            self.begin()
            self._note(table, old, new)
            self.commit()
        else:
            self._changes.append((table, old, new))


def _stored(table: Table, name: str, value: Any) -> Any:
    """Give a value the type that it has when it is read again: words of an enumeration are plain text then."""
    if name in table.texts and value is not None and type(value) is not str:
        if not isinstance(value, str):
            raise DBAPIError("22P02", f"{table.name}.{name} is text")
        return str.__str__(value)
    return value


class Connection:
    """One connection; outside of a transaction each statement commits by itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.store = engine.store

    async def execution_options(self, **_options: Any) -> Connection:
        return self

    async def execute(self, statement: Any, parameters: Any = None) -> Result:
        self._engine.statements += 1
        if isinstance(statement, Text):
            return by_hand.run(self.store, statement.sql, parameters or {})
        run, literals = planned(statement)
        if run is not None:
            return run(self.store, literals, parameters)
        self.store.parameters = parameters
        result: Result = statement.run(self.store, parameters)
        return result

    def begin(self) -> _Begun:
        return _Begun(self._engine)

    @property
    def statements(self) -> int:
        return self._engine.statements

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Do the same without waiting for anything."""
        self.store.begin()
        try:
            yield
        except BaseException:
            self.store.roll_back()
            raise
        self._engine.on_commit(self.store)


class _Begun:
    """A transaction: committed on leaving, unless an error leaves it."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __aenter__(self) -> None:
        self._engine.store.begin()

    async def __aexit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if error is not None:
            self._engine.store.roll_back()
        else:
            self._engine.on_commit(self._engine.store)


class _Connecting:
    """The way to a connection."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __await__(self) -> Generator[Any, Any, Connection]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Connection:
        await self._engine.on_connect()
        return Connection(self._engine)

    async def __aexit__(self, *_error: object) -> None:
        pass


def _plainly(store: Store) -> None:
    store.commit()


async def _at_once() -> None:
    pass


class Engine:
    """The way of one process to a store. `on_connect` may wait or raise; `on_commit` commits, or loses its answer."""

    def __init__(
        self,
        store: Store,
        *,
        on_connect: Callable[[], Awaitable[None]] = _at_once,
        on_commit: Callable[[Store], None] = _plainly,
    ) -> None:
        self.store = store
        self.statements = 0
        self.on_connect = on_connect
        self.on_commit = on_commit

    def connect(self) -> _Connecting:
        return _Connecting(self)


__all__ = ["Change", "Connection", "DBAPIError", "Engine", "IntegrityError", "Store", "UniqueConstraint"]
