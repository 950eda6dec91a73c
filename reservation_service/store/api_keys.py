"""Rows of API keys: what a reseller's programs sign in with. Only a hash is stored, so that a stolen table opens nothing."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, or_, select, update

from reservation_service.store.tables import api_keys
from shared.database import Connection, Row

_SHOWN = tuple(column for column in api_keys.c if column.name != "hash")


async def add(tx: Connection, key: Mapping[str, Any]) -> None:
    await tx.execute(insert(api_keys).values(**key))


async def lock(tx: Connection, key_id: UUID) -> Row | None:
    """Lock a key for an operator's change, or None."""
    found = await tx.execute(select(*_SHOWN).where(api_keys.c.id == key_id).with_for_update())
    return found.mappings().one_or_none()


async def revoke(tx: Connection, key_id: UUID) -> None:
    """End a key; one that has ended keeps the time when it did."""
    ended = func.coalesce(api_keys.c.revoked_at, func.clock_timestamp())
    await tx.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=ended))


async def find(connection: Connection, key_id: UUID) -> Row | None:
    found = await connection.execute(select(*_SHOWN).where(api_keys.c.id == key_id))
    return found.mappings().one_or_none()


async def valid(connection: Connection, *, limit: int) -> Sequence[Row]:
    """Return the keys that open something now, with their hashes."""
    lives = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.clock_timestamp())
    query = select(api_keys).where(api_keys.c.revoked_at.is_(None), lives).order_by(api_keys.c.id).limit(limit)
    rows: Sequence[Row] = (await connection.execute(query)).mappings().all()
    return rows


async def page(connection: Connection, *, limit: int, after: UUID | None) -> Sequence[Row]:
    """Return keys without their hashes, newest first."""
    query = select(*_SHOWN).order_by(api_keys.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(api_keys.c.id < after)
    rows: Sequence[Row] = (await connection.execute(query)).mappings().all()
    return rows
