"""Keeps the breakers of this process in step with those of all others, through one row each in our own database.

Requests look at the copy in memory, which a job renews twice a second; only the one call that may try a provider again
is claimed in the database. Without the database each process goes on by itself.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol
from uuid import UUID

import structlog

from payment_service.errors import BreakerNotFound
from payment_service.gateway.breaker import Agreed, Breaker, BreakerSeen, BreakerWatch, News
from payment_service.gateway.window import Policy
from payment_service.states import BreakerName, BreakerState
from payment_service.store import breakers
from shared.clock import Clock
from shared.database import Connection, Database, DatabaseAway, Row
from shared.operator_actions import Act, record

log = structlog.get_logger()

_CLAIM_S = 1.0
_CALM = Agreed()


class Watch(BreakerWatch, Protocol):
    """Who wants to know what breakers do, and how they stand (metrics)."""

    def watch_breaker(self, name: str, level: Callable[[], float]) -> None: ...


class Switchboard:
    """Both breakers of a process. `nudge` is called when there is something to tell the others."""

    def __init__(
        self,
        database: Database,
        policy: Policy,
        *,
        clock: Clock,
        enabled: Callable[[], bool],
        watch: Watch,
        nudge: Callable[[], None],
    ) -> None:
        self._database = database
        self._policy = policy
        self.breakers: Mapping[BreakerName, Breaker] = {
            name: Breaker(
                name, policy, clock=clock, enabled=enabled, claim_probe=self._claim_probe, nudge=nudge, watch=watch
            )
            for name in BreakerName
        }
        for name, breaker in self.breakers.items():
            watch.watch_breaker(name, partial(getattr, breaker, "level"))

    def seen(self) -> list[BreakerSeen]:
        """Return how the breakers stand, as this process knows it."""
        return [breaker.seen() for breaker in self.breakers.values()]

    async def share(self) -> int:
        """Tell the others what happened here, then learn what happened there; run by a ticker."""
        async with self._database.reading() as connection:
            for breaker in self.breakers.values():
                await self._tell(connection, breaker)
            rows = {row["name"]: row for row in await breakers.read(connection)}
        for name, breaker in self.breakers.items():
            breaker.adopt(_agreed(rows[name]) if name in rows else _CALM)
        return 0

    async def force(self, name: str, forced: BreakerState | None, *, by: str, reason: str) -> BreakerSeen:
        """Hold a breaker open or closed, or let it go, in every process. Raises BreakerNotFound (404)."""
        if name not in self.breakers:
            raise BreakerNotFound
        was = self.breakers[BreakerName(name)].seen().forced
        async with self._database.transaction("force_breaker") as tx:
            await breakers.force(tx, name, forced, by=by, reason=reason)
            await record(tx, Act(by, "turnBreaker", reason), name, before={"forced": was}, after={"forced": forced})
        log.warning("breaker_forced", name=name, to=str(forced or "auto"), by=by, reason=reason)
        await self.share()
        return self.breakers[BreakerName(name)].seen()

    async def _claim_probe(self, name: BreakerName, probe: UUID) -> bool:
        try:
            async with asyncio.timeout(_CLAIM_S), self._database.reading() as connection:
                return await breakers.claim_probe(connection, name, probe, lease_s=self._policy.probe_lease_s)
        except (DatabaseAway, TimeoutError):
            log.warning("breaker_alone", name=str(name))
            return True

    async def _tell(self, connection: Connection, breaker: Breaker) -> None:
        news = breaker.news
        if news is None:
            return
        await _write(connection, breaker.name, news, self._policy.rest_s)
        if breaker.news is news:
            breaker.news = None


async def _write(connection: Connection, name: BreakerName, news: News, rest_s: float) -> None:
    match news:
        case News(state=BreakerState.CLOSED, probe=UUID() as probe):
            await breakers.close(connection, name, probe, news.reason)
        case News(state=BreakerState.OPEN, probe=UUID() as probe):
            await breakers.rest_again(connection, name, probe, news.reason, rest_s=rest_s)
        case News(state=BreakerState.OPEN):
            await breakers.open_(connection, name, news.reason, rest_s=rest_s)


def _agreed(row: Row) -> Agreed:
    return Agreed(
        state=BreakerState(row["state"]),
        since=row["since"],
        rest_left_s=float(row["rest_left_s"]),
        probe_left_s=float(row["probe_left_s"]),
        reason=row["reason"],
        forced=BreakerState(row["forced"]) if row["forced"] else None,
        forced_by=row["forced_by"],
    )
