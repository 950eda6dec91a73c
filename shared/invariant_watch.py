"""Checks the invariants of a living service every few minutes, so that a violation is an alert and not a surprise."""

from collections.abc import Sequence

import structlog

from shared.database import Database
from shared.invariants import Invariant, check_all, only_one_checks
from shared.process_metrics import ProcessMetrics

log = structlog.get_logger()


class InvariantWatch:
    """Of all processes on a database one checks at a time; each reports what it found last."""

    def __init__(self, database: Database, invariants: Sequence[Invariant], metrics: ProcessMetrics) -> None:
        self._database = database
        self._invariants = invariants
        self._metrics = metrics

    async def check(self) -> int:
        """Check everything at one moment, if nobody else is at it; returns 0, so that the next turn waits its time."""
        async with self._database.snapshot() as connection:
            if not await only_one_checks(connection):
                return 0
            found = await check_all(connection, self._invariants)
        for finding in found:
            self._metrics.invariant_violations.labels(finding.id).set(finding.violations)
            if finding.violations:
                log.error("invariant_violated", invariant=finding.id, count=finding.violations, ids=finding.examples)
        self._metrics.invariants_checked_at.set_to_current_time()
        return 0
