"""What all processes share of the breakers: one row each, every move one conditional statement, on the database's clock.

A row that is missing means closed. The first process to open decides when the rest is over; one probe at a time has the
lease, and only who has it may say how the probe went.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Update, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from payment_service.states import BreakerState
from payment_service.store.tables import breakers
from shared.changes import from_now
from shared.database import Connection, Row
from shared.prepared import Prepared

_NO_PROBE = {"probe": None, "probe_until": None}


def _left_s(until: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return how far away an instant is: processes whose clocks differ can agree on that."""
    left = func.extract("epoch", until - func.clock_timestamp())
    return func.greatest(func.coalesce(left, 0), 0)


_READ = Prepared(
    select(
        breakers.c.name,
        breakers.c.state,
        breakers.c.since,
        breakers.c.reason,
        breakers.c.forced,
        breakers.c.forced_by,
        _left_s(breakers.c.rests_until).label("rest_left_s"),
        _left_s(breakers.c.probe_until).label("probe_left_s"),
    )
)


async def read(connection: Connection) -> Sequence[Row]:
    """Return every breaker that ever did anything."""
    return await _READ.rows(connection)


async def open_(connection: Connection, name: str, reason: str, *, rest_s: float) -> None:
    """Open a breaker; one that is open already, or that an operator holds, stays as it is."""
    values = {
        "state": BreakerState.OPEN,
        "since": func.clock_timestamp(),
        "rests_until": from_now(rest_s),
        "reason": reason,
    }
    await connection.execute(
        insert(breakers)
        .values(name=name, **values)
        .on_conflict_do_update(
            index_elements=["name"],
            set_=values,
            where=and_(breakers.c.state == BreakerState.CLOSED, breakers.c.forced.is_(None)),
        )
    )


async def claim_probe(connection: Connection, name: str, probe: UUID, *, lease_s: float) -> bool:
    """Take the right to try the provider, if the rest is over and nobody has it."""
    nobody = or_(breakers.c.probe_until.is_(None), breakers.c.probe_until < func.clock_timestamp())
    claimed = await connection.execute(
        update(breakers)
        .where(
            breakers.c.name == name,
            breakers.c.state == BreakerState.OPEN,
            breakers.c.forced.is_(None),
            breakers.c.rests_until <= func.clock_timestamp(),
            nobody,
        )
        .values(probe=probe, probe_until=from_now(lease_s))
    )
    return claimed.rowcount == 1


async def close(connection: Connection, name: str, probe: UUID, reason: str) -> None:
    """Close a breaker after a good probe."""
    values = {"state": BreakerState.CLOSED, "since": func.clock_timestamp(), "rests_until": None, "reason": reason}
    await connection.execute(_after_probe(name, probe).values(**values, **_NO_PROBE))


async def rest_again(connection: Connection, name: str, probe: UUID, reason: str, *, rest_s: float) -> None:
    """Let a breaker rest once more after a bad probe."""
    await connection.execute(_after_probe(name, probe).values(rests_until=from_now(rest_s), reason=reason, **_NO_PROBE))


def _after_probe(name: str, probe: UUID) -> Update:
    return update(breakers).where(breakers.c.name == name, breakers.c.probe == probe)


async def force(connection: Connection, name: str, forced: BreakerState | None, *, by: str, reason: str) -> None:
    """Hold a breaker open or closed, or let it go; in each case it begins anew."""
    values = {
        "state": BreakerState.CLOSED,
        "since": func.clock_timestamp(),
        "rests_until": None,
        "reason": reason,
        "forced": forced,
        "forced_by": by if forced else None,
        **_NO_PROBE,
    }
    await connection.execute(
        insert(breakers).values(name=name, **values).on_conflict_do_update(index_elements=["name"], set_=values)
    )
