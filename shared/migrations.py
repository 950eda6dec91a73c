"""Brings a service's database up to date."""

import asyncio
from collections.abc import Sequence
from importlib.resources import files

from alembic import command, context
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

# Any number will do as long as it is always the same one: two migrations of one database take turns on it.
_ADVISORY_LOCK = 7_204_513
_LOCK_WAIT_S = 60
_TABLE_LOCK_WAIT_MS = 5000  # a migration never queues traffic behind itself


def _config(package: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files(package)))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(database_url: str, package: str) -> tuple[str | None, str | None]:
    """Run all missing migrations of `package`; return the revisions before and after. Blocks.

    Concurrent runs wait for each other (at most a minute) on an advisory lock.
    """
    return asyncio.run(_upgrade(database_url, package))


async def _upgrade(database_url: str, package: str) -> tuple[str | None, str | None]:
    engine = create_async_engine(database_url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"SET lock_timeout = '{_LOCK_WAIT_S}s'"))
            await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
            await connection.execute(text(f"SET lock_timeout = {_TABLE_LOCK_WAIT_MS}"))
            await connection.commit()
            try:
                return await connection.run_sync(_upgrade_on, package)
            finally:
                await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
                await connection.commit()
    finally:
        await engine.dispose()


def _upgrade_on(connection: Connection, package: str) -> tuple[str | None, str | None]:
    config = _config(package)
    before = _current(connection)
    connection.rollback()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    after = _current(connection)
    connection.commit()
    return before, after


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def run_env(metadata: MetaData) -> None:
    """Be the body of a service's `env.py`: run inside the connection that `upgrade` opened."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def differences(connection: Connection, metadata: MetaData) -> Sequence[object]:
    """Return what autogenerate would still change: nothing, when tables and migrations tell the same story."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415  only the tests ask

    found: Sequence[object] = compare_metadata(
        MigrationContext.configure(connection, opts={"compare_type": True}), metadata
    )
    return found
