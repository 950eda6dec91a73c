"""Tables as `store/tables.py` declares them: columns with their defaults, keys, and every constraint that can be checked.

A CHECK is translated word by word from the SQL that PostgreSQL gets; NULL makes it neither true nor false, and passes.
"""

import re
from collections.abc import Callable, Iterator, Mapping
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


class Condition:
    """A condition on one row; `columns` are those that it looks at."""

    def __init__(self, sql: str) -> None:
        """Turn SQL into Python. Raises SyntaxError for what has no such form."""
        python = " ".join(sql.split())
        for pattern, replacement in _WORDS:
            python = re.sub(pattern, replacement, python)
        self.columns = frozenset(compile(python, f"<{sql}>", "eval").co_names) - {"upper", "one_of"}
        self._tells = eval(f"lambda {', '.join(sorted(self.columns))}: {python}", _GLOBALS)  # noqa: S307
        self._names = sorted(self.columns)

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a row satisfies it; NULL in an arithmetic comparison satisfies it."""
        try:
            return self._tells(*[row[name] for name in self._names]) is not False
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
        self.only: Condition | None = None


class Index:
    """Only a unique one has a say here."""

    def __init__(self, name: str, *columns: Any, unique: bool = False, **options: Any) -> None:
        self.name = name
        self.columns = tuple(column for column in columns if isinstance(column, str))
        self.unique = unique and len(self.columns) == len(columns)
        where = options.get("postgresql_where")
        self.only = Condition(where.sql) if unique and isinstance(where, Text) else None


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
        return Next(self.name)


class Next(Expr):
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
        self.checks = [(item.name, Condition(item.sql)) for item in items if isinstance(item, CheckConstraint)]
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
        self.touches = {unique: frozenset(unique.columns) | _columns_of(unique.only) for unique in self.uniques}
        self._blank = {name: _constant(column) for name, column in self.columns.items()}
        self._made = [(name, made) for name, column in self.columns.items() if (made := _made(column))]
        metadata.tables[name] = self

    def blank(self, store: Any) -> Row:
        """Return a row of defaults."""
        row = dict(self._blank)
        for name, made in self._made:
            row[name] = made(store)
        return row

    def key_of(self, row: Row) -> Any:
        key = self.primary_key
        return row[key[0]] if len(key) == 1 else tuple([row[name] for name in key])


def light_table(name: str, *columns: Column) -> Table:
    """Return a table that is only named, as SQLAlchemy's `table()` does; its first column is its key."""
    found = Table(name, MetaData(), *columns)
    found.primary_key = (columns[0].name,)
    return found


def _type(column: Column) -> str:
    kind = column.type
    return kind.__name__ if isinstance(kind, type) else type(kind).__name__


def _columns_of(condition: Condition | None) -> frozenset[str]:
    return frozenset() if condition is None else condition.columns


def _made(column: Column) -> Callable[[Any], Any] | None:
    """Return what makes a column's default anew for each row, if it is no constant."""
    default = column.server_default
    if column.identity:
        return lambda store: store.next_number(f"{column.table.name}.{column.name}")
    if isinstance(default, Expr) and not isinstance(default, Literal | Text):
        return lambda store: store.now()
    return None


def _constant(column: Column) -> Any:
    """Return the value that a column has when nobody gives it one."""
    default, kind = column.server_default, _type(column)
    if default is None or (isinstance(default, Expr) and not isinstance(default, Literal | Text)):
        return None
    text = str(default.sql if isinstance(default, Text) else default)
    if kind in {"Integer", "BigInteger", "SmallInteger"}:
        return int(text)
    if kind == "Boolean":
        return text == "true"
    return orjson.loads(text.strip("'")) if kind == "JSONB" else text
