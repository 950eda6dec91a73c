"""A table as a queue, on real PostgreSQL: each row is worked on by one worker at a time, and none is forgotten."""

import asyncio
import random
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, RowMapping, Table, Text, Uuid, insert, select, text, update

from shared.database import Database
from shared.due_rows import (
    backoff_s,
    claim_due,
    claim_one,
    due_columns,
    finish,
    make_due,
    put_back,
    still_mine,
)
from tests.scenarios import fired

JOBS = Table("jobs", MetaData(), Column("id", Uuid, primary_key=True), Column("note", Text), *due_columns())
LEASE_S = 30.0
WITHOUT_WAITING_S = 8.0


@pytest.fixture
async def queue(database: Database) -> Database:
    async with database.transaction("test") as tx:
        await tx.run_sync(JOBS.metadata.create_all)
        await tx.execute(JOBS.delete())
    return database


async def add(queue: Database, count: int = 1, *, due_in_s: float = -1.0) -> list[UUID]:
    """Add rows; the first one fell due first."""
    ids = [uuid4() for _ in range(count)]
    async with queue.transaction("test") as tx:
        for place, row_id in enumerate(ids):
            at = text(f"clock_timestamp() + interval '{due_in_s} s' - interval '{count - place} ms'")
            await tx.execute(insert(JOBS).values(id=row_id, due_at=at))
    return ids


async def claim(queue: Database, *, limit: int = 10, lease_s: float = LEASE_S) -> list[RowMapping]:
    async with queue.transaction("test") as tx:
        return list(await claim_due(tx, JOBS, limit=limit, lease_s=lease_s))


async def row(queue: Database, row_id: UUID) -> RowMapping:
    async with queue.reading() as connection:
        return (await connection.execute(select(JOBS).where(JOBS.c.id == row_id))).mappings().one()


async def let_lease_run_out(queue: Database) -> None:
    async with queue.transaction("test") as tx:
        await tx.execute(update(JOBS).values(lease_until=text("clock_timestamp() - interval '1 s'")))


async def test_a_claim_looks_at_nothing_that_is_due_later(queue: Database) -> None:
    """Thousands of bookings wait for their guests to pay; whoever looks for work each second does not look at them."""
    await add(queue, 2)
    async with queue.transaction("test") as tx:
        await tx.execute(text("CREATE INDEX IF NOT EXISTS jobs_by_due ON jobs (due_at) WHERE due_at IS NOT NULL"))
        later = "SELECT gen_random_uuid(), clock_timestamp() + interval '1 hour' FROM generate_series(1, 5000)"
        await tx.execute(text(f"INSERT INTO jobs (id, due_at) {later}"))
        await tx.execute(text("ANALYZE jobs"))
    before = await _rows_read(queue)
    assert len(await claim(queue)) == 2
    assert await _rows_read(queue) - before < 50


async def _rows_read(queue: Database) -> int:
    async with queue.transaction("test") as tx:
        await tx.execute(text("SELECT pg_stat_force_next_flush()"))
    async with queue.reading() as connection:
        sql = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'jobs'"
        return int((await connection.execute(text(sql))).scalar_one())


async def test_due_rows_are_leased_oldest_first(queue: Database) -> None:
    """A claim takes at most `limit` rows, oldest first, counts the attempt and raises the epoch."""
    ids = await add(queue, 5)
    first = await claim(queue, limit=2)
    assert {found["id"] for found in first} == set(ids[:2])
    assert {(found["lease_epoch"], found["attempts"]) for found in first} == {(1, 1)}
    assert {found["id"] for found in await claim(queue)} == set(ids[2:])
    assert await claim(queue) == []


async def test_what_is_not_due_is_not_taken(queue: Database) -> None:
    """A row of the future, and one that is finished, stay where they are."""
    (later,) = await add(queue, due_in_s=60)
    (done,) = await add(queue)
    async with queue.transaction("test") as tx:
        await tx.execute(update(JOBS).where(JOBS.c.id == done).values(due_at=None))
    assert await claim(queue) == []
    async with queue.transaction("test") as tx:
        assert await claim_one(tx, JOBS, done, lease_s=LEASE_S) is None
        taken = await claim_one(tx, JOBS, later, lease_s=LEASE_S)
    assert taken is not None  # by name, a row may be taken before it is due


async def test_a_lease_keeps_others_away_until_it_runs_out(queue: Database) -> None:
    """I16: leased means mine; after the lease anybody may go on, under a higher epoch."""
    (row_id,) = await add(queue)
    (mine,) = await claim(queue)
    assert await claim(queue) == []
    async with queue.transaction("test") as tx:
        assert await claim_one(tx, JOBS, row_id, lease_s=LEASE_S) is None
    await let_lease_run_out(queue)
    (theirs,) = await claim(queue)
    assert (theirs["lease_epoch"], theirs["attempts"]) == (mine["lease_epoch"] + 1, 2)


async def test_the_epoch_fences_a_worker_that_was_frozen(queue: Database) -> None:
    """I19, C18: after a takeover the old epoch can neither renew, nor finish, nor put back, nor write anything."""
    (row_id,) = await add(queue)
    (mine,) = await claim(queue)
    await let_lease_run_out(queue)
    (theirs,) = await claim(queue)
    before = dict(await row(queue, row_id))
    async with queue.transaction("test") as tx:
        assert not await still_mine(tx, JOBS, row_id, mine["lease_epoch"], lease_s=LEASE_S)
        assert not await finish(tx, JOBS, row_id, mine["lease_epoch"], note="late")
        assert not await put_back(tx, JOBS, row_id, mine["lease_epoch"], due_in_s=1, note="late")
    assert dict(await row(queue, row_id)) == before
    async with queue.transaction("test") as tx:
        assert await still_mine(tx, JOBS, row_id, theirs["lease_epoch"], lease_s=2 * LEASE_S)
    assert (await row(queue, row_id))["lease_until"] > before["lease_until"]


async def test_finishing_and_putting_back(queue: Database) -> None:
    """Finished never falls due again; put back falls due later, and its lease is given up at once."""
    done, again = await add(queue, 2)
    epochs = {found["id"]: found["lease_epoch"] for found in await claim(queue)}
    async with queue.transaction("test") as tx:
        assert await finish(tx, JOBS, done, epochs[done], note="done")
        assert await put_back(tx, JOBS, again, epochs[again], due_in_s=60, note="tried")
    assert ((await row(queue, done))["due_at"], (await row(queue, done))["note"]) == (None, "done")
    assert (await row(queue, again))["lease_until"] is None
    assert await claim(queue) == []
    async with queue.transaction("test") as tx:
        await make_due(tx, JOBS, again)
        await make_due(tx, JOBS, done)
    (found,) = await claim(queue)
    assert (found["id"], found["attempts"]) == (again, 1)  # attempts start anew: something has changed


async def test_two_workers_share_the_work(queue: Database) -> None:
    """K08: two workers pass over what a third one looks at, and each other's; every row is claimed by exactly one."""
    ids = await add(queue, 60)
    taken: list[UUID] = []

    async def worker() -> None:
        while found := await claim(queue, limit=7):
            assert len(found) <= 7
            taken.extend(one["id"] for one in found)

    async with queue.transaction("test") as tx:
        looked_at = [one["id"] for one in await claim_due(tx, JOBS, limit=7, lease_s=LEASE_S)]
        await asyncio.wait_for(worker(), WITHOUT_WAITING_S)  # its connection is the other one that there is
        by_one = len(taken)
    assert sorted(taken + looked_at) == sorted(ids)

    taken.clear()
    ids = await add(queue, 60)
    await asyncio.gather(worker(), worker())
    assert sorted(taken) == sorted(ids)
    fired("K08", by_one)


async def test_a_row_that_is_looked_at_is_passed_over(queue: Database) -> None:
    """SKIP LOCKED: a locked row does not hold up the others."""
    first, second = await add(queue, 2)
    async with queue.transaction("test") as tx:
        await tx.execute(select(JOBS).where(JOBS.c.id == first).with_for_update())
        found = await asyncio.wait_for(claim(queue), WITHOUT_WAITING_S)
    assert [one["id"] for one in found] == [second]


async def test_claiming_one_row_at_once(queue: Database) -> None:
    """I16: ten workers ask for the same row by name; one gets it."""
    (row_id,) = await add(queue)
    roomy = Database.connect(queue.engine.url.render_as_string(hide_password=False), application_name="t", pool_size=5)

    async def take() -> bool:
        async with roomy.transaction("test") as tx:
            return await claim_one(tx, JOBS, row_id, lease_s=LEASE_S) is not None

    assert sum(await asyncio.gather(*(take() for _ in range(10)))) == 1
    await roomy.close()


@given(attempt=st.integers(1, 10_000), first_s=st.floats(0.01, 10), cap_s=st.floats(0.01, 600))
def test_a_pause_lies_within_its_bounds(attempt: int, first_s: float, cap_s: float) -> None:
    """S20: between half and all of first * 2^(n-1), never above the cap, whatever the number of attempts."""
    ceiling = min(cap_s, first_s * 2.0 ** min(attempt - 1, 30))
    assert ceiling / 2 <= backoff_s(attempt, first_s=first_s, cap_s=cap_s) <= ceiling


def test_pauses_grow_and_are_spread() -> None:
    """S20: they double until the cap, and two workers do not come back at the same moment."""

    def longest(_low: float, high: float) -> float:
        return high

    assert [backoff_s(n, cap_s=10, uniform=longest) for n in (1, 2, 3, 4, 5, 50)] == [1, 2, 4, 8, 10, 10]
    dice = random.Random(1)
    assert len({backoff_s(5, uniform=dice.uniform) for _ in range(50)}) == 50


async def test_what_is_finished_is_not_put_back(queue: Database) -> None:
    """A worker that never heard of the commit that finished its row, and puts it back for that, changes nothing."""
    (row_id,) = await add(queue)
    (claimed,) = await claim(queue)
    async with queue.transaction("test") as tx:
        assert await finish(tx, JOBS, row_id, claimed["lease_epoch"], note="done")
    async with queue.transaction("test") as tx:
        assert not await put_back(tx, JOBS, row_id, claimed["lease_epoch"], due_in_s=0.0, note="again")
    finished = await row(queue, row_id)
    assert (finished["due_at"], finished["note"]) == (None, "done")
