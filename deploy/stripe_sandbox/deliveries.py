"""Webhook deliveries: signed, sent until somebody answers 2xx, and remembered over a restart."""

import asyncio
import hashlib
import hmac
from contextlib import suppress
from functools import partial

import orjson

from .clock import SandboxClock
from .faults import Fault
from .posting import Poster, PostFailed
from .state import Document, State, private, public
from .turn import Turn

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
"""Waits after each failure; the last one repeats. Stripe waits hours, but nobody watches a test for three days."""
_CONCURRENT_MAX = 32
_ATTEMPT_TIMEOUT_S = 10.0
_IDLE_S = 0.5
_REORDERED_AT_MOST_S = 2.0


def schedule(turn: Turn, event: Document, faults: list[Fault]) -> None:
    """Write one delivery per endpoint that wants the event, bent as the faults say."""
    lost = any(fault.action == "lose" for fault in faults)
    reordered = any(fault.action == "reorder" for fault in faults)
    copies = max((fault.copies for fault in faults if fault.action == "double"), default=1)
    due_at = turn.wall + sum(fault.delay_ms for fault in faults if fault.action == "delay") / 1000
    state = "lost" if lost else "held" if turn.state.noted("webhooks_held") else "pending"
    for endpoint in turn.state.all_of("webhook_endpoint"):
        if endpoint["status"] != "enabled" or not {"*", event["type"]} & set(endpoint["enabled_events"]):
            continue
        for _ in range(copies):
            cursor = turn.state.run(
                "INSERT INTO deliveries (event_id, endpoint_id, state, due_at, waits_for) VALUES (?, ?, ?, ?, ?)",
                event["id"],
                endpoint["id"],
                state,
                due_at + (_REORDERED_AT_MOST_S if reordered else 0),
                0 if reordered else None,
            )
            turn.deliveries.append(cursor.lastrowid or 0)
            if not reordered:
                turn.state.run(
                    "UPDATE deliveries SET waits_for = ? WHERE waits_for = 0 AND endpoint_id = ? AND state = 'pending'",
                    cursor.lastrowid,
                    endpoint["id"],
                )


def undelivered(state: State, event_id: str) -> int:
    """Return how many endpoints have not taken the event yet (`pending_webhooks`)."""
    row = state.run("SELECT count(*) FROM deliveries WHERE event_id = ? AND state <> 'delivered'", event_id).fetchone()
    return int(row[0])


def hold(state: State) -> None:
    """Keep back all deliveries from now on, those waiting for another try included."""
    state.note("webhooks_held", "1")
    state.run("UPDATE deliveries SET state = 'held' WHERE state = 'pending'")


def release(state: State, now: float, order: str) -> int:
    """Let held deliveries go, `in_order` or `reversed`, 20 ms apart so that the order is the receiver's too."""
    state.note("webhooks_held", "")
    rows = state.run("SELECT id FROM deliveries WHERE state = 'held' ORDER BY id").fetchall()
    for position, (delivery_id,) in enumerate(reversed(rows) if order == "reversed" else rows):
        state.run(
            "UPDATE deliveries SET state = 'pending', due_at = ? WHERE id = ?", now + position * 0.02, delivery_id
        )
    return len(rows)


def redeliver(state: State, now: float, event_id: str, copies: int) -> int:
    """Send an event again to all endpoints, delivered or not, as the button in Stripe's dashboard does."""
    endpoints = [endpoint["id"] for endpoint in state.all_of("webhook_endpoint") if endpoint["status"] == "enabled"]
    for endpoint_id in endpoints * copies:
        state.run(
            "INSERT INTO deliveries (event_id, endpoint_id, state, due_at) VALUES (?, ?, 'pending', ?)",
            event_id,
            endpoint_id,
            now,
        )
    return len(endpoints) * copies


def described(state: State, event_id: str | None = None) -> list[Document]:
    """Return the last thousand deliveries, oldest first, for tests to look at."""
    names = (
        "id",
        "event_id",
        "endpoint_id",
        "state",
        "due_at",
        "attempts",
        "last_status",
        "last_error",
        "delivered_at",
        "type",
    )
    rows = state.run(
        "SELECT d.id, d.event_id, d.endpoint_id, d.state, d.due_at, d.attempts, d.last_status, d.last_error, d.delivered_at, o.label "
        "FROM deliveries d JOIN objects o ON o.id = d.event_id WHERE ? IS NULL OR d.event_id = ? ORDER BY d.id DESC LIMIT 1000",
        event_id,
        event_id,
    ).fetchall()
    return [dict(zip(names, row, strict=True)) for row in reversed(rows)]


def signature_header(payload: bytes, secret: str, moment: int) -> str:
    """Return `Stripe-Signature` for these bytes at this second of the machine's clock."""
    digest = hmac.new(secret.encode(), b"%d.%s" % (moment, payload), hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


class Deliverer:
    """Sends what is due, at most 32 at once; forgets nothing, because the rows are the queue."""

    def __init__(self, state: State, clock: SandboxClock) -> None:
        self._state = state
        self._clock = clock
        self._due = asyncio.Event()
        self._landing = asyncio.Event()  # set, and replaced, whenever an attempt has ended
        self._flying: dict[int, asyncio.Task[None]] = {}
        self._poster = Poster(idle_max=_CONCURRENT_MAX)

    def wake(self) -> None:
        """Something may have become due."""
        self._due.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                self._due.clear()
                self._take_off()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), self._next_due_in())
        finally:
            for task in self._flying.values():
                task.cancel()
            await asyncio.gather(*self._flying.values(), return_exceptions=True)
            self._poster.close()

    async def tried_once(self, delivery_ids: list[int], timeout_s: float) -> None:
        """Wait until each of these has had its first attempt, or the time is over."""
        marks = ", ".join("?" for _ in delivery_ids)
        query = f"SELECT count(*) FROM deliveries WHERE id IN ({marks}) AND attempts = 0 AND state = 'pending'"  # noqa: S608  # only marks
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._state.run(query, *delivery_ids).fetchone()[0]:
                    await self._landing.wait()

    def _take_off(self) -> None:
        room = _CONCURRENT_MAX - len(self._flying)
        rows = self._state.run(
            "SELECT id, event_id, endpoint_id, attempts FROM deliveries WHERE state = 'pending' AND due_at <= ? ORDER BY due_at, id LIMIT ?",
            self._clock.wall(),
            _CONCURRENT_MAX,
        ).fetchall()
        for row in [row for row in rows if row[0] not in self._flying][:room]:
            task = asyncio.create_task(self._deliver(*row))
            self._flying[row[0]] = task
            task.add_done_callback(partial(self._landed, row[0]))

    def _landed(self, delivery_id: int, _task: asyncio.Task[None]) -> None:
        self._flying.pop(delivery_id, None)
        self._due.set()
        self._landing.set()
        self._landing = asyncio.Event()

    def _next_due_in(self) -> float:
        if len(self._flying) >= _CONCURRENT_MAX:
            return _IDLE_S
        rows = self._state.run(
            "SELECT id, due_at FROM deliveries WHERE state = 'pending' ORDER BY due_at LIMIT ?", _CONCURRENT_MAX + 1
        ).fetchall()
        due_at = next((due_at for delivery_id, due_at in rows if delivery_id not in self._flying), None)
        return _IDLE_S if due_at is None else min(max(due_at - self._clock.wall(), 0.0), _IDLE_S)

    async def _deliver(self, delivery_id: int, event_id: str, endpoint_id: str, attempts: int) -> None:
        endpoint = self._state.find("webhook_endpoint", endpoint_id)
        if endpoint is None:
            self._state.run(
                "UPDATE deliveries SET state = 'lost', last_error = 'endpoint deleted' WHERE id = ?", delivery_id
            )
            return
        event = self._state.fetch("event", event_id)
        payload = orjson.dumps(public(event) | {"pending_webhooks": undelivered(self._state, event_id)})
        status, error = await self._post(endpoint, payload)
        delivered = status is not None and 200 <= status < 300
        now = self._clock.wall()
        wait_s = BACKOFF_S[min(attempts, len(BACKOFF_S) - 1)]
        self._state.run(
            "UPDATE deliveries SET attempts = attempts + 1, last_status = ?, last_error = ?, due_at = ?, "
            "delivered_at = CASE WHEN ? THEN ? END, state = CASE WHEN ? THEN 'delivered' ELSE state END WHERE id = ?",
            status, error, now + wait_s, delivered, now, delivered, delivery_id,
        )  # fmt: skip
        self._state.run("UPDATE deliveries SET waits_for = NULL, due_at = ? WHERE waits_for = ?", now, delivery_id)

    async def _post(self, endpoint: Document, payload: bytes) -> tuple[int | None, str | None]:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature_header(payload, private(endpoint)["secret"], int(self._clock.wall())),
            "User-Agent": "Holdfast-Stripe-Sandbox/1.0 (not Stripe)",
        }
        try:
            return await self._poster.post(endpoint["url"], payload, headers, _ATTEMPT_TIMEOUT_S), None
        except PostFailed as failure:
            return None, str(failure)
