"""Transactions on the driver itself: what ends badly, in whatever way, leaves nothing open and nothing half done."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from shared import crashpoints
from shared.database import Conflict, Database, DatabaseAway, LockedOut, Overtaken
from shared.prepared import NotCommitted, Prepared
from tests.doubles.fault_proxy import BLACK_HOLE, FaultProxy
from tests.scenarios import fired

TALLIES = Table(
    "tallies", MetaData(), Column("name", Text, primary_key=True), Column("n", Integer), Column("more", JSONB)
)
ADD = Prepared(insert(TALLIES).values(name=bindparam("name"), n=bindparam("n"), more=bindparam("more")))
COUNT = Prepared(select(func.count()).select_from(TALLIES))
NAMES = Prepared(select(TALLIES.c.name).order_by(TALLIES.c.name))
GROW = Prepared(update(TALLIES).where(TALLIES.c.name == bindparam("of")).values(n=TALLIES.c.n + 1))
LOCK = Prepared(select(TALLIES).where(TALLIES.c.name == bindparam("of")).with_for_update())
SLEEP = Prepared(select(func.pg_sleep(bindparam("seconds", type_=Integer))))
ME = Prepared(select(func.pg_backend_pid()))
IDLE_IN_TRANSACTION = text(
    "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database()"
)


@pytest.fixture
async def tallies(database: Database) -> AsyncIterator[Database]:
    async with database.transaction("test") as tx:
        await tx.execute(text("DROP TABLE IF EXISTS tallies"))
        await tx.run_sync(TALLIES.metadata.create_all)
    yield database
    crashpoints.arm(None)


async def add(database: Database, *names: str) -> None:
    async with database.transaction("test") as tx:
        for name in names:
            await ADD.count(tx, name=name, n=1, more=None)


async def grow_impatiently(database: Database, name: str) -> None:
    async with database.transaction("test") as tx:
        await tx.execute(text("SET LOCAL lock_timeout = 50"))
        await GROW.count(tx, of=name)


async def names(database: Database) -> list[str]:
    async with database.reading() as connection:
        return [row["name"] for row in await NAMES.rows(connection)]


async def left_open(database: Database) -> int:
    """Return how many transactions stand open; the two connections of the pool are all there are."""
    async with database.reading() as connection:
        return int((await connection.execute(IDLE_IN_TRANSACTION)).scalar_one())


async def kill_the_others(database: Database) -> None:
    async with database.reading() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_both_kinds_of_statements_share_one_transaction(tallies: Database) -> None:
    """What was prepared and what SQLAlchemy runs see each other's rows at once, and are kept or undone together."""
    async with tallies.transaction("test") as tx:
        await tx.execute(insert(TALLIES).values(name="ordinary", n=1))
        await ADD.count(tx, name="prepared", n=1, more={"a": [1]})
        assert await COUNT.value(tx) == (await tx.execute(select(func.count()).select_from(TALLIES))).scalar_one() == 2
        assert await names(tallies) == []  # nobody else sees them yet
    assert await names(tallies) == ["ordinary", "prepared"]

    async def changes_its_mind() -> None:
        async with tallies.transaction("test") as tx:
            await ADD.count(tx, name="lost", n=1, more=None)
            await tx.execute(insert(TALLIES).values(name="lost too", n=1))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await changes_its_mind()
    assert await names(tallies) == ["ordinary", "prepared"]
    assert await left_open(tallies) == 0


async def test_errors_of_the_driver_are_told_as_ever(tallies: Database) -> None:
    """P03, P10: a unique violation, a lock that is kept, and a deadlock mean what they mean with SQLAlchemy."""
    await add(tallies, "one", "two")
    with pytest.raises(Conflict):
        await add(tallies, "three", "one")
    async with tallies.transaction("test") as tx:
        await LOCK.row(tx, of="one")
        with pytest.raises(LockedOut):
            await grow_impatiently(tallies, "one")
    met = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> bool:
        try:
            async with tallies.transaction("test") as tx:
                await tx.execute(text("SET LOCAL deadlock_timeout = 50"))
                await LOCK.row(tx, of=first)
                await asyncio.wait_for(met.wait(), 5)
                await LOCK.row(tx, of=second)
        except Overtaken:
            return False
        return True

    ended = await asyncio.gather(lock("one", "two"), lock("two", "one"))
    assert sorted(ended) == [False, True]
    assert (await names(tallies), await left_open(tallies)) == (["one", "two"], 0)
    fired("P10", 1)
    fired("P03", ended.count(False))


async def test_a_killed_backend_is_weather_and_the_next_one_is_new(tallies: Database) -> None:
    """P01: cut off in mid-transaction: nothing was kept, and the pool lends what the server has closed to nobody."""

    async def killed_in_between() -> None:
        async with tallies.transaction("test") as tx:
            await ADD.count(tx, name="lost", n=1, more=None)
            await kill_the_others(tallies)
            await ADD.count(tx, name="lost too", n=1, more=None)

    with pytest.raises(DatabaseAway):
        await killed_in_between()
    await add(tallies, "next")
    async with tallies.reading() as one, tallies.reading() as other:
        assert await ME.value(one) != await ME.value(other)
    await kill_the_others(tallies)
    await asyncio.sleep(0.05)  # the driver reads that the idle one is gone
    async with tallies.reading() as one, tallies.reading() as other:
        assert await ME.value(one) != await ME.value(other)  # nobody was told of it
    assert await names(tallies) == ["next"]
    fired("P01", 2)


async def test_a_connection_lost_at_the_commit_is_weather(tallies: Database) -> None:
    """What became of it is not known to the caller: DatabaseAway, and it may be done again."""

    async def killed_before_the_commit() -> None:
        async with tallies.transaction("test") as tx:
            await ADD.count(tx, name="lost", n=1, more=None)
            await kill_the_others(tallies)

    with pytest.raises(DatabaseAway):
        await killed_before_the_commit()
    await add(tallies, "lost")
    assert (await names(tallies), await left_open(tallies)) == (["lost"], 0)


@pytest.mark.parametrize("alone", [True, False])
async def test_a_cancelled_user_leaves_nothing_behind(tallies: Database, *, alone: bool) -> None:
    """Given up in the middle of a statement, a connection is closed: nobody gets what may still be on its way."""

    async def sleep() -> None:
        async with tallies.transaction("test", of_one_statement=alone) as tx:
            if not alone:
                await ADD.count(tx, name="lost", n=1, more=None)
            await SLEEP.value(tx, seconds=5)

    sleeping = asyncio.create_task(sleep())
    await asyncio.sleep(0.1)
    sleeping.cancel()
    await asyncio.wait_for(asyncio.gather(sleeping, return_exceptions=True), 4)
    assert sleeping.cancelled()
    assert (await names(tallies), await left_open(tallies)) == ([], 0)
    assert tallies.pool_state()["active"] == 0


async def test_a_silent_server_is_not_waited_for_twice(tallies: Database) -> None:
    """P08: a statement without an answer ends at its deadline; its connection is closed, not rolled back and lent again."""
    url = tallies.engine.url
    assert url.port is not None
    with FaultProxy(url.port) as proxy:
        behind = url.set(port=proxy.port).render_as_string(hide_password=False)
        database = Database.connect(behind, application_name="test")
        assert await names(database) == []
        proxy.inject(BLACK_HOLE)

        async def ask() -> None:
            async with asyncio.timeout(0.3), database.transaction("test") as tx:
                await COUNT.value(tx)

        async with asyncio.timeout(5):
            with pytest.raises(TimeoutError):
                await ask()
        state = database.pool_state()
        assert (state["active"], state["waiting"]) == (0, 0)
        await database.close()
        fired("P08", proxy.fired)


async def test_a_swallowed_error_is_not_called_a_commit(tallies: Database) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK after an error that nobody raised: that is a bug, and it is heard."""
    await add(tallies, "one")

    async def swallow() -> None:
        async with tallies.transaction("test") as tx:
            with pytest.raises(Exception, match="duplicate"):
                await ADD.count(tx, name="one", n=1, more=None)

    with pytest.raises(NotCommitted):
        await swallow()
    assert (await names(tallies), await left_open(tallies)) == (["one"], 0)


async def test_one_statement_is_its_own_transaction(tallies: Database) -> None:
    """It is kept as a whole or not at all, between the same two crash points; a second one is refused."""

    class Died(Exception):
        pass

    def die() -> None:
        raise Died

    async def alone(*names: str) -> None:
        async with tallies.transaction("tally_alone", of_one_statement=True) as tx:
            for name in names:
                await ADD.count(tx, name=name, n=1, more=None)

    await alone("one")
    with pytest.raises(Conflict):
        await alone("one")
    crashpoints.arm("tally_alone.before_commit", die)
    with pytest.raises(Died):
        await alone("before")
    crashpoints.arm("tally_alone.after_commit", die)
    with pytest.raises(Died):
        await alone("after")
    crashpoints.arm(None)
    with pytest.raises(RuntimeError, match="second"):
        await alone("two", "three")
    await add(tallies, "four", "five")  # the connection is free of that rule again
    assert await names(tallies) == ["after", "five", "four", "one", "two"]
