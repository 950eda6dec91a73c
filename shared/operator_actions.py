"""What operators did: one row for each action, written in the transaction of the change itself, and never changed.

The row says who, what, why, what it was before and what after, so that nobody has to remember.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import structlog
from sqlalchemy import Column, Index, MetaData, Table, Text, Uuid, column, insert, select, table
from sqlalchemy.dialects.postgresql import JSONB

from shared.append_only import append_only
from shared.columns import created_at
from shared.database import Connection, Row
from shared.identifiers import new_id
from shared.problems import current_trace_id

_COLUMNS = ("id", "operator", "action", "target", "reason", "before", "after", "request_id", "trace_id")
_actions = table(
    "operator_actions",
    *(column(name, JSONB(none_as_null=True)) if name in {"before", "after"} else column(name) for name in _COLUMNS),
    column("created_at"),
)


@dataclass(frozen=True)
class Act:
    """Who does what (the operation's id in the API description), and why."""

    by: str
    what: str
    why: str = ""


def operator_actions_table(metadata: MetaData) -> Table:
    """Return the table that each service keeps the actions of its own operators in."""
    actions = Table(
        "operator_actions",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("operator", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("target", Text, nullable=False, comment="the id or name of what was acted on"),
        Column("reason", Text, nullable=False, server_default=""),
        Column("before", JSONB, comment="what the action changed, as it was"),
        Column("after", JSONB, comment="and as it is since"),
        Column("request_id", Text, nullable=False, server_default=""),
        Column("trace_id", Text, nullable=False, server_default=""),
        created_at(),
        Index("operator_actions_by_target", "target", "id"),
        Index("operator_actions_by_operator", "operator", "id"),
    )
    return append_only(actions)


async def record(
    tx: Connection,
    act: Act,
    target: object,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write an action down, in the transaction that makes the change."""
    row = {
        "id": new_id(),
        "operator": act.by,
        "action": act.what,
        "target": str(target),
        "reason": act.why,
        "before": _plain(before),
        "after": _plain(after),
        "request_id": structlog.contextvars.get_contextvars().get("request_id", ""),
        "trace_id": current_trace_id(),
    }
    await tx.execute(insert(_actions).values(row))


async def record_change(tx: Connection, act: Act, target: object, was: Row, changes: Mapping[str, Any]) -> None:
    """Write down an action that changes some columns of one row."""
    await record(tx, act, target, before={name: was[name] for name in changes}, after=changes)


async def page(
    connection: Connection, *, limit: int, after: UUID | None, target: str | None, operator: str | None
) -> Sequence[Row]:
    """Return actions, newest first; ask for one more than wanted to learn whether there are more."""
    query = select(_actions).order_by(_actions.c.id.desc()).limit(limit)
    if after:
        query = query.where(_actions.c.id < after)
    if target is not None:
        query = query.where(_actions.c.target == target)
    if operator is not None:
        query = query.where(_actions.c.operator == operator)
    rows: Sequence[Row] = (await connection.execute(query)).mappings().all()
    return rows


def _plain(values: Mapping[str, Any] | None) -> Any:
    """Return values as JSON can hold them: ids and instants as text."""
    return None if values is None else orjson.loads(orjson.dumps(dict(values), default=str))
