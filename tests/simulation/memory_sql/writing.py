"""`insert`, `update` and `delete` as `store/` writes them, run on the rows of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tests.simulation.memory_sql.expressions import Column, Env, Expr
from tests.simulation.memory_sql.result import Result
from tests.simulation.memory_sql.schema import Row, Table
from tests.simulation.memory_sql.selecting import Select, conjuncts, narrowed, shown


class _Writing:
    """What insert, update and delete have in common."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.conditions: list[Any] = []
        self.outputs: list[Any] = []
        self.plan: Any = None

    def where(self, *conditions: Any) -> Any:
        self.plan = None
        self.conditions.extend(conditions)
        return self

    def returning(self, *outputs: Any) -> Any:
        self.plan = None
        self.outputs.extend(outputs)
        return self

    def _answer(self, store: Any, rows: list[Row]) -> Result:
        if not self.outputs:
            return Result([], [], rowcount=len(rows))
        envs = [Env({self.table: row}, store) for row in rows]
        if self.table in self.outputs:
            return Result.of_dicts([shown(self.outputs, env) for env in envs])
        told = [[output.of(env) for output in self.outputs] for env in envs]
        return Result([output.name for output in self.outputs], told, rowcount=len(rows))

    def _fitting(self, store: Any) -> list[Row]:
        rows, conditions = narrowed(self.table, conjuncts(self.conditions), Env({}, store))
        conditions = [_once(condition, store) for condition in conditions]
        fitting = []
        for row in rows:
            env = Env({self.table: row}, store)
            if all(condition.of(env) for condition in conditions):
                fitting.append(row)
        return fitting


def _once(condition: Expr, store: Any) -> Expr:
    """Let a list that a subquery gives be asked for once, not for each row."""
    values = getattr(condition, "values", None)
    if isinstance(values, Select):
        return type(condition)(condition.inner, values.values_in(Env({}, store)))  # type: ignore[attr-defined, call-arg]
    return condition


def _values(given: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    plain = dict(given[0]) if given else {}
    return {getattr(name, "name", name): value for name, value in {**plain, **named}.items()}


class Update(_Writing):
    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.assigned: dict[str, Any] = {}

    def values(self, *given: Any, **named: Any) -> Update:
        self.plan = None
        self.assigned |= _values(given, named)
        return self

    def run(self, store: Any, _outer: Env | None = None) -> Result:
        return self._answer(store, [store.change(self.table, row, self.assigned) for row in self._fitting(store)])


class Delete(_Writing):
    def run(self, store: Any, _outer: Env | None = None) -> Result:
        rows = self._fitting(store)
        for row in rows:
            store.remove(self.table, row)
        return self._answer(store, rows)


class _Excluded:
    """The row that could not be inserted, for those who compare it with the one that is there."""

    def __init__(self, table: Table) -> None:
        for name in table.columns:
            column = Column(name)
            column.table = self
            setattr(self, name, column)


@cache
def _excluded(table: Table) -> _Excluded:
    return _Excluded(table)


class Insert(_Writing):
    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._rows: list[dict[str, Any]] = []
        self._conflict: Callable[[Any, Row, Row], Row | None] | None = None
        self._conflict_on: tuple[str, ...] | None = None
        self.excluded = _excluded(table)

    def values(self, *given: Any, **named: Any) -> Insert:
        if given and isinstance(given[0], list):
            self._rows.extend(dict(row) for row in given[0])
        else:
            self._rows.append(_values(given, named))
        return self

    def on_conflict_do_nothing(self, index_elements: Any = None, **_more: Any) -> Insert:
        self._conflict = lambda _store, _old, _new: None
        self._conflict_on = _names(index_elements)
        return self

    def on_conflict_do_update(
        self, *, index_elements: Any, set_: Mapping[str, Any], where: Any = None, **_more: Any
    ) -> Insert:
        def update_instead(store: Any, old: Row, new: Row) -> Row | None:
            if where is not None and not where.of(Env({self.table: old, self.excluded: new}, store)):
                return None
            changed: Row = store.change(self.table, old, dict(set_))
            return changed

        self._conflict = update_instead
        self._conflict_on = _names(index_elements)
        return self

    def run(self, store: Any, parameters: Any = None) -> Result:
        rows = self._rows or ([dict(row) for row in parameters] if isinstance(parameters, list) else [{}])
        written = []
        for values in rows:
            row = store.new_row(self.table, values)
            other = store.conflict(self.table, row, self._conflict_on) if self._conflict else None
            if other is None:
                written.append(store.add(self.table, row))
            elif self._conflict and (changed := self._conflict(store, other, row)) is not None:
                written.append(changed)
        return self._answer(store, written)


def _names(columns: Any) -> tuple[str, ...] | None:
    return None if columns is None else tuple(getattr(column, "name", column) for column in columns)
