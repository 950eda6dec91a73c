"""`shared.prepared` in memory: statements are run as they are, in transactions that begin and end at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

ONE_MOMENT = "one moment"
ERRORS: tuple[type[Exception], ...] = ()


class Begun:
    """A transaction: committed on leaving, unless an error leaves it."""

    def __init__(self, connection: Any, _begin: str = "") -> None:
        self._connection = connection
        self._begun = connection.begin()

    async def __aenter__(self) -> Any:
        await self._begun.__aenter__()
        return self._connection

    async def __aexit__(self, *error: Any) -> None:
        await self._begun.__aexit__(*error)


@contextmanager
def one_statement(connection: Any) -> Iterator[None]:
    """A transaction like any other, which tells that it was one statement only."""
    before = connection.statements
    with connection.begun():
        yield
        if connection.statements - before > 1:
            raise AssertionError("a transaction of one statement was given a second one")


async def gave_up(_connection: Any, _error: BaseException) -> bool:
    return False


def is_closed(_connection: Any) -> bool:
    """Nothing is kept from one user to the next: each of them comes past the weather."""
    return True


def refuse_closed(*_pooled: Any) -> None:
    pass


def json_text(value: Any) -> str:
    return orjson.dumps(value).decode()


class Prepared:
    """One statement with its places for values, which every call names."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement

    async def rows(self, connection: Any, **values: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await connection.execute(self._statement, values)).mappings().all()
        return found

    async def row(self, connection: Any, **values: Any) -> dict[str, Any] | None:
        found: dict[str, Any] | None = (await connection.execute(self._statement, values)).mappings().one_or_none()
        return found

    async def one(self, connection: Any, **values: Any) -> dict[str, Any]:
        found: dict[str, Any] = (await connection.execute(self._statement, values)).mappings().one()
        return found

    async def value(self, connection: Any, **values: Any) -> Any:
        return (await connection.execute(self._statement, values)).scalar_one_or_none()

    async def count(self, connection: Any, **values: Any) -> int:
        touched: int = (await connection.execute(self._statement, values)).rowcount
        return touched
