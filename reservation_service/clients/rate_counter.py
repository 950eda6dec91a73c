"""Counts requests against their limits, exactly, and without ever making the loop wait.

GCRA, "the leaky bucket as a meter": a key has one number, the time at which its bucket will be empty again. A quota of
q per w seconds may be used all at once and comes back evenly, one every w/q seconds.

This process counts first: what it refuses needs no round trip. What it lets pass is counted in Redis too, which knows
of the other processes; callers of one moment share a round trip. When Redis gives no answer in time, what this process
has counted decides, so a key never starts anew because Redis went away.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from reservation_service.clients.fast_redis import Commands, FastRedis, RedisAway
from reservation_service.metrics import Metrics
from shared.clock import Clock

_KEYS_MAX = 100_000
_QUEUE_MAX = 2000
_GROUP_MAX = 200
_US = 1_000_000

# The keys share one hash tag, so that a cluster can run this in one place. Returns the number of the limit that
# refuses (0: none), how long until it would not, and for each limit how long until its whole quota is back, in µs.
_COUNT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local refusing, wait, empty_at = 0, 0, {}
for i, key in ipairs(KEYS) do
  local interval, depth = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  empty_at[i] = math.max(tonumber(redis.call('GET', key) or 0), now) + interval
  local over = empty_at[i] - now - depth
  if over > wait then refusing, wait = i, over end
end
local answer = {refusing, wait}
for i, key in ipairs(KEYS) do
  if refusing == 0 then
    local lasts_ms = math.ceil((empty_at[i] - now) / 1000)
    redis.call('SET', key, string.format('%.0f', empty_at[i]), 'PX', string.format('%.0f', lasts_ms))
  else
    empty_at[i] = empty_at[i] - ARGV[2 * i - 1]
  end
  answer[2 + i] = empty_at[i] - now
end
return answer
"""


class Counted(StrEnum):
    """Who has counted a request."""

    REDIS = "redis"  # for all processes
    PROCESS = "process"  # there is no Redis, or this process has refused already
    FALLBACK = "fallback"  # there is one, and it gave no answer in time


@dataclass(frozen=True)
class Quota:
    """So many requests at once for one key, and one more every `interval_us`."""

    key: str
    amount: int
    interval_us: int

    @property
    def depth_us(self) -> int:
        """Return how long a whole quota takes to come back."""
        return self.interval_us * self.amount


@dataclass(frozen=True)
class Tally:
    """What came of one request: `refused_by` is the place of the quota that said no; a refusal consumes nothing."""

    refused_by: int | None
    retry_after_us: int
    full_again_us: Sequence[int]  # per quota, until it is whole again


class ProcessCounter:
    """The counts of this process, in memory: a few microseconds a request, bounded in size."""

    def __init__(self, clock: Clock, *, keys_max: int = _KEYS_MAX) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._empty_at_us: dict[str, int] = {}

    def hit(self, quotas: Sequence[Quota]) -> Tally:
        """Count one request against all these quotas, or against none of them."""
        now = int(self._clock.monotonic() * _US)
        found = [max(self._empty_at_us.get(quota.key, 0), now) for quota in quotas]
        over = [
            empty_at + quota.interval_us - now - quota.depth_us for empty_at, quota in zip(found, quotas, strict=True)
        ]
        wait = max(over, default=0)
        if wait > 0:
            return Tally(over.index(wait), wait, [empty_at - now for empty_at in found])
        self._make_room(now)
        for empty_at, quota in zip(found, quotas, strict=True):
            self._empty_at_us[quota.key] = empty_at + quota.interval_us
        return Tally(None, 0, [self._empty_at_us[quota.key] - now for quota in quotas])

    def take_back(self, quotas: Sequence[Quota]) -> None:
        """Forget one request again, which somebody else has refused."""
        for quota in quotas:
            if quota.key in self._empty_at_us:
                self._empty_at_us[quota.key] -= quota.interval_us

    def _make_room(self, now: int) -> None:
        if len(self._empty_at_us) < self._keys_max:
            return
        self._empty_at_us = {key: empty_at for key, empty_at in self._empty_at_us.items() if empty_at > now}
        if len(self._empty_at_us) >= self._keys_max:  # so many keys in use at once: the oldest tenth starts anew
            self._empty_at_us = dict(islice(self._empty_at_us.items(), self._keys_max // 10, None))


@dataclass
class _Asking:
    quotas: Sequence[Quota]
    answer: asyncio.Future[Tally]


class RateCounter:
    """The counts that decide: this process's, and Redis's for what this process would let pass."""

    def __init__(self, redis: FastRedis, metrics: Metrics, clock: Clock) -> None:
        self._redis = redis
        self._metrics = metrics
        self._here = ProcessCounter(clock)
        self._queue: list[_Asking] = []
        self._flushing: asyncio.Task[None] | None = None

    async def hit(self, quotas: Sequence[Quota]) -> Tally:
        """Count one request against all these quotas, or against none of them. Never raises, never waits for long."""
        here = self._here.hit(quotas)
        if here.refused_by is not None or not self._redis.configured:
            return self._told(here, Counted.PROCESS)
        if not self._redis.usable or len(self._queue) >= _QUEUE_MAX:
            return self._told(here, Counted.FALLBACK)
        try:
            everywhere = await self._ask(quotas)
        except RedisAway:
            return self._told(here, Counted.FALLBACK)
        if everywhere.refused_by is not None:
            self._here.take_back(quotas)
        return self._told(everywhere, Counted.REDIS)

    def _told(self, tally: Tally, by: Counted) -> Tally:
        self._metrics.rate_limit_counts.labels(by).inc()
        return tally

    async def _ask(self, quotas: Sequence[Quota]) -> Tally:
        asking = _Asking(quotas, asyncio.get_running_loop().create_future())
        self._queue.append(asking)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_all())
        return await asking.answer

    async def _flush_all(self) -> None:
        try:
            while self._queue:
                group, self._queue = self._queue[:_GROUP_MAX], self._queue[_GROUP_MAX:]
                group = [asking for asking in group if not asking.answer.done()]
                if group:
                    await self._flush(group)
        finally:
            self._flushing = None

    async def _flush(self, group: Sequence[_Asking]) -> None:
        try:
            answers = await self._redis.run(lambda commands: _fill(commands, group))
        except RedisAway as error:
            # Whoever waits for the next round trip would wait in vain: nobody waits for more than one that fails.
            failed, self._queue = [*group, *self._queue], []
            for asking in failed:
                if not asking.answer.done():
                    asking.answer.set_exception(error)
            return
        for asking, answer in zip(group, answers, strict=True):
            if not asking.answer.done():
                asking.answer.set_result(_tally(answer))


def _fill(commands: Commands, group: Sequence[_Asking]) -> None:
    for asking in group:
        keys = [f"{{rate-limits}}:{quota.key}" for quota in asking.quotas]
        numbers = [number for quota in asking.quotas for number in (quota.interval_us, quota.depth_us)]
        commands.eval(_COUNT, len(keys), *keys, *numbers)


def _tally(answer: Sequence[Any]) -> Tally:
    refusing, wait, *full_again = answer
    return Tally(refusing - 1 if refusing else None, wait, full_again)
