"""API keys of resellers: made once and shown once, known in memory by their hashes, ended within a second everywhere.

A key is 32 random bytes, so one round of SHA-256 is as good as a slow hash, and costs a request nothing.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from reservation_service.booking.reservations import EXTERNAL_SCOPE
from reservation_service.errors import ApiKeyNotFound
from reservation_service.store import api_keys
from shared.auth import Caller
from shared.clock import Clock
from shared.database import Database, Row
from shared.identifiers import new_id
from shared.operator_actions import Act, record

READ_SCOPE, WRITE_SCOPE = "bookings:read", "bookings:write"
SCOPES = (READ_SCOPE, WRITE_SCOPE, EXTERNAL_SCOPE)
KEY_SUBJECT = "key:"
_MARK = "hfk_"
_PREFIX_LENGTH = len(_MARK) + 8
_KEYS_MAX = 10_000


@dataclass(frozen=True)
class _Holder:
    caller: Caller
    expires_at: datetime | None


class ApiKeys:
    """The keys that one process knows; a ticker keeps them up to date, and a change made here is known here at once."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: Mapping[bytes, _Holder] = {}

    def caller(self, token: str) -> Caller | None:
        """Return whose key this is, or None when it is none, or none any more."""
        if not token.startswith(_MARK):
            return None
        holder = self._known.get(_hash(token))
        if holder is None or (holder.expires_at is not None and holder.expires_at <= self._clock.now()):
            return None
        return holder.caller

    async def refresh(self) -> int:
        """Read the keys that are valid; run by a ticker. Nothing of it is left to do."""
        async with self._database.reading() as connection:
            rows = await api_keys.valid(connection, limit=_KEYS_MAX)
        self._known = {bytes(row["hash"]): _Holder(_caller(row), row["expires_at"]) for row in rows}
        return 0

    async def add(self, name: str, scopes: Sequence[str], expires_at: datetime | None, act: Act) -> tuple[Row, str]:
        """Make a key; returns its row, and the key itself, which nobody can show again."""
        key_id, key = new_id(), _MARK + secrets.token_urlsafe(32)
        values = {"name": name, "scopes": sorted(set(scopes)), "expires_at": expires_at, "prefix": key[:_PREFIX_LENGTH]}
        async with self._database.transaction("add_api_key") as tx:
            await api_keys.add(tx, {"id": key_id, "hash": _hash(key), "created_by": act.by, **values})
            await record(tx, act, key_id, after=values)
            row = await api_keys.find(tx, key_id)
        if row is None:
            raise ApiKeyNotFound
        await self.refresh()
        return row, key

    async def revoke(self, key_id: UUID, act: Act) -> Row:
        """End a key; again changes nothing. Raises ApiKeyNotFound."""
        async with self._database.transaction("revoke_api_key") as tx:
            was = await api_keys.lock(tx, key_id)
            if was is None:
                raise ApiKeyNotFound
            await api_keys.revoke(tx, key_id)
            row = await api_keys.find(tx, key_id)
            if was["revoked_at"] is None and row is not None:
                await record(tx, act, key_id, before={"revoked_at": None}, after={"revoked_at": row["revoked_at"]})
        await self.refresh()
        return row or was


def is_reseller(caller: Caller) -> bool:
    """Tell whether this caller books for many customers, and not for one."""
    return caller.subject.startswith(KEY_SUBJECT)


def _caller(row: Row) -> Caller:
    scopes = frozenset(row["scopes"])
    return Caller(f"{KEY_SUBJECT}{row['id']}", scopes=scopes, reads=READ_SCOPE in scopes, writes=WRITE_SCOPE in scopes)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
