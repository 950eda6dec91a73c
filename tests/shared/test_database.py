"""Transactions that commit on leaving, weather told from bugs, and a pool whose waiting can be seen."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError

from deploy.embedded.ports import free_port
from shared import crashpoints
from shared.database import Conflict, Database, DatabaseAway, is_weather, sqlstate
from shared.prepared import Prepared
from tests.doubles.fault_proxy import BLACK_HOLE, RESET, FaultProxy
from tests.scenarios import fired
from tests.shared.conftest import StoppedClock

ME = Prepared(select(func.pg_backend_pid()))


class Died(Exception):
    """Stands in for SIGKILL."""


@pytest.fixture
async def counters(database: Database) -> AsyncIterator[Database]:
    async with database.transaction("test") as tx:
        await tx.execute(text("DROP TABLE IF EXISTS counters"))
        await tx.execute(text("CREATE TABLE counters (name text PRIMARY KEY, n int CHECK (n < 100))"))
    yield database
    crashpoints.arm(None)


async def add(database: Database, name: str, n: int = 1) -> None:
    async with database.transaction("add_counter") as tx:
        await tx.execute(text("INSERT INTO counters VALUES (:name, :n)"), {"name": name, "n": n})


async def names(database: Database) -> set[str]:
    async with database.reading() as connection:
        return set((await connection.execute(text("SELECT name FROM counters"))).scalars())


async def run(database: Database, *statements: str) -> None:
    async with database.transaction("test") as tx:
        for statement in statements:
            await tx.execute(text(statement))


async def test_leaving_commits_and_raising_does_not(counters: Database) -> None:
    """What was done is kept when the block ends, and nothing of it when it raises."""
    await add(counters, "kept")

    async def changes_its_mind() -> None:
        async with counters.transaction("test") as tx:
            await tx.execute(text("INSERT INTO counters VALUES ('lost', 1)"))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await changes_its_mind()
    assert await names(counters) == {"kept"}


async def test_a_crash_point_stands_on_either_side_of_the_commit(counters: Database) -> None:
    """L10: before it nothing is kept; after it everything is, though nobody has heard of it."""

    def die() -> None:
        raise Died

    crashpoints.arm("add_counter.before_commit", die)
    with pytest.raises(Died):
        await add(counters, "before")
    crashpoints.arm("add_counter.after_commit", die)
    with pytest.raises(Died):
        await add(counters, "after")
    crashpoints.arm(None)
    assert await names(counters) == {"after"}


async def test_somebody_was_faster(counters: Database) -> None:
    """A unique violation is a Conflict, and nothing of its transaction was kept."""
    await add(counters, "one")
    with pytest.raises(Conflict):
        await run(counters, "INSERT INTO counters VALUES ('two', 1)", "INSERT INTO counters VALUES ('one', 1)")
    assert await names(counters) == {"one"}


_WEATHER = {
    "SELECT pg_terminate_backend(pg_backend_pid())": "P01",
    "SET LOCAL statement_timeout = 20; SELECT pg_sleep(5)": "P08",
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$": "P04",
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$": "P03",
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53300'; END $$": "P05",
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03'; END $$": "P10",
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '57P03'; END $$": "P01",
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '58030'; END $$": "P07",
    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '08006'; END $$": "P01",
}


@pytest.mark.parametrize("statement", _WEATHER, ids=lambda statement: statement[-30:])
async def test_weather_passes(counters: Database, statement: str) -> None:
    """P01, P03..P05, P07, P08, P10: connections, shutdown, timeouts, deadlocks, full disks: DatabaseAway, then it works."""
    with pytest.raises(DatabaseAway):
        await run(counters, *statement.split("; ") if "SET LOCAL" in statement else [statement])
    fired(_WEATHER[statement], 1)
    await add(counters, "next")
    assert await names(counters) == {"next"}


async def test_a_deadlock_costs_one_of_the_two(counters: Database) -> None:
    """P03: two transactions lock two rows crosswise: one is told to come again, the other one commits."""
    await add(counters, "one")
    await add(counters, "two")
    first_locked = asyncio.Barrier(2)

    async def lock(*names_in_order: str) -> bool:
        try:
            async with counters.transaction("test") as tx:
                await tx.execute(text("SET LOCAL deadlock_timeout = 50"))
                for name in names_in_order:
                    await tx.execute(text("UPDATE counters SET n = n + 1 WHERE name = :name"), {"name": name})
                    await asyncio.wait_for(first_locked.wait(), 5) if name == names_in_order[0] else None
        except DatabaseAway:
            return False
        return True

    ended = await asyncio.gather(lock("one", "two"), lock("two", "one"))
    fired("P03", ended.count(False))
    assert sorted(ended) == [False, True]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT nothing FROM nowhere", "42P01"),
        ("SELEKT", "42601"),
        ("SELECT 1 / 0", "22012"),
        ("INSERT INTO counters VALUES ('big', 100)", "23514"),
        ("INSERT INTO counters VALUES (NULL, 1)", "23502"),
    ],
)
async def test_a_bug_stays_a_bug(counters: Database, statement: str, code: str) -> None:
    """A wrong statement is not weather: it is raised as it is, and nobody tries it again."""
    with pytest.raises(DBAPIError) as error:
        await run(counters, statement)
    assert sqlstate(error.value) == code
    assert not is_weather(error.value)


async def test_a_lock_is_waited_for_only_so_long(counters: Database) -> None:
    """P10: a lock that is not to be had in time is weather."""
    await add(counters, "one")
    async with counters.transaction("test") as tx:
        await tx.execute(text("SELECT * FROM counters FOR UPDATE"))
        with pytest.raises(DatabaseAway):
            await run(counters, "SET LOCAL lock_timeout = 50", "UPDATE counters SET n = 2")
    fired("P10", 1)


async def test_nobody_is_there() -> None:
    """P01: nothing listens: DatabaseAway for transactions, reads, pings and loans alike."""
    away = Database.connect(f"postgresql+asyncpg://u:p@127.0.0.1:{free_port()}/x", application_name="test")
    for attempt in (away.ping(), names(away), run(away, "SELECT 1"), away.lend()):
        with pytest.raises(DatabaseAway):
            await attempt
    await away.close()
    fired("P01", 4)


async def test_a_ping_has_a_deadline(counters: Database) -> None:
    """P08: a server that falls silent is away in the ping's time and the two seconds that closing takes, a reset one at once."""
    url = counters.engine.url
    assert url.port is not None
    with FaultProxy(url.port) as proxy:
        behind = url.set(port=proxy.port).render_as_string(hide_password=False)
        database = Database.connect(behind, application_name="test")
        await database.ping()
        for fault in (BLACK_HOLE, RESET):
            proxy.inject(fault)
            async with asyncio.timeout(5):
                with pytest.raises(DatabaseAway):
                    await database.ping(timeout_s=0.2)
        await database.close()
        fired("P08", proxy.fired)


async def test_a_full_pool_is_weather_and_waiting_is_seen(counters: Database) -> None:
    """P05: two connections are out, three wait and are told 503; the gauge goes up, and down again."""
    assert counters.pool_state() == {"active": 0, "idle": 1, "waiting": 0}
    async with counters.reading(), counters.reading():
        late = [asyncio.create_task(names(counters)) for _ in range(3)]
        for _ in late:
            await asyncio.sleep(0)  # each goes as far as the pool, and waits there
        assert counters.pool_state() == {"active": 2, "idle": 0, "waiting": 3}
        ended = await asyncio.gather(*late, return_exceptions=True)
    assert [type(one) for one in ended] == [DatabaseAway] * 3
    assert counters.pool_state()["waiting"] == 0
    assert await names(counters) == set()
    fired("P05", len(ended))


async def test_a_cancelled_wait_is_not_counted_for_ever(counters: Database) -> None:
    """A caller who leaves while waiting is no longer waiting."""
    async with counters.reading(), counters.reading():
        waiting = asyncio.create_task(names(counters))
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert counters.waiting == 0


@pytest.fixture
def checkouts(counters: Database) -> list[object]:
    """What the pool has lent since."""
    lent: list[object] = []
    event.listen(counters.engine.sync_engine, "checkout", lambda *what: lent.append(what))
    return lent


async def ask(database: Database) -> int:
    async with database.reading() as connection:
        return int(await ME.value(connection))


async def test_the_next_user_gets_it_past_the_pool(counters: Database, checkouts: list[object]) -> None:
    """One connection goes from hand to hand, counted as idle in between; what SQLAlchemy has used goes through the pool."""
    assert len({await ask(counters) for _ in range(5)}) == 1
    assert len(checkouts) == 1
    assert counters.pool_state() == {"active": 0, "idle": 1, "waiting": 0}
    await names(counters)
    await ask(counters)
    assert len(checkouts) == 2


async def test_what_was_kept_for_long_goes_through_the_pool(
    counters: Database, checkouts: list[object], clock: StoppedClock
) -> None:
    """There it is closed when it is too old."""
    patient = Database(counters.engine, clock)
    for wait_s, lent in ((0, 1), (59, 1), (2, 2), (59, 2)):
        clock.pass_by(wait_s)
        await ask(patient)
        assert len(checkouts) == lent
    await patient.close()


async def test_who_waits_at_the_pool_is_served_first(counters: Database) -> None:
    """Both connections are out: whoever comes for one, or for one for good, has it as soon as one is given back."""
    for wait in (ask(counters), _lent_and_closed(counters)):
        async with counters.reading() as one:
            async with counters.reading() as other:
                await ME.value(one), await ME.value(other)
                waiting = asyncio.create_task(wait)
                await asyncio.sleep(0.05)
                assert not waiting.done()
            await asyncio.wait_for(waiting, 1)
    assert counters.pool_state() == {"active": 0, "idle": 2, "waiting": 0}


async def _lent_and_closed(database: Database) -> None:
    await (await database.lend()).close()


async def test_how_long_one_waited_is_told(counters: Database) -> None:
    """The watch hears of every connection that was had, with the seconds that took."""

    class Watch:
        waits: list[float] = []  # noqa: RUF012  one test, one instance

        def acquired(self, waited_s: float) -> None:
            self.waits.append(waited_s)

    counters.watch = Watch()
    await names(counters)
    await add(counters, "x")
    assert len(Watch.waits) == 2
    assert all(0 <= waited_s < 1 for waited_s in Watch.waits)


async def test_reading_leaves_nothing_open(counters: Database) -> None:
    """Each statement of a reading sees what was committed before it, and holds nothing back."""
    async with counters.reading() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM counters"))).scalar_one() == 0
        await add(counters, "meanwhile")
        assert (await connection.execute(text("SELECT count(*) FROM counters"))).scalar_one() == 1
        state = (
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
        )
        assert (await connection.execute(text(state))).scalar_one() == 0


async def test_a_snapshot_sees_one_moment_and_writes_nothing(counters: Database) -> None:
    """I2: an audit of many tables sees them all at one moment."""
    async with counters.snapshot() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM counters"))).scalar_one() == 0
        await add(counters, "meanwhile")
        assert (await connection.execute(text("SELECT count(*) FROM counters"))).scalar_one() == 0
    with pytest.raises(DBAPIError, match="read-only"):
        async with counters.snapshot() as connection:
            await connection.execute(text("DELETE FROM counters"))
    await add(counters, "writable")
    assert await names(counters) == {"meanwhile", "writable"}


async def test_errors_of_the_body_are_its_own(counters: Database) -> None:
    """Only trouble with the database is turned into weather; what the block raises itself leaves it as it was."""
    for error in (KeyError("x"), RuntimeError("x"), Died()):
        with pytest.raises(type(error)):
            async with counters.transaction("test"):
                raise error


async def test_a_loan_is_given_back(counters: Database) -> None:
    """A connection that is lent for good counts as active until its borrower closes it."""
    lent = await counters.lend()
    assert counters.pool_state()["active"] == 1
    await lent.close()
    assert counters.pool_state()["active"] == 0
