"""The previous release as it was written down: a database that it left, and the statements that it goes on sending."""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from tests.release.record import FOLDER

_READ = {
    "uuid": UUID,
    "instant": datetime.fromisoformat,
    "date": date.fromisoformat,
    "decimal": Decimal,
    "bytes": base64.b64decode,
}
# Sent again, an example finds its key used and its slot full, and would stop before it writes anything.
_ROOM = {
    "reservation": ("DELETE FROM idempotency", "UPDATE time_slots SET capacity = 1000, taken = 3"),
    "payment": ("DELETE FROM idempotent_answers",),
}
# Rows came with the numbers that they had; the next ones go on from there.
_GO_ON_COUNTING = """
DO $$ DECLARE counted record; BEGIN
    FOR counted IN SELECT c.table_name AS t, c.column_name AS col FROM information_schema.columns AS c
                   WHERE c.table_schema = 'public' AND c.is_identity = 'YES' LOOP
        EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), coalesce(max(%I), 0) + 1, false) FROM %I',
                       counted.t, counted.col, counted.col, counted.t);
    END LOOP;
END $$
"""


@dataclass(frozen=True)
class Statement:
    """One that the previous release sends, with the parameters that it once had."""

    query: str
    args: Sequence[Any]


def statements(service: str) -> list[Statement]:
    return [
        Statement(line["query"], [_unpacked(arg) for arg in line["args"]])
        for line in _lines(f"{service}.statements.jsonl")
    ]


async def restore(dsn: str, service: str) -> None:
    """Make an empty database into the one that the previous release left behind, row by row."""
    connection = await asyncpg.connect(dsn, timeout=20)
    try:
        await connection.execute((FOLDER / f"{service}.schema.sql").read_text())
        await connection.execute("SET session_replication_role = replica")  # rows come in any order, and fire nothing
        for line in _lines(f"{service}.rows.jsonl"):
            table = line["table"]
            query = (
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM jsonb_populate_record(NULL::{table}, $1)"  # noqa: S608
            )
            await connection.execute(query, json.dumps(line["row"]))
        await connection.execute(_GO_ON_COUNTING)
    finally:
        await connection.close()


async def refused_statements(dsn: str, service: str) -> list[str]:
    """Send every statement of the previous release, each in a transaction that is taken back; return what went wrong.

    That its example is there already (23505) says that it ran: names, types, NOT NULL and CHECK came before that.
    """
    connection, wrong = await asyncpg.connect(dsn, timeout=20), []
    try:
        for statement in statements(service):
            transaction = connection.transaction()
            await transaction.start()
            try:
                for room in _ROOM[service]:
                    await connection.execute(room)
                await connection.fetch(statement.query, *statement.args, timeout=30)
            except asyncpg.UniqueViolationError:
                pass
            except asyncpg.PostgresError as error:
                wrong.append(f"{error.sqlstate} {error}: {' '.join(statement.query.split())[:300]}")
            finally:
                await transaction.rollback()
    finally:
        await connection.close()
    return wrong


def _lines(name: str) -> Iterator[Any]:
    return map(json.loads, (FOLDER / name).read_text().splitlines())


def _unpacked(value: Any) -> Any:
    match value:
        case dict():
            [(kind, text)] = value.items()
            return _READ[kind](text)
        case list():
            return [_unpacked(one) for one in value]
    return value
