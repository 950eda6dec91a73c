"""What a statement answers, in the few shapes in which `store/` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class AnswerRow(tuple[Any, ...]):  # noqa: SLOT001  it carries its names
    """A row by place and by attribute."""

    _names: list[str]

    def __new__(cls, names: list[str], values: list[Any]) -> AnswerRow:
        row = super().__new__(cls, values)
        row._names = names
        return row

    def __getattr__(self, name: str) -> Any:
        try:
            return self[self._names.index(name)]
        except ValueError:
            raise AttributeError(name) from None


class NoRow(Exception):
    """One row was asked for, and there is none, or there are more."""


class _Rows:
    """Shared by rows, mappings and scalars; `_one` makes of a list of values what is given out."""

    def __init__(self, names: list[str], rows: list[list[Any]]) -> None:
        self.names = names
        self.rows = rows

    def _one(self, row: list[Any]) -> Any:
        return AnswerRow(self.names, row)

    def __iter__(self) -> Iterator[Any]:
        return (self._one(row) for row in self.rows)

    def all(self) -> list[Any]:
        return [self._one(row) for row in self.rows]

    def first(self) -> Any:
        return self._one(self.rows[0]) if self.rows else None

    def one_or_none(self) -> Any:
        if len(self.rows) > 1:
            raise NoRow(len(self.rows))
        return self.first()

    def one(self) -> Any:
        if len(self.rows) != 1:
            raise NoRow(len(self.rows))
        return self._one(self.rows[0])


class _Mappings(_Rows):
    def _one(self, row: list[Any]) -> dict[str, Any]:
        return dict(zip(self.names, row, strict=True))


class _AsTheyAre(_Rows):
    def _one(self, row: Any) -> Any:
        return row


class _Scalars(_Rows):
    def _one(self, row: list[Any]) -> Any:
        return row[0]


class Result(_Rows):
    """The whole answer."""

    def __init__(self, names: list[str], rows: list[list[Any]], *, rowcount: int | None = None) -> None:
        super().__init__(names, rows)
        self.rowcount = len(rows) if rowcount is None else rowcount

    @classmethod
    def of_dicts(cls, rows: list[dict[str, Any]]) -> Result:
        return Dicts(rows)

    def mappings(self) -> _Rows:
        return _Mappings(self.names, self.rows)

    def scalars(self) -> _Rows:
        return _Scalars(self.names, self.rows)

    def dicts(self) -> list[dict[str, Any]]:
        return self.mappings().all()

    def scalar_one(self) -> Any:
        return self.scalars().one()

    def scalar_one_or_none(self) -> Any:
        return self.scalars().one_or_none()

    scalar = scalar_one_or_none


class Dicts(Result):
    """Whole rows, mostly read by name."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows  # type: ignore[assignment]
        self.rowcount = len(rows)

    @property
    def names(self) -> list[str]:  # type: ignore[override]
        return list(self.rows[0]) if self.rows else []

    def _one(self, row: Any) -> Any:
        return AnswerRow(self.names, list(row.values()))

    def mappings(self) -> _Rows:
        return _AsTheyAre([], self.rows)

    def scalars(self) -> _Rows:
        return _AsTheyAre([], [next(iter(row.values())) for row in self.rows])  # type: ignore[attr-defined]
