"""The migrations and the tables tell the same story: columns, indexes, constraints, triggers and their exact wording."""

import pytest
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

import payment_service.store.tables
import reservation_service.store.tables
from shared.migrations import differences

_FROM_TABLES = "from_tables"
# pg_get_*def names the schema of everything it mentions, so both sides are read with their own schema in front.
_DEFINITIONS = text(
    """
SELECT c.conname AS name, pg_get_constraintdef(c.oid) AS definition
FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = :schema AND c.contype <> 'n'
UNION ALL
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = :schema
UNION ALL
SELECT c.relname || ' storage', array_to_string(c.reloptions, ',')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.reloptions IS NOT NULL
UNION ALL
SELECT t.tgname, pg_get_triggerdef(t.oid) || ' as ' || f.prosrc
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc f ON f.oid = t.tgfoid WHERE n.nspname = :schema AND NOT t.tgisinternal
"""
)


async def definitions(connection: AsyncConnection, schema: str) -> dict[str, str]:
    """Return PostgreSQL's own wording of every constraint, index, trigger and storage option of a schema."""
    await connection.execute(text(f"SET search_path TO {schema}"))
    rows = (await connection.execute(_DEFINITIONS, {"schema": schema})).all()
    return {row.name: row.definition.replace(f" {schema}.", " ") for row in rows if "alembic_version" not in row.name}


async def compare(url: str, metadata: MetaData) -> None:
    """Assert that a migrated database and one made from the tables are the same."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(differences, metadata)
            assert [item for item in found if "alembic_version" not in str(item)] == []
            await connection.execute(text(f"CREATE SCHEMA {_FROM_TABLES}"))
            await connection.execute(text(f"SET search_path TO {_FROM_TABLES}"))
            await connection.run_sync(metadata.create_all, checkfirst=False)
            made = await definitions(connection, _FROM_TABLES)
            migrated = await definitions(connection, "public")
            assert made
            assert migrated == made
    finally:
        await engine.dispose()


async def test_reservation_service(reservation_database_url: str) -> None:
    """A migrated reservation database is exactly what `reservation_service/store/tables.py` describes."""
    await compare(reservation_database_url, reservation_service.store.tables.metadata)


async def test_payment_service(payment_database_url: str) -> None:
    """A migrated payment database is exactly what `payment_service/store/tables.py` describes."""
    await compare(payment_database_url, payment_service.store.tables.metadata)


async def test_a_forgotten_column_and_a_weaker_check_are_seen(reservation_database_url: str) -> None:
    """The comparison reports a column that no migration adds, and a CHECK that says less than the table's."""
    engine = create_async_engine(reservation_database_url, poolclass=NullPool)
    metadata = reservation_service.store.tables.metadata
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE time_slots DROP CONSTRAINT time_slots_never_oversold"))
        await connection.execute(
            text("ALTER TABLE time_slots ADD CONSTRAINT time_slots_never_oversold CHECK (taken >= 0)")
        )
    with pytest.raises(AssertionError):
        await compare(reservation_database_url, metadata)
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE time_slots DROP COLUMN version"))
        assert await connection.run_sync(differences, metadata)
    await engine.dispose()
