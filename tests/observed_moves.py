"""Marks which legal moves a test is there to make, and sees from below, in the database, whether it makes them.

The simulation excuses moves that its worlds make too seldom to be relied on. Each of them names a test with such a mark.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

Move = tuple[str, str, str]
"""Kind of row, status before, status after."""

_TABLES = {"booking": "reservations", "saga": "sagas", "payment": "payments", "dispute": "disputes"}
_WATCHED = frozenset({"till", "office"})
"""The fixtures that look whether the mark is true."""


def makes(kind: str, was: str, becomes: str) -> pytest.MarkDecorator:
    """Mark a test, or one of its cases, as the one that makes this move."""
    return pytest.mark.makes_move(kind, was, becomes)


def claimed_by(test: Callable[..., Any]) -> set[Move]:
    """Return the moves that a test and its cases are marked to make; a mark that nobody looks at counts for nothing."""
    marks = list(getattr(test, "pytestmark", ()))
    cases = [case for mark in marks if mark.name == "parametrize" for case in mark.args[1]]
    marks += [mark for case in cases for mark in getattr(case, "marks", ())]
    is_watched = _WATCHED & inspect.signature(test).parameters.keys()
    return {mark.args for mark in marks if mark.name == "makes_move" and is_watched}


@asynccontextmanager
async def made_as_marked(
    marks: Iterator[pytest.Mark], sql: Callable[[str], Awaitable[Sequence[Any]]]
) -> AsyncIterator[None]:
    """Let a test go on; when it is over, each move that it is marked to make must have been seen."""
    claimed = {mark.args for mark in marks}
    if not claimed:
        yield
        return
    kind_of = {_TABLES[kind]: kind for kind, _, _ in claimed}
    for statement in watch("claimed_moves", *kind_of):
        await sql(statement)
    try:
        yield
        rows = await sql("SELECT DISTINCT what, from_status, to_status FROM claimed_moves")
    finally:
        await sql("DROP FUNCTION see_claimed_moves CASCADE")
        await sql("DROP TABLE claimed_moves")
    made = {(kind_of[row["what"]], row["from_status"], row["to_status"]) for row in rows}
    assert claimed <= made, f"marked to make {sorted(claimed - made)}, and did not; it made {sorted(made)}"


def watch(seen: str, *tables: str) -> Iterator[str]:
    """Yield the statements after which every status move of these tables is written down in the table `seen`."""
    yield f"CREATE TABLE {seen} (id bigserial, what text, row_id uuid, from_status text, to_status text)"
    yield f"""
        CREATE FUNCTION see_{seen}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO {seen} (what, row_id, from_status, to_status)
            VALUES (TG_TABLE_NAME, NEW.id, OLD.status, NEW.status);
            RETURN NULL;
        END $$
        """  # noqa: S608  names of ours
    for table in tables:
        yield f"""
            CREATE TRIGGER see_{seen} AFTER UPDATE ON {table} FOR EACH ROW
            WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION see_{seen}()
            """
