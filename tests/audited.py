"""The audit at the end of a test: all invariants of a database asked in one question, over a connection of its own."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg

import payment_service.store.audit
import reservation_service.store.audit
from shared.invariants import Invariant

AUDITS: dict[str, Sequence[Invariant]] = {
    "reservation": reservation_service.store.audit.INVARIANTS,
    "payment": payment_service.store.audit.INVARIANTS,
}
# What Stripe has said and what the guests' side has to hear of it, while it has not had its effect.
_ON_ITS_WAY = (
    Invariant("webhook events", "wait for their effect", "SELECT id FROM webhook_events WHERE due_at IS NOT NULL"),
    Invariant("news", "was not heard yet", "SELECT id FROM outbox WHERE due_at IS NOT NULL"),
)
# Compiling a question of a dozen parts takes longer than asking it of a small database.
_QUICKLY = {"jit": "off", "statement_timeout": "30000", "timezone": "UTC"}


def violated(dsn: str, service: str) -> dict[str, Any]:
    """Return what a database violates: check ids with examples; asked from wherever the caller is."""
    return _asked(dsn, AUDITS[service])


def on_its_way(dsn: str) -> dict[str, Any]:
    """Return what payment_service has yet to do about what it was told, read from its database at this moment."""
    return _asked(dsn, _ON_ITS_WAY)


def _asked(dsn: str, invariants: Sequence[Invariant]) -> dict[str, Any]:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(_ask(dsn, invariants))).result()


async def _ask(dsn: str, invariants: Sequence[Invariant]) -> dict[str, Any]:
    connection = await asyncpg.connect(dsn, server_settings=_QUICKLY, timeout=20)
    try:
        rows = await connection.fetch(question(invariants), timeout=35)
    finally:
        await connection.close()
    return {row["id"]: json.loads(row["examples"]) for row in rows}


def question(invariants: Sequence[Invariant]) -> str:
    """Return all checks as one query whose rows are the violated ones."""
    each = (
        f"SELECT '{invariant.id}' AS id, json_agg(v.id::text) AS examples FROM ({invariant.violations}) AS v (id)"  # noqa: S608
        for invariant in invariants
    )
    return f"SELECT * FROM ({' UNION ALL '.join(each)}) AS checks WHERE examples IS NOT NULL"  # noqa: S608
