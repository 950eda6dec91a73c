"""Functions, casts, aggregates, and the words of SQL that stand as text in an expression."""

import hashlib
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from tests.simulation.memory_sql.expressions import And, Env, Expr, lit

# the same functions of plain values


def instant(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def epoch(value: Any) -> Any:
    """Return seconds: of an instant since 1970, of an interval as long as it is."""
    if value is None:
        return None
    return value.total_seconds() if isinstance(value, timedelta) else value.timestamp()


def interval(*parts: Any) -> timedelta:
    years, months, weeks, days, hours, minutes, seconds = [*parts, *([0] * (7 - len(parts)))]
    if years or months:
        raise NotImplementedError("intervals of months")
    return timedelta(days + 7 * weeks, seconds, 0, 0, minutes, hours)


def greatest(*values: Any) -> Any:
    return max((value for value in values if value is not None), default=None)


def least(*values: Any) -> Any:
    return min((value for value in values if value is not None), default=None)


def date_trunc(unit: str, value: datetime) -> datetime:
    if unit != "milliseconds":
        raise NotImplementedError("date_trunc of other units")
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


class Cast(Expr):
    __slots__ = ("inner", "is_instant")

    def __init__(self, inner: Any, kind: Any) -> None:
        self.inner = lit(inner)
        self.is_instant = type(kind).__name__ == "DateTime"

    def of(self, env: Env) -> Any:
        value = self.inner.of(env)
        return instant(value) if self.is_instant else value


class Extract(Expr):
    __slots__ = ("inner",)

    def __init__(self, field: str, inner: Any) -> None:
        if field != "epoch":
            raise NotImplementedError(f"extract {field}")
        self.inner = lit(inner)

    def of(self, env: Env) -> Any:
        return epoch(self.inner.of(env))


class Case(Expr):
    __slots__ = ("pairs", "rest")

    def __init__(self, *pairs: tuple[Any, Any], else_: Any = None) -> None:
        self.pairs = [(lit(condition), lit(value)) for condition, value in pairs]
        self.rest = lit(else_)

    def of(self, env: Env) -> Any:
        for condition, value in self.pairs:
            if condition.of(env):
                return value.of(env)
        return self.rest.of(env)


class Tuple(Expr):
    __slots__ = ("parts",)

    def __init__(self, *parts: Any) -> None:
        self.parts = tuple(lit(part) for part in parts)

    def of(self, env: Env) -> Any:
        return tuple(part.of(env) for part in self.parts)


_ONE_OF = re.compile(r"(\w+) IN \((.*)\)", re.DOTALL)


@cache
def _meaning(sql: str) -> tuple[str | None, Any]:
    """Return the column and the words that it may be, or the value that a literal has."""
    if listed := _ONE_OF.fullmatch(sql):
        return listed[1], frozenset(re.findall(r"'([^']*)'", listed[2]))
    if sql.startswith("'") and sql.endswith("'"):
        return None, sql[1:-1]
    return None, {"true": True, "false": False}.get(sql)


class Text(Expr):
    """Words of SQL: a literal, a list of a column's values, or a whole statement that is written out by hand."""

    __slots__ = ("column", "constant", "sql")

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.column, self.constant = _meaning(sql)

    def of(self, env: Env) -> Any:
        if self.column is not None:
            (row,) = env.rows.values()
            return row[self.column] in self.constant
        if self.constant is None:
            raise NotImplementedError(self.sql)
        return self.constant

    def bindparams(self, **_values: Any) -> "Text":
        return self

    def columns(self, *_columns: Any, **_types: Any) -> "Text":
        return self


def _coalesce(env: Env, *parts: Expr) -> Any:
    return next((value for part in parts if (value := part.of(env)) is not None), None)


def _now(env: Env) -> datetime:
    now: datetime = env.store.now()
    return now


def _array_position(env: Env, members: Expr, member: Expr) -> int | None:
    listed, wanted = members.of(env), member.of(env)
    return listed.index(wanted) + 1 if wanted in listed else None


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "clock_timestamp": _now,
    "now": _now,
    "array_position": _array_position,
    "coalesce": _coalesce,
    "greatest": lambda env, *parts: greatest(*(part.of(env) for part in parts)),
    "least": lambda env, *parts: least(*(part.of(env) for part in parts)),
    "make_interval": lambda env, *parts: interval(*(part.of(env) for part in parts)),
    "date_trunc": lambda env, *parts: date_trunc(*(part.of(env) for part in parts)),
    "extract": lambda env, _field, inner: Extract("epoch", inner).of(env),
    "lower": lambda env, inner: inner.of(env).lower(),
    "upper": lambda env, inner: inner.of(env).upper(),
    "left": lambda env, inner, n: inner.of(env)[: n.of(env)],
    "md5": lambda env, inner: hashlib.md5(inner.of(env).encode()).hexdigest(),  # noqa: S324  PostgreSQL's own
}
_AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": lambda values: sum(values) if values else None,
    "max": lambda values: max(values, default=None),
    "min": lambda values: min(values, default=None),
    "bool_or": lambda values: any(values) if values else None,
    "bool_and": lambda values: all(values) if values else None,
}


class Function(Expr):
    __slots__ = ("name", "parts", "way")

    def __init__(self, name: str, *parts: Any) -> None:
        self.name = name
        self.parts = tuple(lit(part) for part in parts)
        self.way = _FUNCTIONS.get(name)

    @property
    def aggregate(self) -> bool:  # type: ignore[override]
        return any(part.aggregate for part in self.parts)

    def of(self, env: Env) -> Any:
        if self.way is None:
            raise NotImplementedError(f"func.{self.name}")
        return self.way(env, *self.parts)


class Aggregate(Expr):
    """A function of all rows of a group; `count()` without an argument counts rows."""

    __slots__ = ("condition", "name", "part")
    aggregate = True

    def __init__(self, name: str, *parts: Any, condition: Expr | None = None) -> None:
        self.name = name
        self.part = lit(parts[0]) if parts else None
        self.condition = condition

    def filter(self, *conditions: Any) -> "Aggregate":
        return Aggregate(self.name, *([self.part] if self.part is not None else []), condition=And(*conditions))

    def of(self, env: Env) -> Any:
        if env.group is None:
            raise NotImplementedError("an aggregate outside of a select")
        counted = [one for one in env.group if self.condition is None or self.condition.of(one)]
        if self.part is None:
            return len(counted)
        part = self.part
        return _AGGREGATES[self.name]([value for one in counted if (value := part.of(one)) is not None])


class _Func:
    """`func.<name>(...)`; a function that nobody has written down here is an error only when it is evaluated."""

    def __getattr__(self, name: str) -> Callable[..., Expr]:
        if name in _AGGREGATES:
            return lambda *parts, **_more: Aggregate(name, *parts)
        return lambda *parts, **_more: Function(name, *parts)


func = _Func()
