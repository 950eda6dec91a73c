"""Forgets what only answered questions about lately, a little at a time; what is history stays (decision 0023)."""

from reservation_service.metrics import Metrics
from reservation_service.store import old_keys
from reservation_service.store.old_keys import Place
from shared.database import Database

KEYS_AT_ONCE = 1000


class KeyBroom:
    """Walks along all idempotency keys, round after round. Each process walks for itself, and begins anew when it starts."""

    def __init__(self, database: Database, metrics: Metrics, *, keep_days: int) -> None:
        self._database = database
        self._metrics = metrics
        self._keep_days = keep_days
        self._at = Place()

    async def sweep(self) -> int:
        """Look at the next keys and forget the old ones; returns how many those were."""
        async with self._database.transaction("forget_keys") as tx:
            stretch = await old_keys.forget(tx, self._at, rows=KEYS_AT_ONCE, keep_days=self._keep_days)
        self._at = stretch.at or Place()
        self._metrics.keys_forgotten.inc(stretch.forgotten)
        return stretch.forgotten
