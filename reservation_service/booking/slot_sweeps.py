"""Looks at a slot that is full: gives back what has lapsed there, once for all who ask at the same time."""

from dataclasses import dataclass
from uuid import UUID

from reservation_service.booking.one_flight import OneFlight
from reservation_service.metrics import Metrics
from reservation_service.store import slots
from shared.database import Database

_SWEEP_BATCH = 100


@dataclass(frozen=True)
class Swept:
    """What became of a full slot: how many lapsed holds gave their seats back, and how many seats are free now."""

    expired: int
    available: int


class SlotSweeps:
    """Gives back the lapsed holds of full slots on demand; callers who find the same slot full share one look at it."""

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics
        self._looks = OneFlight(self._look)

    async def sweep(self, time_slot_id: UUID) -> Swept:
        """Expire the due holds of one slot and count its free seats. Raises DatabaseAway."""
        return await self._looks.answer(time_slot_id)

    async def _look(self, time_slot_id: UUID) -> Swept:
        async with self._database.transaction("expire_slot") as tx:
            expired = await slots.expire_due(tx, batch=_SWEEP_BATCH, time_slot_id=time_slot_id)
            available = await slots.free_seats(tx, time_slot_id)
        self._metrics.holds_displaced.inc(expired)
        return Swept(expired, available)
