"""A database whose clock jumps: whoever asks it for the time is told what a function of ours says.

The function stands before PostgreSQL's own in the search path, so every statement of the product that asks for the
time meets it, and nothing of the server is touched. Connections made before this do not.
"""

from datetime import datetime

from sqlalchemy import text

from shared.database import Database

_SCHEMA = (
    "CREATE SCHEMA jumping",
    "CREATE TABLE jumping.clock AS SELECT interval '0' AS off_by",
    """
    CREATE FUNCTION jumping.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$ SELECT pg_catalog.clock_timestamp() + off_by FROM jumping.clock $$
    """,
    """
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET search_path = jumping, public, pg_catalog', current_database());
    END $$
    """,
)


class JumpingClock:
    """The clock of one database; it keeps the right time until it is told to jump."""

    def __init__(self, database: Database) -> None:
        self.jumped_back = 0
        self._database = database

    @classmethod
    async def install(cls, url: str) -> "JumpingClock":
        """Put the clock into a database that nobody is connected to yet."""
        builder = Database.connect(url, application_name="jumping_clock", pool_size=1)
        for statement in _SCHEMA:
            async with builder.transaction("test") as tx:
                await tx.execute(text(statement))
        await builder.close()
        return cls(Database.connect(url, application_name="jumping_clock", pool_size=1))

    async def jump(self, by_s: float) -> None:
        """Let the clock jump, back for a negative number, and see that it did."""
        before = await self.reads()
        async with self._database.transaction("test") as tx:
            await tx.execute(
                text("UPDATE jumping.clock SET off_by = off_by + make_interval(secs => :by_s)"), {"by_s": by_s}
            )
        self.jumped_back += await self.reads() < before

    async def reads(self) -> datetime:
        """Return what the product's statements are told."""
        async with self._database.reading() as connection:
            now: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
        return now

    async def close(self) -> None:
        await self._database.close()
