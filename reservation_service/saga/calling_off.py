"""Calls a booking off: one transaction writes down what was asked for and does all that is ours, then its saga walks back.

A confirmed booking is cancelled and its seats are free with that transaction, whatever the refund meets. A pending one
is left to its saga, which knows how far the money has come.
"""

from dataclasses import dataclass
from uuid import UUID

from reservation_service.booking.cancelling import Asked, CancelRequest, ask_to_cancel
from reservation_service.errors import ReservationNotFound
from reservation_service.metrics import Metrics
from reservation_service.saga.engine import Engine, Turn
from reservation_service.states import CONVERTED, LIVE_SAGA, BookingStatus, SagaStatus
from reservation_service.store import reservations, saga_log
from reservation_service.store.reservations import Booking
from shared.database import Connection, Database

_NOT_OVER = LIVE_SAGA | {SagaStatus.NEEDS_ATTENTION}


@dataclass(frozen=True)
class CalledOff:
    """How the booking stands now; `is_under_way` while it is unwound, or its money is not back yet."""

    booking: Booking
    is_under_way: bool


class CallingOff:
    """Cancelling, for guests and operators of one process."""

    def __init__(self, database: Database, engine: Engine, metrics: Metrics) -> None:
        self._database = database
        self._engine = engine
        self._metrics = metrics

    async def cancel(self, request: CancelRequest) -> CalledOff:
        """Cancel a booking, or drive on what was asked before, and say how it stands within the budget.

        Raises the refusals of POST /v1/reservations/{id}/cancel.
        """
        await self._engine.drive(await self._call_off(request))
        async with self._database.snapshot() as connection:
            booking = await reservations.booking(connection, request.reservation_id)
            saga = await saga_log.newest_of(connection, request.reservation_id)
        if booking is None:
            raise ReservationNotFound
        return CalledOff(booking, saga is not None and saga["status"] in _NOT_OVER)

    async def _call_off(self, request: CancelRequest) -> Turn | UUID | None:
        async with self._database.transaction("call_off_booking") as tx:
            known = await reservations.booking(tx, request.reservation_id, caller=request.caller)
            if known is None or known["status"] not in CONVERTED:
                raise ReservationNotFound
            saga = await saga_log.lock_newest_of(tx, request.reservation_id)  # locks go saga, booking, slot
            booking = await reservations.lock_booking(tx, request.reservation_id)
            if saga is None or booking is None:
                raise ReservationNotFound
            asked = await ask_to_cancel(tx, booking, request)
            work = await self._take_back(tx, saga["id"], SagaStatus(saga["status"]), booking)
        if asked is Asked.NOW:
            self._metrics.cancellations.labels(request.by).inc()
        return work

    async def _take_back(
        self, tx: Connection, saga_id: UUID, saga_status: SagaStatus, booking: Booking
    ) -> Turn | UUID | None:
        """Return what is to be driven on; a final booking is cancelled here, in the transaction that asks for it."""
        if saga_status is SagaStatus.COMPLETED and booking["status"] == BookingStatus.CONFIRMED:
            return await self._engine.walk_back(tx, saga_id)
        if saga_status in LIVE_SAGA:
            await saga_log.wake(tx, saga_id)
            return saga_id
        return None
