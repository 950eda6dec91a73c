"""`select(...)` as `store/` writes it, run on the rows of a store.

Rows are compared in the order in which they were inserted, as a heap that nobody disturbs would give them. Locking
clauses say nothing here: transactions run one after the other.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from tests.simulation.memory_sql.expressions import And, Binary, Bind, Column, Descending, Env, Expr, Literal, lit
from tests.simulation.memory_sql.result import Result
from tests.simulation.memory_sql.schema import Columns, Row, Table


class Derived:
    """A subquery, a common table expression or an alias: a source with columns of its own."""

    def __init__(self, query: Select, name: str = "") -> None:
        self.query = query
        self.name = name
        columns = {}
        for part in query.outputs():
            column = Column(part.name)
            column.table = self
            columns[part.name] = column
        self.c = Columns(columns)

    def rows(self, env: Env) -> Iterable[Row]:
        return self.query.run(env.store, outer=env).dicts()


Source = Table | Derived


def _rows_of(source: Source, env: Env) -> Iterable[Row]:
    if isinstance(source, Table):
        return env.store.rows(source).values()
    return source.rows(env)


def conjuncts(conditions: Iterable[Any]) -> list[Expr]:
    found: list[Expr] = []
    for condition in conditions:
        if isinstance(condition, And):
            found.extend(conjuncts(condition.parts))
        else:
            found.append(lit(condition))
    return found


def narrowed(source: Source, conditions: list[Expr], env: Env) -> tuple[Iterable[Row], list[Expr]]:
    """Return the rows of a source that may fit, and the conditions that are still to be looked at."""
    if not isinstance(source, Table):
        return source.rows(env), conditions
    rows = env.store.rows(source)
    for condition in conditions:
        if (
            type(condition) is Binary
            and condition.sign is operator.eq
            and type(condition.left) is Column
            and condition.left.table is source
            and type(condition.right) in {Literal, Bind}
        ):
            name, value = condition.left.name, condition.right.of(env)
            left = [other for other in conditions if other is not condition]
            if source.primary_key == (name,):
                row = rows.get(value)
                return ([] if row is None else [row]), left
            return [row for row in rows.values() if row[name] == value], left
    return list(rows.values()), conditions


class Select:
    """`select(...)`; every method returns another one, so a statement that is made once may be built upon."""

    def __init__(self, *outputs: Any) -> None:
        self._outputs = outputs
        self._sources: tuple[Source, ...] = ()
        self._joins: tuple[tuple[Source, Expr | None, bool], ...] = ()
        self._where: tuple[Any, ...] = ()
        self._order: tuple[Expr, ...] = ()
        self._group: tuple[Expr, ...] | None = None
        self._having: tuple[Any, ...] = ()
        self._limit: Expr | None = None
        self._correlated: tuple[Any, ...] = ()
        self._distinct = False
        self.plan: Any = None

    def __class_getitem__(cls, _item: Any) -> type:
        return cls

    # building

    def _with(self, **changed: Any) -> Select:
        other = Select.__new__(Select)
        other.__dict__.update(self.__dict__, plan=None, **changed)
        return other

    def where(self, *conditions: Any) -> Select:
        return self._with(_where=self._where + conditions)

    filter = where

    def add_columns(self, *outputs: Any) -> Select:
        return self._with(_outputs=self._outputs + outputs)

    def select_from(self, *sources: Any) -> Select:
        return self._with(_sources=self._sources + sources)

    def join(self, source: Any, condition: Any = None, *, isouter: bool = False) -> Select:
        return self._with(_joins=(*self._joins, (source, condition, isouter)))

    def outerjoin(self, source: Any, condition: Any = None) -> Select:
        return self.join(source, condition, isouter=True)

    def order_by(self, *order: Any) -> Select:
        return self._with(_order=self._order + tuple(lit(one) for one in order))

    def group_by(self, *group: Any) -> Select:
        return self._with(_group=(self._group or ()) + group)

    def having(self, *conditions: Any) -> Select:
        return self._with(_having=self._having + conditions)

    def limit(self, limit: Any) -> Select:
        return self._with(_limit=lit(limit))

    def distinct(self) -> Select:
        return self._with(_distinct=True)

    def correlate(self, *sources: Any) -> Select:
        return self._with(_correlated=self._correlated + sources)

    def with_for_update(self, **_how: Any) -> Select:
        return self

    def cte(self, name: str = "", **_how: Any) -> Derived:
        return Derived(self, name)

    def subquery(self, name: str = "") -> Derived:
        return Derived(self, name)

    alias = subquery

    def scalar_subquery(self) -> Expr:
        return Scalar(self)

    def exists(self) -> Expr:
        return Exists(self)

    # running

    def outputs(self) -> list[Expr]:
        found: list[Expr] = []
        for output in self._outputs:
            if isinstance(output, Table | Derived):
                found.extend(output.c)
            else:
                found.append(lit(output))
        return found

    def _from(self, outputs: list[Expr]) -> Sequence[Source]:
        if self._sources:
            return self._sources
        whole = [output for output in self._outputs if isinstance(output, Table | Derived)]
        if whole:
            return whole  # whatever else is looked at is joined to it, or stands in a subquery
        joined = [source for source, _, _ in self._joins]
        found: list[Source] = []
        for expression in (*outputs, *conjuncts(self._where)):
            for source in _sources_in(expression):
                if source not in found and source not in joined and source not in self._correlated:
                    found.append(source)
        return found

    def run(self, store: Any, _parameters: Any = None, *, outer: Env | None = None) -> Result:
        outputs = [output if isinstance(output, Table | Derived) else lit(output) for output in self._outputs]
        plain = [output for output in outputs if isinstance(output, Expr)]
        envs = self._envs(store, plain, outer)
        if self._group is not None or any(output.aggregate for output in plain):
            envs = self._grouped(envs, store)
        if self._order:
            for by in reversed(self._order):
                envs.sort(key=lambda env, by=by: by.of(env), reverse=isinstance(by, Descending))  # type: ignore[misc]
        if self._limit is not None:
            envs = envs[: self._limit.of(Env({}, store))]
        if len(plain) < len(outputs):
            return Result.of_dicts([shown(outputs, env) for env in envs])
        rows = [[output.of(env) for output in plain] for env in envs]
        if self._distinct:
            rows = [row for place, row in enumerate(rows) if row not in rows[:place]]
        return Result([output.name for output in plain], rows)

    def _envs(self, store: Any, outputs: list[Expr], outer: Env | None) -> list[Env]:
        base = Env(dict(outer.rows) if outer else {}, store)
        sources = self._from(outputs)
        conditions = conjuncts(self._where)
        if len(sources) == 1 and not self._joins:
            (source,) = sources
            rows, conditions = narrowed(source, conditions, base)
            envs = [Env({**base.rows, source: row} if outer else {source: row}, store) for row in rows]
        else:
            envs = [base]
            for source in sources:
                envs = [Env({**env.rows, source: row}, store) for env in envs for row in _rows_of(source, env)]
            for source, condition, is_outer in self._joins:
                envs = _joined(envs, source, condition, is_outer=is_outer)
        for condition in conditions:
            envs = [env for env in envs if condition.of(env)]
        return envs

    def _grouped(self, envs: list[Env], store: Any) -> list[Env]:
        if self._group is None:
            return [Env(envs[0].rows if envs else {}, store, envs)]
        groups: dict[Any, list[Env]] = {}
        for env in envs:
            groups.setdefault(tuple(by.of(env) for by in self._group), []).append(env)
        grouped = [Env(members[0].rows, store, members) for members in groups.values()]
        return [env for env in grouped if And(*self._having).of(env)]

    def values_in(self, env: Env) -> list[Any]:
        """Return the values of the one column, for IN."""
        return self.run(env.store, outer=env).scalars().all()


def shown(outputs: list[Any], env: Env) -> Row:
    row: Row = {}
    for output in outputs:
        if isinstance(output, Expr):
            row[output.name] = output.of(env)
        else:
            row.update(env.rows[output])
    return row


def _joined(envs: list[Env], source: Source, condition: Expr | None, *, is_outer: bool) -> list[Env]:
    found = []
    for env in envs:
        matches = [Env({**env.rows, source: row}, env.store) for row in _rows_of(source, env)]
        matches = [match for match in matches if condition is None or condition.of(match)]
        if not matches and is_outer:
            matches = [Env({**env.rows, source: dict.fromkeys(source.c.keys())}, env.store)]
        found.extend(matches)
    return found


def _sources_in(expression: Any) -> Iterable[Source]:
    """Yield the sources whose columns an expression mentions, itself a plain tree of slots."""
    if isinstance(expression, Column):
        if expression.table is not None:
            yield expression.table
        return
    for slot in getattr(type(expression), "__slots__", ()):
        inner = getattr(expression, slot, None)
        if isinstance(inner, Expr):
            yield from _sources_in(inner)
        elif isinstance(inner, tuple):
            for part in inner:
                if isinstance(part, Expr):
                    yield from _sources_in(part)


class Scalar(Expr):
    __slots__ = ("query",)

    def __init__(self, query: Select) -> None:
        self.query = query

    def of(self, env: Env) -> Any:
        return self.query.run(env.store, outer=env).scalar_one_or_none()


class Exists(Scalar):
    __slots__ = ()

    def of(self, env: Env) -> Any:
        return bool(self.query.run(env.store, outer=env).rows)
