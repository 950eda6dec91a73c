"""Tells listeners which slots have changed: one look at the database per tick and process, however many listen.

A listener first gets the coming slots as they are, then every change. It holds no connection, only a queue with a
bound: who cannot follow is cut off, comes back, and gets the coming slots again.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from reservation_service.errors import ExperienceNotFound
from reservation_service.metrics import Metrics
from reservation_service.settings import ReservationSettings
from reservation_service.states import SlotStatus
from reservation_service.store import availability, catalogue
from reservation_service.store.availability import Mark
from shared.clock import Clock
from shared.database import Database, Row
from shared.problems import ServiceUnavailable

log = structlog.get_logger()

_QUEUE_MAX = 256
_COME_BACK_MS = 5000
# Transaction 2 is older than all others: a first look asks for everything.
_BEFORE_ALL = "2"


def selling_status(slot: Row) -> str:
    """Return a slot's status as guests see it: once its sales are over, an open slot is closed."""
    return str(SlotStatus.CLOSED if slot["status"] == SlotStatus.OPEN and slot["over"] else slot["status"])


@dataclass(frozen=True)
class SlotState:
    """What is told of a slot. `version` stays the same when only time has changed it: a hold that lapsed, sales' end."""

    id: UUID
    available: int
    capacity: int
    status: str
    version: int


class Listener:
    """One guest's ear: the slots as they were when it joined, then what changes."""

    def __init__(self, experience_id: UUID) -> None:
        self.experience_id = experience_id
        self.snapshot: Sequence[SlotState] = ()
        self.joined = False
        self.ended = asyncio.Event()
        self._news: asyncio.Queue[SlotState] = asyncio.Queue(_QUEUE_MAX)

    def tell(self, state: SlotState) -> bool:
        """Queue a change; False when the queue is full, which ends this listener."""
        try:
            self._news.put_nowait(state)
        except asyncio.QueueFull:
            self.ended.set()
            return False
        return True

    async def news(self, timeout_s: float) -> list[SlotState]:
        """Wait for changes and return all there are; none when nothing has happened for `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                told = [await self._news.get()]
        except TimeoutError:
            return []
        while not self._news.empty():
            told.append(self._news.get_nowait())
        return told


class SlotWatch:
    """The listeners of one process and what they know. Looks at the database only while somebody listens."""

    def __init__(self, database: Database, settings: ReservationSettings, metrics: Metrics, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._listeners: set[Listener] = set()
        self._known: dict[UUID, dict[UUID, SlotState]] = {}
        self._mark: Mark | None = None
        self._one_look_at_a_time = asyncio.Lock()
        self._polling: asyncio.Task[None] | None = None
        self._closed = False
        metrics.stream_listeners.set_function(lambda: len(self._listeners))

    async def join(self, experience_id: UUID) -> Listener:
        """Let somebody listen. Raises ExperienceNotFound, and ServiceUnavailable (503) when too many do already."""
        if self._closed or len(self._listeners) >= self._settings.stream_listeners_max:
            raise ServiceUnavailable("Too many are listening here.", retry_after_ms=_COME_BACK_MS)
        listener = Listener(experience_id)
        self._listeners.add(listener)
        try:
            await self._settle_in(listener)
        except BaseException:
            self.leave(listener)
            raise
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll(), name="slot-watch")
        return listener

    async def _settle_in(self, listener: Listener) -> None:
        async with self._one_look_at_a_time:
            if listener.experience_id not in self._known:
                async with self._database.reading() as connection:
                    if not await catalogue.has_experience(connection, listener.experience_id):
                        raise ExperienceNotFound
                await self._look(listener.experience_id)
            listener.snapshot = tuple(self._known[listener.experience_id].values())
            listener.joined = True
        if self._closed:
            listener.ended.set()

    def leave(self, listener: Listener) -> None:
        """Forget a listener, and what only it wanted to know."""
        self._listeners.discard(listener)
        if not any(other.experience_id == listener.experience_id for other in self._listeners):
            self._known.pop(listener.experience_id, None)

    def close(self) -> None:
        """End all listeners now and let nobody join: the process wants to go."""
        self._closed = True
        for listener in self._listeners:
            listener.ended.set()
        if self._polling is not None:
            self._polling.cancel()

    async def _poll(self) -> None:
        while self._listeners:
            await self._clock.sleep(self._settings.stream_poll_seconds)
            try:
                async with self._one_look_at_a_time:
                    await self._look()
            except Exception as error:
                # Listeners keep what they know; the next look finds all that has happened since the last good one.
                log.warning("slot_watch_failed", error=type(error).__name__, exc_info=True)
        self._mark = None

    async def _look(self, *newcomers: UUID) -> None:
        """Ask once for everything that changed, for all experiences that are listened to."""
        watched = {listener.experience_id for listener in self._listeners if listener.joined} | {*newcomers}
        if not watched:
            return
        unseen = watched - self._known.keys()
        since = self._mark or Mark(_BEFORE_ALL, self._clock.now())
        self._metrics.stream_looks.inc()
        async with self._database.reading() as connection:
            self._mark, rows = await availability.changed(connection, list(watched), unseen=list(unseen), since=since)
        for experience_id in unseen:
            self._known[experience_id] = {}
        for row in rows:
            self._note(row["experience_id"], _state(row))

    def _note(self, experience_id: UUID, state: SlotState) -> None:
        known = self._known.get(experience_id)
        if known is None or known.get(state.id) == state:
            return
        known[state.id] = state
        for listener in self._listeners:
            if listener.joined and listener.experience_id == experience_id and not listener.ended.is_set():
                told = listener.tell(state)
                if not told:
                    self._metrics.stream_listeners_cut.inc()


def _state(row: Any) -> SlotState:
    return SlotState(row["id"], row["available"], row["capacity"], selling_status(row), row["version"])
