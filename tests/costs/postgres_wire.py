"""A wire to PostgreSQL that counts what passes: statements, trips there and back, commits, whatever the driver makes of it.

It reads the frontend's half of the protocol (manual, "Message Formats"), so nothing that costs a trip can hide from it.
What a connection prepares on first use is counted apart: it is paid once, not for every booking.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.doubles.fault_proxy import FaultProxy

_SSL_REQUEST = 80877103
_WRITES = re.compile(r"\b(INSERT INTO|UPDATE \w+ (AS \w+ )?SET|DELETE FROM)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Passed:
    """What has passed so far; subtract two of these to know what something has cost."""

    statements: int
    trips: int
    commits: int
    preparations: int
    texts: Counter[str]

    def __sub__(self, before: "Passed") -> "Passed":
        return Passed(
            self.statements - before.statements,
            self.trips - before.trips,
            self.commits - before.commits,
            self.preparations - before.preparations,
            self.texts - before.texts,
        )

    def __str__(self) -> str:
        return f"{self.statements} statements, {self.trips} round trips, {self.commits} commits"


class CountingWire(FaultProxy):
    """Forwards everything, and counts it."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self._frontends: dict[asyncio.Task[None] | None, _Frontend] = {}

    @property
    def passed(self) -> Passed:
        """What all connections have sent, those that are gone included."""
        total = Passed(0, 0, 0, 0, Counter())
        for one in list(self._frontends.values()):
            total = Passed(
                total.statements + one.statements,
                total.trips + one.trips,
                total.commits + one.commits,
                total.preparations + one.preparations,
                total.texts + one.texts,
            )
        return total

    async def _on_request(self, chunk: bytes) -> bytes:
        frontend = self._frontends.setdefault(asyncio.current_task(), _Frontend())
        frontend.read(chunk)
        return await super()._on_request(chunk)


@dataclass
class _Frontend:
    """One connection's half of the conversation, read message by message."""

    statements: int = 0
    trips: int = 0
    commits: int = 0
    preparations: int = 0
    texts: Counter[str] = field(default_factory=Counter)
    _rest: bytes = b""
    _is_started: bool = False
    _in_transaction: bool = False
    _writes: bool = False
    _prepares: bool = False
    _runs: bool = False
    _names: dict[bytes, str] = field(default_factory=dict)
    _portals: dict[bytes, str] = field(default_factory=dict)

    def read(self, chunk: bytes) -> None:
        for kind, body in self._messages(chunk):
            match kind:
                case b"Q":
                    self._run(body[:-1].decode())
                    self._end_trip()
                case b"P":
                    name, sql, _ = body.split(b"\0", 2)
                    self._names[name], self._prepares = sql.decode(), True
                case b"B":
                    portal, name, _ = body.split(b"\0", 2)
                    self._portals[portal] = self._names.get(name, "")
                case b"E":
                    self._run(self._portals.get(body.split(b"\0", 1)[0], ""))
                case b"S":
                    self._end_trip()

    def _messages(self, chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._rest += chunk
        while len(self._rest) >= 8 or (self._is_started and len(self._rest) >= 5):
            head = 1 if self._is_started else 0  # the first messages have no letter
            size = head + int.from_bytes(self._rest[head : head + 4])
            if len(self._rest) < size:
                return
            message, self._rest = self._rest[:size], self._rest[size:]
            if self._is_started:
                yield message[:1], message[5:]
            else:
                self._is_started = int.from_bytes(message[4:8]) != _SSL_REQUEST

    def _run(self, sql: str) -> None:
        word = sql.strip().partition(" ")[0].rstrip(";").upper()
        if word == "BEGIN":
            self._in_transaction = True
        elif word in {"COMMIT", "ROLLBACK"}:
            self.commits += word == "COMMIT"
            self._in_transaction = False
        else:
            self.statements += 1
            self.texts[sql] += 1
            self._writes |= bool(_WRITES.search(sql))
        self._runs = True

    def _end_trip(self) -> None:
        """Count a trip; one that only prepared something is a preparation, and a write outside BEGIN is its own commit."""
        if self._prepares and not self._runs:
            self.preparations += 1
        else:
            self.trips += 1
            self.commits += self._writes and not self._in_transaction
        self._prepares = self._runs = self._writes = False
