"""What must never be untrue, checked on live data: a sentence, and the query that finds whatever makes it untrue."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from shared.database import Connection

_EXAMPLES = 5
# Any number will do as long as it is always the same one, and no other lock has it.
_ADVISORY_LOCK = 7_204_514


@dataclass(frozen=True)
class Invariant:
    """`violations` is a query of one column, the id of each violating row; it finds nothing that is merely on its way."""

    id: str
    title: str
    violations: str


@dataclass(frozen=True)
class Finding:
    """What a check has found: how many rows, and the first few of them."""

    id: str
    title: str
    violations: int
    examples: list[str]


async def only_one_checks(connection: Connection) -> bool:
    """Tell whether this transaction may check: an audit costs seconds, so no two of them run beside each other."""
    taken = await connection.execute(text(f"SELECT pg_try_advisory_xact_lock({_ADVISORY_LOCK})"))
    return bool(taken.scalar_one())


async def check_all(connection: Connection, invariants: Sequence[Invariant]) -> list[Finding]:
    """Check every invariant on the caller's snapshot."""
    return [await _check(connection, invariant) for invariant in invariants]


async def _check(connection: Connection, invariant: Invariant) -> Finding:
    query = f"SELECT count(*) OVER () AS n, id::text FROM ({invariant.violations}) AS v (id) LIMIT {_EXAMPLES}"  # noqa: S608  our own text
    rows = (await connection.execute(text(query))).all()
    return Finding(invariant.id, invariant.title, rows[0].n if rows else 0, [row.id for row in rows])
