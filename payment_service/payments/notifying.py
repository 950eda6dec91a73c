"""Delivers the news of payments to reservation_service: at least once, newest state sufficient, never given up."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from payment_service.clients.reservations import NotDelivered, ReservationsClient
from payment_service.metrics import Metrics
from payment_service.store import outbox
from shared.crashpoints import external_call
from shared.database import Database, Row
from shared.due_rows import backoff_s
from shared.payment_contract import KnownVersion, PaymentEvent

log = structlog.get_logger()

_KNOWN_MAX = 16


class Notifying:
    """Hands out batches of due news; what fails comes again after `first_s`, doubling up to `cap_s`."""

    def __init__(
        self,
        database: Database,
        reservations: ReservationsClient,
        metrics: Metrics,
        *,
        batch: int,
        lease_s: float,
        backoff: Callable[[int], float],
    ) -> None:
        self._database = database
        self._reservations = reservations
        self._metrics = metrics
        self._batch = batch
        self._lease_s = lease_s
        self._backoff = backoff

    async def deliver_due(self) -> int:
        """Deliver one batch; returns how many rows were due."""
        async with self._database.transaction("claim_news", of_one_statement=True) as tx:
            rows = await outbox.claim(tx, limit=self._batch, lease_s=self._lease_s)
        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(self._deliver(row))
        return len(rows)

    async def _deliver(self, row: Row) -> None:
        if row["version"] < row["newest"]:
            # The newer row tells the full state, so this one has nothing left to say.
            await self._delivered(row, outbox.SUPERSEDED)
            return
        try:
            async with external_call("post_payment_event"):
                receipt = await self._reservations.tell(PaymentEvent.model_validate(row["event"]))
        except NotDelivered as trouble:
            self._metrics.news_delivered.labels("failed").inc()
            async with self._database.transaction("put_news_back", of_one_statement=True) as tx:
                await outbox.failed(tx, row, trouble.what, due_in_s=self._backoff(row["attempts"]))
            return
        await self._delivered(row, receipt.result, receipt.known)

    async def _delivered(self, row: Row, receipt: str, known: Sequence[KnownVersion] = ()) -> None:
        async with self._database.transaction("finish_news", of_one_statement=True) as tx:
            rows = await outbox.delivered(tx, row, receipt, known[:_KNOWN_MAX])
        self._metrics.news_delivered.labels(receipt).inc()
        self._metrics.news_spared.inc(max(rows - 1, 0))


def capped_backoff(first_s: float, cap_s: float) -> Callable[[int], float]:
    """Return the wait after the n-th failure, in seconds."""
    return lambda attempt: backoff_s(attempt, first_s=first_s, cap_s=cap_s)
