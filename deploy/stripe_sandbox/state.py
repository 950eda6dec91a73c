"""All that the sandbox remembers, in one SQLite file, so that killing it loses nothing that it has answered.

WAL with `synchronous=NORMAL`: what is committed survives the death of the process, which is what the tests inflict; only
a power cut of the machine could take the last moments away, and then the whole embedded system starts from the same disk.
There is one writer, the event loop's thread, so no statement ever waits for another.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

Document = dict[str, Any]
"""One of Stripe's objects as JSON; what only the sandbox knows lies under `PRIVATE` and is never shown."""

PRIVATE = "_sandbox"

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- lists are newest first, and many objects share one second
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,                     -- Stripe's `object`
    intent TEXT,                            -- the PaymentIntent it belongs to
    label TEXT,                             -- an event's type
    created INTEGER NOT NULL,               -- by the sandbox's clock
    document BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (kind, seq);
CREATE INDEX IF NOT EXISTS objects_by_intent ON objects (intent, kind, seq) WHERE intent IS NOT NULL;
CREATE TABLE IF NOT EXISTS idempotency (
    key TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    request_id TEXT NOT NULL,
    created INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    state TEXT NOT NULL,                    -- pending, held, delivered
    due_at REAL NOT NULL,                   -- by the machine's clock: receivers live in real time
    waits_for INTEGER,                      -- reordered: goes out after this delivery; 0 = after the next one made
    attempts INTEGER NOT NULL DEFAULT 0,
    last_status INTEGER,
    last_error TEXT,
    delivered_at REAL
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS deliveries_by_event ON deliveries (event_id);
CREATE TABLE IF NOT EXISTS timers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    due INTEGER NOT NULL,                   -- by the sandbox's clock
    action TEXT NOT NULL,
    object_id TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS timers_due ON timers (due);
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    entry BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS faults (id INTEGER PRIMARY KEY AUTOINCREMENT, document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class State:
    """The file, and the few ways in which documents go in and out of it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=5)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "temp_store = MEMORY"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(SCHEMA)

    def close(self) -> None:
        self._connection.close()

    def run(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Run one statement for a module that owns a table of its own (journal, deliveries, faults, ...)."""
        return self._connection.execute(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; the answer leaves only after this has ended."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def step(self) -> Iterator[None]:
        """Take back what was written inside when an error comes out, unless the error `keeps_effects` (a decline does)."""
        self._connection.execute("SAVEPOINT step")
        try:
            yield
        except Exception as error:
            if not getattr(error, "keeps_effects", False):
                self._connection.execute("ROLLBACK TO step")
            raise
        finally:
            self._connection.execute("RELEASE step")

    def insert(self, document: Document, *, intent: str | None = None, label: str | None = None) -> Document:
        self._connection.execute(
            "INSERT INTO objects (id, kind, intent, label, created, document) VALUES (?, ?, ?, ?, ?, ?)",
            (document["id"], document["object"], intent, label, document["created"], orjson.dumps(document)),
        )
        return document

    def save(self, document: Document) -> None:
        self._connection.execute(
            "UPDATE objects SET document = ? WHERE id = ?", (orjson.dumps(document), document["id"])
        )

    def delete(self, object_id: str) -> None:
        self._connection.execute("DELETE FROM objects WHERE id = ?", (object_id,))

    def find(self, kind: str, object_id: str) -> Document | None:
        row = self._connection.execute(
            "SELECT document FROM objects WHERE id = ? AND kind = ?", (object_id, kind)
        ).fetchone()
        return None if row is None else orjson.loads(row[0])

    def fetch(self, kind: str, object_id: str) -> Document:
        """Return a document that another one refers to; its absence would be a bug of ours."""
        document = self.find(kind, object_id)
        if document is None:
            raise LookupError(f"{kind} {object_id} is referred to and absent")
        return document

    def all_of(self, kind: str, *, intent: str | None = None) -> list[Document]:
        """Return the documents of one kind, oldest first; `intent` narrows it to one PaymentIntent's."""
        where, values = ("kind = ?", [kind]) if intent is None else ("kind = ? AND intent = ?", [kind, intent])
        rows = self._connection.execute(f"SELECT document FROM objects WHERE {where} ORDER BY seq", values)  # noqa: S608  # two literals
        return [orjson.loads(row[0]) for row in rows]

    def note(self, name: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def noted(self, name: str, default: str = "") -> str:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return default if row is None else str(row[0])


def public(document: Document) -> Document:
    """Return the document as the API shows it."""
    return {name: value for name, value in document.items() if name != PRIVATE}


def private(document: Document) -> Document:
    """Return, for reading and writing, what only the sandbox knows about the document."""
    hidden: Document = document.setdefault(PRIVATE, {})
    return hidden
