"""An audit names what is wrong, counts all of it, and shows a few examples."""

from sqlalchemy import text

from shared.database import Database
from shared.invariants import Finding, Invariant, check_all

NOTHING = Invariant("N", "nothing is wrong", "SELECT n FROM generate_series(1, 0) AS n")
MUCH = Invariant("M", "much is wrong", "SELECT n FROM generate_series(1, 1000) AS n")
UNORDERED = Invariant("U", "a union is one query", "SELECT 'a' AS id UNION ALL SELECT 'b'")


async def test_each_invariant_is_counted_and_exemplified(database: Database) -> None:
    """I1..I28: all violations are counted, five of them are named, ids are text whatever their type."""
    async with database.snapshot() as connection:
        nothing, much, union = await check_all(connection, [NOTHING, MUCH, UNORDERED])
    assert nothing == Finding("N", "nothing is wrong", 0, [])
    assert (much.violations, len(much.examples)) == (1000, 5)
    assert set(much.examples) <= {str(n) for n in range(1, 1001)}
    assert (union.violations, sorted(union.examples)) == (2, ["a", "b"])


async def test_all_are_asked_about_one_moment(database: Database) -> None:
    """I2: what changes while the audit runs is no violation."""
    async with database.transaction("test") as tx:
        await tx.execute(text("CREATE TABLE IF NOT EXISTS found (id int)"))
    async with database.snapshot() as connection:
        await check_all(connection, [NOTHING])
        async with database.transaction("test") as tx:
            await tx.execute(text("INSERT INTO found VALUES (1)"))
        (late,) = await check_all(connection, [Invariant("L", "late", "SELECT id FROM found")])
    assert late.violations == 0
