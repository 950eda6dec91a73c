"""Functions, casts, aggregates, and the words of SQL that stand as text in an expression."""

import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.memory_sql.expressions import And, Env, Expr, lit


class Cast(Expr):
    __slots__ = ("inner", "kind")

    def __init__(self, inner: Any, kind: Any) -> None:
        self.inner = lit(inner)
        self.kind = kind

    def of(self, env: Env) -> Any:
        value = self.inner.of(env)
        if isinstance(value, str) and type(self.kind).__name__ == "DateTime":
            return datetime.fromisoformat(value)
        return value


class Extract(Expr):
    __slots__ = ("inner",)

    def __init__(self, field: str, inner: Any) -> None:
        if field != "epoch":
            raise NotImplementedError(f"extract {field}")
        self.inner = lit(inner)

    def of(self, env: Env) -> Any:
        value = self.inner.of(env)
        if value is None:
            return None
        return value.total_seconds() if isinstance(value, timedelta) else value.timestamp()


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


class Text(Expr):
    """Words of SQL: a literal, a list of a column's values, or a whole statement that is written out by hand."""

    __slots__ = ("_column", "_values", "sql")

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._column: str | None = None
        self._values: Any = None
        if listed := _ONE_OF.fullmatch(sql):
            self._column = listed[1]
            self._values = frozenset(re.findall(r"'([^']*)'", listed[2]))
        elif sql.startswith("'") and sql.endswith("'"):
            self._values = sql[1:-1]
        elif sql in {"true", "false"}:
            self._values = sql == "true"

    def of(self, env: Env) -> Any:
        if self._column is not None:
            (row,) = env.rows.values()
            return row[self._column] in self._values
        if self._values is None:
            raise NotImplementedError(self.sql)
        return self._values

    def bindparams(self, **_values: Any) -> "Text":
        return self

    def columns(self, *_columns: Any, **_types: Any) -> "Text":
        return self


def _coalesce(env: Env, *parts: Expr) -> Any:
    return next((value for part in parts if (value := part.of(env)) is not None), None)


def _known(env: Env, parts: Iterable[Expr]) -> list[Any]:
    return [value for part in parts if (value := part.of(env)) is not None]


def _make_interval(env: Env, *parts: Expr) -> Any:
    years, months, weeks, days, hours, minutes, seconds = [*(part.of(env) for part in parts), *([0] * (7 - len(parts)))]
    if years or months:
        raise NotImplementedError("intervals of months")
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def _date_trunc(env: Env, unit: Expr, inner: Expr) -> Any:
    value: datetime = inner.of(env)
    if unit.of(env) != "milliseconds":
        raise NotImplementedError("date_trunc of other units")
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def _now(env: Env) -> datetime:
    now: datetime = env.store.now()
    return now


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "clock_timestamp": _now,
    "now": _now,
    "coalesce": _coalesce,
    "greatest": lambda env, *parts: max(_known(env, parts), default=None),
    "least": lambda env, *parts: min(_known(env, parts), default=None),
    "make_interval": _make_interval,
    "date_trunc": _date_trunc,
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
