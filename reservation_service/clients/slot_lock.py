"""A lock per slot in Redis, so that processes who want the same slot queue there and not on its row in PostgreSQL.

It only saves work. A lock can have two holders (a failover, a flush, a holder that slept beyond its time to live), and
then the row decides, as it would without any lock. So nothing here is worth waiting long for: whatever goes wrong, the
caller goes on without the lock.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from uuid import UUID

from reservation_service.clients.fast_redis import FastRedis, RedisAway, Trouble
from reservation_service.metrics import Metrics
from shared.clock import Clock

_POLL_S = 0.003
# Nobody asks once more with less than this share of the budget left: an answer that comes a little late would count as
# a Redis that is away, and leave it alone for a while, when all that is wrong is that somebody else has the lock.
_LEAST_SHARE = 0.25
# One call for all locks of a batch: a call each costs this process more than the locks can save. It tells whose each of
# them was: nobody's (now ours), ours already (an answer was lost), or somebody else's.
_TAKE = """
local holders = {}
for i, key in ipairs(KEYS) do
  holders[i] = redis.call('GET', key)
  if not holders[i] then redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
end
return holders
"""
# Only who put the token there may take it away: by now the lock may be somebody else's.
_GIVE_BACK = """
local gone = {}
for i, key in ipairs(KEYS) do
  gone[i] = redis.call('GET', key) == ARGV[1] and redis.call('DEL', key) or 0
end
return gone
"""


@dataclass
class Lease:
    """The locks that one batch has: `held` for sure, `asked` perhaps, if an answer was lost on its way."""

    token: bytes
    asked: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    unsure: bool = False


class SlotLocks:
    """Takes and gives back the locks of one process. `enabled` is asked each time (a feature flag)."""

    def __init__(
        self,
        redis: FastRedis,
        metrics: Metrics,
        clock: Clock,
        *,
        ttl_ms: int,
        enabled: Callable[[], bool] = lambda: True,
        new_token: Callable[[], str] = secrets.token_hex,
    ) -> None:
        self._redis = redis
        self._metrics = metrics
        self._clock = clock
        self._ttl_ms = ttl_ms
        self._enabled = enabled
        self._new_token = new_token
        # Lines at 0, or the first failures of all would not be seen.
        for doing, trouble in product(("acquire", "release"), Trouble):
            metrics.slot_lock_failures.labels(doing, trouble)

    async def acquire(self, slot_ids: Sequence[UUID]) -> Lease:
        """Lock all these slots if that can be had within the budget; never raises, never waits longer.

        The lease says what was got; the caller goes on with whatever it is, and gives it to `release`.
        """
        lease = Lease(self._new_token().encode())
        if not (self._redis.configured and self._enabled()):
            return lease
        if not self._redis.usable:
            self._metrics.slot_lock_wait.labels("unavailable").observe(0)
            return lease
        started = self._clock.monotonic()
        lease.asked = [_key(slot_id) for slot_id in slot_ids]
        outcome = await self._take(lease, until=started + self._redis.budget_s)
        self._metrics.slot_lock_wait.labels(outcome).observe(self._clock.monotonic() - started)
        return lease

    async def release(self, lease: Lease) -> None:
        """Give back what the lease has or may have. Never raises; what cannot be given back ends with its time."""
        keys = lease.asked if lease.unsure else sorted(lease.held)
        if not keys:
            return
        try:
            [gone] = await self._redis.run(lambda commands: commands.eval(_GIVE_BACK, len(keys), *keys, lease.token))
        except RedisAway as away:
            self._metrics.slot_lock_failures.labels("release", away.trouble).inc()
            return
        given_back = {key for key, count in zip(keys, gone, strict=True) if count}
        self._metrics.slot_locks_lost.inc(len(lease.held - given_back))

    async def _take(self, lease: Lease, *, until: float) -> str:
        """Ask for what is still missing, again and again, until all is there or the time is over."""
        missing = lease.asked
        while True:
            left_s = until - self._clock.monotonic()
            try:
                missing = await self._ask_for(missing, lease, within_s=left_s)
            except RedisAway as away:
                self._metrics.slot_lock_failures.labels("acquire", away.trouble).inc()
                lease.unsure = True
                return "unavailable"
            if not missing:
                return "acquired"
            if until - self._clock.monotonic() <= max(2 * _POLL_S, _LEAST_SHARE * self._redis.budget_s):
                return "contended"
            await asyncio.sleep(_POLL_S)

    async def _ask_for(self, keys: Sequence[str], lease: Lease, *, within_s: float) -> list[str]:
        """Ask for these keys in one round trip; return those that somebody else has."""
        [holders] = await self._redis.run(
            lambda commands: commands.eval(_TAKE, len(keys), *keys, lease.token, self._ttl_ms), within_s=within_s
        )
        taken = [key for key, holder in zip(keys, holders, strict=True) if holder not in {None, lease.token}]
        lease.held.update(set(keys).difference(taken))
        if keys is lease.asked:
            self._metrics.slot_locks_contended.inc(len(taken))
        return taken


def _key(slot_id: UUID) -> str:
    """Return a lock's name; all of them share a hash tag, so that a cluster can take and give back many in one place."""
    return f"{{slot-locks}}:{slot_id}"
