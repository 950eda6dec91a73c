"""Sends many stored events round again after a fix: planned, looked at, confirmed, and then done a few at a time.

A replayed event goes the way of a new one: it makes the worker ask Stripe again, so a replay never does anything twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog

from payment_service.errors import WebhookReplayClosed, WebhookReplayNotFound
from payment_service.settings import PaymentSettings
from payment_service.store import webhook_replays
from payment_service.store.webhook_replays import Criteria
from shared.database import Connection, Database, Row
from shared.operator_actions import Act, record

log = structlog.get_logger()


@dataclass(frozen=True)
class ReplayLimits:
    """How much one replay may be about and do at a time, and how long its plan is good."""

    batch: int
    pause_s: float
    max_events: int
    plan_valid_s: float

    @classmethod
    def of(cls, settings: PaymentSettings) -> "ReplayLimits":
        return cls(
            batch=settings.webhook_replay_batch_size,
            pause_s=settings.webhook_replay_poll_seconds,
            max_events=settings.webhook_replay_max_events,
            plan_valid_s=settings.webhook_replay_plan_valid_s,
        )


class Replaying:
    """`nudge` wakes the worker that processes events."""

    def __init__(self, database: Database, limits: ReplayLimits, *, nudge: Callable[[], None]) -> None:
        self._database = database
        self._limits = limits
        self._nudge = nudge

    async def plan(self, criteria: Criteria, *, by: str) -> tuple[Row, int]:
        """Write a plan down; returns it, and how many events match now (more than it takes, perhaps)."""
        limits = self._limits
        async with self._database.transaction("plan_replay") as tx:
            await webhook_replays.forget_unconfirmed(tx)
            matching = await webhook_replays.count_matching(tx, criteria)
            replay_id = await webhook_replays.plan(
                tx, criteria, by=by, valid_s=limits.plan_valid_s, limit=limits.max_events
            )
            planned = await _found(tx, replay_id)
            await record(
                tx, Act(by, "planWebhookReplay"), replay_id, after=vars(criteria) | {"total": planned["total"]}
            )
            return planned, matching

    async def show(self, replay_id: UUID) -> Row:
        """Return a replay and how far it has come. Raises WebhookReplayNotFound (404)."""
        async with self._database.reading() as connection:
            return await _found(connection, replay_id)

    async def confirm(self, replay_id: UUID, *, by: str, reason: str) -> Row:
        """Let a plan be carried out; the same call again changes nothing.

        Raises WebhookReplayNotFound (404), and WebhookReplayClosed (409) for one that was cancelled or is too old.
        """
        async with self._database.transaction("confirm_replay") as tx:
            was = await _found(tx, replay_id)
            if not await webhook_replays.start(tx, replay_id, by=by, reason=reason):
                raise WebhookReplayClosed
            replay = await _found(tx, replay_id)
            await _note_move(tx, Act(by, "confirmWebhookReplay", reason), was, replay)
        log.info("webhook_replay_confirmed", replay_id=str(replay_id), total=replay["total"])
        return replay

    async def cancel(self, replay_id: UUID, *, by: str) -> Row:
        """Send no further event round; what is on its way goes on.

        Raises WebhookReplayNotFound (404), and WebhookReplayClosed (409) for one that is done.
        """
        async with self._database.transaction("cancel_replay") as tx:
            was = await _found(tx, replay_id)
            if not await webhook_replays.stop(tx, replay_id, by=by):
                raise WebhookReplayClosed
            stopped = await _found(tx, replay_id)
            await _note_move(tx, Act(by, "cancelWebhookReplay"), was, stopped)
            return stopped

    async def replay_due(self) -> int:
        """Do the next bit of one running replay, if there is any; always 0, because its pace is its own."""
        async with self._database.reading() as connection:
            if not await webhook_replays.is_any_due(connection):
                return 0
        async with self._database.transaction("step_replay") as tx:
            revived = await webhook_replays.step(tx, batch=self._limits.batch, pause_s=self._limits.pause_s)
        if revived:
            self._nudge()
        return 0


async def _note_move(tx: Connection, act: Act, was: Row, now: Row) -> None:
    """Write an action down, unless it only repeats what was done."""
    if was["status"] != now["status"]:
        await record(tx, act, now["id"], before={"status": was["status"]}, after={"status": now["status"]})


async def _found(connection: Connection, replay_id: UUID) -> Row:
    replay = await webhook_replays.find(connection, replay_id)
    if replay is None:
        raise WebhookReplayNotFound
    return replay
