"""Statements that were put together once: the same text, the same values and the same rows as SQLAlchemy's own way."""

import datetime as dt
from uuid import uuid4

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.changes import NOW, FromNow, assignments, from_now, placed, shape_of, written
from shared.database import Database, DatabaseAway
from shared.prepared import Prepared

PIECES = Table(
    "pieces",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("note", Text),
    Column("amount", BigInteger),
    Column("is_new", Boolean),
    Column("mark", LargeBinary),
    Column("told", JSONB),
    Column("at", DateTime(timezone=True)),
)
ALL = tuple(column.name for column in PIECES.c)
ADD = Prepared(insert(PIECES).values(placed(PIECES, *ALL)))
ONE = select(PIECES).where(PIECES.c.id == bindparam("piece"))
READ = Prepared(ONE)
COUNT = Prepared(select(func.count()).select_from(PIECES))


@pytest.fixture
async def pieces(database: Database) -> Database:
    async with database.transaction("test") as tx:
        await tx.execute(text("DROP TABLE IF EXISTS pieces"))
        await tx.run_sync(PIECES.metadata.create_all)
    return database


@pytest.mark.parametrize("told", [{"a": [1, None, "ü"]}, [], None])
async def test_rows_are_as_sqlalchemy_gives_them(pieces: Database, told: object) -> None:
    """Every type that our tables have goes in and comes out the same by both ways, whichever wrote it."""
    values = {
        "note": "ü", "amount": 2**40, "is_new": True, "mark": b"\0\xff", "told": told, "at": dt.datetime.now(dt.UTC),
    }  # fmt: skip
    one, other = {"id": uuid4(), **values}, {"id": uuid4(), **values}
    async with pieces.transaction("test") as tx:
        assert await ADD.count(tx, **one) == 1
        await tx.execute(insert(PIECES).values(**other))
        for row in (one, other):
            theirs = (await tx.execute(ONE, {"piece": row["id"]})).mappings().one()
            assert await READ.row(tx, piece=row["id"]) == dict(theirs) == row
            kind = select(func.jsonb_typeof(PIECES.c.told)).where(PIECES.c.id == row["id"])
            assert (await tx.execute(kind)).scalar_one() == {list: "array", dict: "object"}.get(type(told), "null")


async def test_one_row_is_one_row(pieces: Database) -> None:
    """What is not there is None, or an error where it must be; two rows are an error where one was asked for."""
    every, amounts = Prepared(select(PIECES.c.id)), Prepared(select(func.sum(PIECES.c.amount)))
    async with pieces.reading() as connection:
        assert await READ.row(connection, piece=uuid4()) is None
        assert await READ.value(connection, piece=uuid4()) is None
        assert await every.rows(connection) == []
        with pytest.raises(LookupError, match="none"):
            await READ.one(connection, piece=uuid4())
        for amount in (1, 2):
            await ADD.count(connection, **{**dict.fromkeys(ALL), "id": uuid4(), "amount": amount})
        assert await amounts.value(connection) == 3
        with pytest.raises(LookupError, match="2 came"):
            await every.row(connection)


async def test_values_are_named_and_complete(pieces: Database) -> None:
    """A value too few, too many, or misspelt never reaches the database."""
    async with pieces.reading() as connection:
        for wrong in ({}, {"peice": 1}, {"piece": uuid4(), "more": 1}):
            with pytest.raises(TypeError, match="takes"):
                await READ.rows(connection, **wrong)
    with pytest.raises(ValueError, match="depends on its values"):
        Prepared(select(PIECES.c.id).where(PIECES.c.note.in_(["a", "b"])))


async def test_a_change_writes_values_and_instants(pieces: Database) -> None:
    """A shape says which columns are written, and which of them by the database's clock."""
    changed = {"note": "paid", "told": None, "at": FromNow(60)}
    shape = shape_of(changed)
    assert shape == (("note", False), ("told", False), ("at", True)) == shape_of({**changed, "at": NOW})
    change = Prepared(
        PIECES.update().values(**assignments(PIECES, shape)).returning(PIECES, from_now(60).label("then"))
    )
    async with pieces.transaction("test") as tx:
        await ADD.count(tx, **{**dict.fromkeys(ALL), "id": uuid4()})
        row = await change.one(tx, **written(changed))
    assert (row["note"], row["told"]) == ("paid", None)
    assert abs((row["then"] - row["at"]).total_seconds()) < 1


async def test_a_migration_in_between_is_weather_at_worst(pieces: Database) -> None:
    """What a prepared statement gives back has changed: alone it is prepared anew, in a transaction it may come again."""
    everything = Prepared(text("SELECT * FROM pieces"))
    async with pieces.transaction("test") as tx, pieces.reading() as other:
        assert await everything.rows(tx) == await everything.rows(other) == []
    async with pieces.transaction("test") as tx:
        await tx.execute(text("ALTER TABLE pieces ADD COLUMN later text"))

    async def all_in_a_transaction() -> None:
        async with pieces.transaction("test") as tx:
            await COUNT.value(tx)
            await everything.rows(tx)

    with pytest.raises(DatabaseAway):
        await all_in_a_transaction()
    async with pieces.reading():  # who has used one, has it again: the other one has to hear of it too
        with pytest.raises(DatabaseAway):
            await all_in_a_transaction()
    await all_in_a_transaction()
    async with pieces.reading() as one, pieces.reading() as other:
        assert await everything.rows(one) == await everything.rows(other) == []
