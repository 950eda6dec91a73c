"""How far each comparison with Stripe has come, and what it found that nobody here knew."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from payment_service.states import FindingKind, Pass
from payment_service.store.tables import payments
from payment_service.store.tables import reconciliation_findings as findings
from payment_service.store.tables import reconciliation_passes as passes
from shared import due_rows
from shared.changes import NOW
from shared.database import Connection, Row
from shared.identifiers import new_id


@dataclass(frozen=True)
class Window:
    """A claimed comparison: which stretch of Stripe's time is read, and where reading goes on."""

    id: UUID
    name: Pass
    epoch: int
    since: datetime
    until: datetime
    cursor: str | None


async def claim(tx: Connection, *, lease_s: float, settle_s: dict[Pass, float], overlap_s: float) -> list[Window]:
    """Lease the comparisons that are due; each is made by one process at a time."""
    await _begin(tx)
    rows = await due_rows.claim_due(tx, passes, limit=len(Pass), lease_s=lease_s)
    now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
    return [_window(row, now, settle_s[Pass(row["name"])], overlap_s) for row in rows]


async def _begin(tx: Connection) -> None:
    """On the first day there is nothing to go on from: make the rows that remember."""
    await tx.execute(
        insert(passes)
        .values([{"id": new_id(), "name": name, "due_at": func.clock_timestamp()} for name in Pass])
        .on_conflict_do_nothing(index_elements=["name"])
    )


def _window(row: Row, now: datetime, settle_s: float, overlap_s: float) -> Window:
    until = row["reading_until"] or now - timedelta(seconds=settle_s)
    since = (row["seen_until"] or until) - timedelta(seconds=overlap_s)
    return Window(row["id"], Pass(row["name"]), row["lease_epoch"], since, until, row["cursor"])


async def still_mine(tx: Connection, window: Window, *, lease_s: float) -> bool:
    """Lock the row; False when another worker has taken over, and nothing may be written."""
    return await due_rows.still_mine(tx, passes, window.id, window.epoch, lease_s=lease_s)


async def note_page(tx: Connection, window: Window, *, cursor: str, looked: int, found: int) -> None:
    """Remember where the next page begins, in the transaction that stored this one."""
    await tx.execute(
        update(passes)
        .where(passes.c.id == window.id)
        .values(
            reading_until=window.until,
            cursor=cursor,
            looked=passes.c.looked + looked,
            found=passes.c.found + found,
        )
    )


async def complete(tx: Connection, window: Window, *, next_in_s: float) -> None:
    """The window has been read to its end; the next one begins where it ended."""
    await due_rows.put_back(
        tx,
        passes,
        window.id,
        window.epoch,
        due_in_s=next_in_s,
        attempts=0,
        seen_until=window.until,
        reading_until=None,
        cursor=None,
        finished_at=NOW,
        last_error=None,
    )


async def interrupt(tx: Connection, window: Window, error: str, *, next_in_s: float) -> None:
    """Stripe could not be asked: go on later, at the same page."""
    await due_rows.put_back(tx, passes, window.id, window.epoch, due_in_s=next_in_s, last_error=error)


async def run_now(tx: Connection) -> None:
    """Let every comparison that nobody is at fall due at once."""
    await tx.execute(update(passes).values(due_at=func.clock_timestamp()))


async def add_finding(
    tx: Connection, kind: FindingKind, *, stripe_id: str, payment_id: UUID | None, amount: int, currency: str
) -> bool:
    """Write a finding down once; False when it was known."""
    added = await tx.execute(
        insert(findings)
        .values(id=new_id(), stripe_id=stripe_id, kind=kind, payment_id=payment_id, amount=amount, currency=currency)
        .on_conflict_do_nothing()
        .returning(findings.c.id)
    )
    return added.scalar_one_or_none() is not None


async def settled_orphans(connection: Connection, stripe_ids: Sequence[str]) -> set[str]:
    """Return which of these have been dealt with as orphans before."""
    found = await connection.execute(
        select(findings.c.stripe_id).where(findings.c.stripe_id.in_(stripe_ids), findings.c.kind != FindingKind.ADOPTED)
    )
    return set(found.scalars())


async def ours_among(connection: Connection, intent_ids: Sequence[str]) -> set[str]:
    """Return those of these intents that a payment has, or that were dealt with as orphans: their money matters too."""
    found = await connection.execute(select(payments.c.intent_id).where(payments.c.intent_id.in_(intent_ids)))
    return set(found.scalars()) | await settled_orphans(connection, intent_ids)


async def state(connection: Connection) -> list[dict[str, Any]]:
    """Return how far each comparison has come, and how many seconds ago it was last complete."""
    age = func.greatest(func.extract("epoch", func.clock_timestamp() - passes.c.finished_at), 0)  # clocks jump back
    found = await connection.execute(select(passes, age.label("age_s")).order_by(passes.c.name))
    return [dict(row) for row in found.mappings()]


async def latest_findings(connection: Connection, *, limit: int) -> Sequence[dict[str, Any]]:
    """Return findings, newest first."""
    found = await connection.execute(select(findings).order_by(findings.c.id.desc()).limit(literal(limit)))
    return [dict(row) for row in found.mappings()]
