"""A database is brought up to date once, however many try, and a service never runs on one that is too old."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from deploy.embedded.ports import free_port
from deploy.embedded.postgres import Postgres
from reservation_service.store.tables import metadata
from shared import migrations
from shared.database import Connection, Database, DatabaseAway, sqlstate
from shared.migrations import upgrade
from shared.schema_age import SchemaOutdated, head, require_current
from tests.scenarios import fired

PACKAGE = "reservation_service.store.migrations"
LOCK_NOT_AVAILABLE = "55P03"


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """An empty database, gone after the test."""
    name = f"migrations_{uuid4().hex}"
    postgres.create_database(name)
    yield postgres.url(name)
    postgres.drop_database(name)


async def run(url: str, statement: str) -> list[object]:
    database = Database.connect(url, application_name="test", pool_size=1)
    async with database.transaction("test") as tx:
        result = await tx.execute(text(statement))
        found = list(result.scalars()) if result.returns_rows else []
    await database.close()
    return found


async def test_an_empty_database_is_brought_up_to_date(url: str) -> None:
    """It says from where to where; once more changes nothing."""
    assert await asyncio.to_thread(upgrade, url, PACKAGE) == (None, head(PACKAGE))
    await require_current(url, PACKAGE)
    assert await asyncio.to_thread(upgrade, url, PACKAGE) == (head(PACKAGE), head(PACKAGE))


async def test_many_at_once_take_turns(url: str) -> None:
    """P10: three migrate at the same moment: one does it, the others wait and find it done; no lock is left behind."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(3) as threads:
        done = await asyncio.gather(*(loop.run_in_executor(threads, upgrade, url, PACKAGE) for _ in range(3)))
    assert sorted(done, key=str) == sorted([(None, head(PACKAGE)), *[(head(PACKAGE), head(PACKAGE))] * 2], key=str)
    assert await run(url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [0]


async def test_a_migration_that_cannot_have_its_lock_gives_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P10: a report holds the tables: the migration leaves within its time and leaves nothing; once they are free it goes on."""
    first = ScriptDirectory.from_config(migrations._config(PACKAGE)).get_base()
    assert first
    with monkeypatch.context() as patch:
        to_the_first = partial(command.upgrade, revision=first)
        patch.setattr(migrations.command, "upgrade", lambda config, _head: to_the_first(config))
        await asyncio.to_thread(upgrade, url, PACKAGE)
    monkeypatch.setattr(migrations, "_TABLE_LOCK_WAIT_MS", 200)
    report = Database.connect(url, application_name="report", pool_size=1)
    async with report.transaction("test") as tx:
        for table in metadata.tables:
            if await _exists(tx, table):
                await tx.execute(text(f"LOCK TABLE {table} IN ACCESS SHARE MODE"))
        with pytest.raises(DBAPIError) as refused:
            await asyncio.to_thread(upgrade, url, PACKAGE)
        assert sqlstate(refused.value) == LOCK_NOT_AVAILABLE
        assert await run(url, "SELECT count(*) FROM reservations") == [0]
    await report.close()
    (reached,) = await run(url, "SELECT version_num FROM alembic_version")
    assert reached != head(PACKAGE), "those before it stay: each is a transaction of its own"
    assert await asyncio.to_thread(upgrade, url, PACKAGE) == (reached, head(PACKAGE))
    fired("P10", 1)


async def _exists(connection: Connection, table: str) -> bool:
    found = await connection.execute(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": table})
    return bool(found.scalar_one())


async def test_a_service_does_not_start_on_an_older_schema(url: str) -> None:
    """X12: no schema at all, or one that lacks a migration: SchemaOutdated says what to do."""
    with pytest.raises(SchemaOutdated, match="holdfast migrate"):
        await require_current(url, PACKAGE)
    await asyncio.to_thread(upgrade, url, PACKAGE)
    await run(url, "DELETE FROM alembic_version")
    with pytest.raises(SchemaOutdated, match=head(PACKAGE)):
        await require_current(url, PACKAGE)


async def test_a_newer_schema_is_welcome(url: str) -> None:
    """X12: in a rolling deployment the older release goes on working on the newer schema."""
    await asyncio.to_thread(upgrade, url, PACKAGE)
    await run(url, "UPDATE alembic_version SET version_num = '9999_from_the_future'")
    await require_current(url, PACKAGE)


async def test_a_database_that_is_away_is_weather() -> None:
    """P01: nothing listens: DatabaseAway, not a stack of the driver's."""
    with pytest.raises(DatabaseAway):
        await require_current(f"postgresql+asyncpg://u:p@127.0.0.1:{free_port()}/x", PACKAGE)
    fired("P01", 1)


def test_a_package_without_migrations_is_no_package_of_ours() -> None:
    """A wrong name is told, not taken for an up-to-date schema."""
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        head("tests.nowhere")
