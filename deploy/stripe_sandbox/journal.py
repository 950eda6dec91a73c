"""The journal: every call to Stripe's API that arrived, and what became of it, for tests and for the curious."""

from typing import Any

import orjson

from .state import Document, State

KEPT = 50_000
_HIDDEN = {"number", "cvc", "iban"}


def record(state: State, at: float, entry: Document) -> None:
    """Append one call; card numbers are cut to their last four digits, test cards or not."""
    entry["params"] = _masked(entry.get("params"))
    state.run("INSERT INTO journal (at, entry) VALUES (?, ?)", at, orjson.dumps(entry))


def entries(state: State, *, operation: str | None, after: int, limit: int) -> list[Document]:
    """Return calls after a journal number, oldest first."""
    rows = state.run(
        "SELECT id, at, entry FROM journal WHERE id > ? AND (? IS NULL OR json_extract(CAST(entry AS TEXT), '$.operation') = ?) ORDER BY id LIMIT ?",
        after, operation, operation, limit,
    ).fetchall()  # fmt: skip
    return [{"id": row[0], "at": row[1]} | orjson.loads(row[2]) for row in rows]


def prune(state: State) -> None:
    state.run("DELETE FROM journal WHERE id <= (SELECT max(id) FROM journal) - ?", KEPT)


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: f"...{item[-4:]}" if name in _HIDDEN and isinstance(item, str) else _masked(item)
        for name, item in value.items()
    }
