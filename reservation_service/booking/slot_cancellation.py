"""A departure that will not take place: holds are released, pending bookings unwound, final ones cancelled and refunded.

The slot's status and this work's row are written in one transaction, so a crash forgets neither. Sales have ended with
that transaction: the statement that takes seats and the one that converts look at the status, so what is left to do
only becomes less.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from reservation_service.booking.cancellation_policy import RefundKind
from reservation_service.errors import CancellationNotFound
from reservation_service.metrics import Metrics
from reservation_service.settings import ReservationSettings
from reservation_service.states import CancellationStatus, CancelledBy
from reservation_service.store import slot_cancellations
from shared.database import Database, Row
from shared.due_rows import backoff_s

SLOTS_AT_ONCE = 5
# Most refunds arrive at once; one that is on its way takes days, one that failed as long as a person takes.
_LOOK_FOR_REFUNDS_S = 30.0
_TERMS = "The departure was cancelled: everything comes back."


@dataclass(frozen=True)
class Progress:
    """How far a cancellation has come: what is left of each kind, and what is still owed to guests."""

    status: str
    held_released: int
    held_remaining: int
    pending_unwound: int
    pending_remaining: int
    confirmed_remaining: int
    needs_attention: int
    started_at: datetime
    finished_at: datetime | None
    confirmed_cancelled: int
    refunds_outstanding: int
    refunds_failed: int


class SlotCancellations:
    """The work of one process on cancelled slots; any number of processes share it by leases."""

    def __init__(self, database: Database, settings: ReservationSettings, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics
        self._batch = settings.slot_cancellation_batch_size
        self._look_again_s = settings.slot_cancellation_poll_seconds
        self._lease_s = settings.saga_lease_seconds

    async def run_due(self) -> int:
        """Go on with cancellations that have something to do; return how many."""
        async with self._database.transaction("claim_slot_cancellations") as tx:
            rows = await slot_cancellations.claim(tx, limit=SLOTS_AT_ONCE, lease_s=self._lease_s)
        for row in rows:
            await self._go_on(row)
        return len(rows)

    async def _go_on(self, row: Row) -> None:
        while await self._release_some(row) == self._batch:
            pass
        cancellation = await self._who_and_why(row)
        while await self._ask_some(row, cancellation) == self._batch:
            pass
        while await self._call_some_off(row, cancellation) == self._batch:
            pass
        await self._settle(row)

    async def _release_some(self, row: Row) -> int:
        async with self._database.transaction("release_cancelled_holds") as tx:
            if not await slot_cancellations.is_mine(tx, row, lease_s=self._lease_s):
                return 0
            return await slot_cancellations.release_held(tx, row["id"], batch=self._batch)

    async def _who_and_why(self, row: Row) -> dict[str, Any]:
        """Return what every booking of this slot is told of the end of it."""
        async with self._database.reading() as connection:
            change = await slot_cancellations.who_and_why(connection, row["id"])
        who, why = (change["changed_by"], change["reason"]) if change else ("", None)
        return {"by": CancelledBy.OPERATOR, "who": who, "reason": why, "kind": RefundKind.FULL, "policy": _TERMS}

    async def _ask_some(self, row: Row, cancellation: dict[str, Any]) -> int:
        async with self._database.transaction("ask_to_unwind") as tx:
            if not await slot_cancellations.is_mine(tx, row, lease_s=self._lease_s):
                return 0
            return await slot_cancellations.ask_to_unwind(
                tx, row["id"], batch=self._batch, cancellation=cancellation | {"kind": RefundKind.VOID}
            )

    async def _call_some_off(self, row: Row, cancellation: dict[str, Any]) -> int:
        async with self._database.transaction("call_off_confirmed") as tx:
            if not await slot_cancellations.is_mine(tx, row, lease_s=self._lease_s):
                return 0
            called_off = await slot_cancellations.call_off(tx, row["id"], batch=self._batch, cancellation=cancellation)
        self._metrics.cancellations.labels(CancelledBy.OPERATOR).inc(called_off)
        return called_off

    async def _settle(self, row: Row) -> None:
        """Say what is left. Money is left to the sagas; this looks now and then whether they are done."""
        async with self._database.transaction("settle_slot_cancellation") as tx:
            if not await slot_cancellations.is_mine(tx, row, lease_s=self._lease_s):
                return
            left = await slot_cancellations.left(tx, row["id"], since=row["started_at"])
            if left["held"] or left["pending"] or left["confirmed"]:
                await slot_cancellations.rest(tx, row, CancellationStatus.RUNNING, due_in_s=self._look_again_s)
            elif left["needs_attention"] or left["refunds_outstanding"] or left["refunds_failed"]:
                wait_s = backoff_s(row["attempts"], first_s=self._look_again_s, cap_s=_LOOK_FOR_REFUNDS_S)
                await slot_cancellations.rest(tx, row, CancellationStatus.AWAITING_REFUND, due_in_s=wait_s)
            else:
                await slot_cancellations.end(tx, row)


async def read_progress(database: Database, slot_id: UUID) -> Progress:
    """Return how far the cancellation of a slot has come. Raises CancellationNotFound (404)."""
    async with database.snapshot() as connection:
        row = await slot_cancellations.find(connection, slot_id)
        if row is None:
            raise CancellationNotFound
        left = await slot_cancellations.left(connection, slot_id, since=row["started_at"])
    return Progress(
        status=row["status"],
        held_released=row["held_released"],
        held_remaining=left["held"],
        pending_unwound=left["unwound"],
        pending_remaining=left["pending"],
        confirmed_remaining=left["confirmed"],
        needs_attention=left["needs_attention"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        confirmed_cancelled=left["cancelled"],
        refunds_outstanding=left["refunds_outstanding"],
        refunds_failed=left["refunds_failed"],
    )
