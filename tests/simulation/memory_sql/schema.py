"""Tables as `store/tables.py` declares them: columns with their defaults, keys, and every constraint that can be checked.

A CHECK is translated word by word from the SQL that PostgreSQL gets; NULL makes it neither true nor false, and passes.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any

import orjson

from tests.simulation.memory_sql.expressions import Column, Expr, Literal
from tests.simulation.memory_sql.functions import Text

Row = dict[str, Any]

_WORDS = (
    (r"\bIS NOT NULL\b", " is not None"),
    (r"\bIS NULL\b", " is None"),
    (r"<>", "!="),
    (r"(?<![<>!=])=(?!=)", "=="),
    (r"\bAND\b", "and"),
    (r"\bOR\b", "or"),
    (r"\bNOT\b", "not"),
    (r"\bIN\b", "in"),
    (r"(\w+) in \(([^()]*)\)", r"one_of(\1, (\2,))"),
    (r"(\w+) BETWEEN (\w+) and (\w+)", r"(\2 <= \1 <= \3)"),
)


def _one_of(value: Any, words: tuple[Any, ...]) -> bool | None:
    return None if value is None else value in words


_GLOBALS: dict[str, Any] = {"__builtins__": {"upper": str.upper, "one_of": _one_of}}


def translated(sql: str) -> CodeType:
    """Turn a condition of SQL on one row into Python. Raises SyntaxError for what has no such form."""
    python = " ".join(sql.split())
    for pattern, replacement in _WORDS:
        python = re.sub(pattern, replacement, python)
    return compile(python, f"<{sql}>", "eval")


def holds(condition: CodeType, row: Mapping[str, Any]) -> bool:
    """Tell whether a row satisfies a condition; NULL in an arithmetic comparison satisfies it."""
    try:
        return eval(condition, _GLOBALS, row) is not False  # noqa: S307
    except TypeError:
        return True


class Columns:
    """`table.c`: columns by attribute, by name, and in order."""

    def __init__(self, columns: Mapping[str, Expr]) -> None:
        self._columns = dict(columns)
        self.__dict__.update({name: column for name, column in columns.items() if name != "_columns"})

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._columns.values())

    def keys(self) -> list[str]:
        return list(self._columns)


class CheckConstraint:
    def __init__(self, sql: Any, name: str = "") -> None:
        self.sql = str(getattr(sql, "sql", sql))
        self.name = name


class UniqueConstraint:
    def __init__(self, *columns: str, name: str = "") -> None:
        self.columns = columns
        self.name = name
        self.only: CodeType | None = None


class Index:
    """Only a unique one has a say here."""

    def __init__(self, name: str, *columns: Any, unique: bool = False, **options: Any) -> None:
        self.name = name
        self.columns = tuple(column for column in columns if isinstance(column, str))
        self.unique = unique and len(self.columns) == len(columns)
        where = options.get("postgresql_where")
        self.only = translated(where.sql) if unique and isinstance(where, Text) else None


class Named:
    """What is told apart by name alone: types, foreign keys, identities."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments = arguments
        self.options = options


def named(name: str) -> type[Named]:
    return type(name, (Named,), {})


class Sequence(Expr):
    __slots__ = ("name",)

    def __init__(self, name: str, **_options: Any) -> None:
        self.name = name

    def next_value(self) -> Expr:
        return _Next(self.name)


class _Next(Expr):
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def of(self, env: Any) -> Any:
        return env.store.next_number(self.name)


class MetaData:
    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}


class Table:
    """A table's shape. Its rows are in a store, of which there may be many."""

    def __init__(self, name: str, metadata: MetaData, *items: Any, **_options: Any) -> None:
        self.name = name
        self.columns: dict[str, Column] = {}
        for item in items:
            if isinstance(item, Column):
                item.table = self
                self.columns[item.name] = item
        self.c = Columns(self.columns)
        self.primary_key = tuple(column.name for column in self.columns.values() if column.primary_key)
        self.checks = [(item.name, translated(item.sql)) for item in items if isinstance(item, CheckConstraint)]
        self.uniques = [
            item for item in items if isinstance(item, UniqueConstraint) or (isinstance(item, Index) and item.unique)
        ]
        self.required = tuple(column.name for column in self.columns.values() if not column.nullable)
        self.parents = [
            (column.name, *reference.arguments[0].split("."))
            for column in self.columns.values()
            for reference in column.what
            if type(reference).__name__ == "ForeignKey"
        ]
        self.texts = frozenset(name for name, column in self.columns.items() if _type(column) == "Text")
        self.numbers = frozenset(
            name for name, column in self.columns.items() if _type(column) in {"Integer", "BigInteger", "SmallInteger"}
        )
        self.booleans = frozenset(name for name, column in self.columns.items() if _type(column) == "Boolean")
        self.neighbours = metadata.tables
        self._defaults = {name: _default(column) for name, column in self.columns.items()}
        metadata.tables[name] = self

    def blank(self, store: Any) -> Row:
        """Return a row of defaults."""
        return {name: default(store) if default else None for name, default in self._defaults.items()}

    def key_of(self, row: Row) -> Any:
        if len(self.primary_key) == 1:
            return row[self.primary_key[0]]
        return tuple(row[name] for name in self.primary_key)


def light_table(name: str, *columns: Column) -> Table:
    """Return a table that is only named, as SQLAlchemy's `table()` does; its first column is its key."""
    found = Table(name, MetaData(), *columns)
    found.primary_key = (columns[0].name,)
    return found


def _type(column: Column) -> str:
    kind = column.type
    return kind.__name__ if isinstance(kind, type) else type(kind).__name__


def _default(column: Column) -> Callable[[Any], Any] | None:
    default, kind = column.server_default, _type(column)
    if column.identity:
        return lambda store: store.next_number(f"{column.table.name}.{column.name}")
    if default is None:
        return None
    if isinstance(default, Expr) and not isinstance(default, Literal | Text):
        return lambda store: store.now()
    text = str(default.sql if isinstance(default, Text) else default)
    value: Any = text
    if kind in {"Integer", "BigInteger", "SmallInteger"}:
        value = int(text)
    elif kind == "Boolean":
        value = text == "true"
    elif kind == "JSONB":
        value = orjson.loads(text.strip("'"))
    return lambda _store: value
