"""What a change writes, as a shape and values: the statement of each shape is made once, whatever is written by it.

Callers say `status="paid", paid_at=NOW`. Which columns those are is the shape; how many shapes there are is
written in the code, so a cache of them is bounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Table, bindparam, func
from sqlalchemy.sql import ColumnElement


@dataclass(frozen=True)
class FromNow:
    """An instant by the database's clock: so many seconds from now."""

    seconds: float


NOW = FromNow(0.0)

Shape = tuple[tuple[str, bool], ...]
"""The columns that are written, in order; True: as an instant from now."""


def shape_of(values: Mapping[str, Any]) -> Shape:
    return tuple((name, isinstance(value, FromNow)) for name, value in values.items())


def assignments(table: Table, shape: Shape) -> dict[str, ColumnElement[Any]]:
    """Return what a statement of this shape assigns; its places are named apart from those of its condition."""
    return {name: from_now(_place(name)) if is_instant else _typed(table, name) for name, is_instant in shape}


def written(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for these places."""
    return {f"new_{name}": value.seconds if isinstance(value, FromNow) else value for name, value in values.items()}


def from_now(seconds: float | ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the instant `seconds` from now, by the database's clock."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def placed(table: Table, *columns: str, number: int | str = "") -> dict[str, ColumnElement[Any]]:
    """Return a place for each of these columns, to be written by an insert; `number` tells the places of rows apart."""
    return {name: bindparam(f"{name}{number}", type_=table.c[name].type) for name in columns}


def _place(name: str) -> ColumnElement[Any]:
    return bindparam(f"new_{name}", type_=Float)


def _typed(table: Table, name: str) -> ColumnElement[Any]:
    return bindparam(f"new_{name}", type_=table.c[name].type)
