"""What the sweeper does: tidy up holds whose time is over (their seats were free on demand before that)."""

from reservation_service.metrics import Metrics
from reservation_service.store import slots
from shared.database import Database


async def release_expired(database: Database, metrics: Metrics, *, batch: int) -> int:
    """Expire at most `batch` holds of any slot; safe in any number of processes. Returns how many."""
    async with database.transaction("sweep") as tx:
        expired = await slots.expire_due(tx, batch=batch)
    metrics.holds_expired.inc(expired)
    return expired
