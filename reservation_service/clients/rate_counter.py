"""Counts requests against their limits, exactly, and without ever making the loop wait.

This process counts first: what it refuses needs no round trip. What it lets pass is counted in Redis too, which knows
of the other processes; callers of one moment share a round trip. When Redis gives no answer in time, what this process
has counted decides, so a key never starts anew because Redis went away.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from reservation_service.clients import rate_script
from reservation_service.clients.fast_redis import FastRedis, RedisAway, Trouble
from reservation_service.clients.quotas import Count, Left, Quota
from reservation_service.metrics import Metrics
from shared.clock import Clock, a_few_in_a_turn

_KEYS_MAX = 100_000
_QUEUE_MAX = 1000
_GROUP_MAX = 64
_US = 1_000_000


class Counted(StrEnum):
    """Who has counted a request."""

    REDIS = "redis"  # for all processes
    PROCESS = "process"  # there is no Redis, or this process has refused already
    FALLBACK = "fallback"  # there is one, and it gave no answer in time


class Tally(NamedTuple):
    """What came of one request: `refused_by` is the place of the quota that said no; a refusal consumes nothing."""

    refused_by: int | None
    retry_after_us: int
    left: Sequence[Left]
    at_us: int = 0  # when this process has counted it


class ProcessCounter:
    """The counts of this process, in memory: a few microseconds a request, bounded in size."""

    def __init__(self, clock: Clock, *, keys_max: int = _KEYS_MAX) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._counts: dict[str, Count] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def hit(self, quotas: Sequence[Quota]) -> Tally:
        """Count one request against all these quotas, or against none of them."""
        now = int(self._clock.monotonic() * _US)
        counts = [self._counts.get(quota.key) or quota.start() for quota in quotas]
        waits = [count.wait_us(now) for count in counts]
        wait = max(waits, default=0)
        if wait > 0:
            return Tally(waits.index(wait), wait, [count.left(now) for count in counts])
        self._make_room(now)
        for quota, count in zip(quotas, counts, strict=True):
            count.add(now)
            self._counts[quota.key] = count
        return Tally(None, 0, [count.left(now) for count in counts], now)

    def take_back(self, quotas: Sequence[Quota], tally: Tally) -> None:
        """Forget one request again, which somebody else has refused."""
        for quota in quotas:
            if quota.key in self._counts:
                self._counts[quota.key].take_back(tally.at_us)

    def _make_room(self, now: int) -> None:
        if len(self._counts) < self._keys_max:
            return
        self._counts = {key: count for key, count in self._counts.items() if not count.is_idle(now)}
        if len(self._counts) >= self._keys_max:  # so many keys in use at once: the oldest tenth starts anew
            self._counts = dict(islice(self._counts.items(), self._keys_max // 10, None))


@dataclass
class _Asking:
    quotas: Sequence[Quota]
    answer: asyncio.Future[Tally]

    def fail(self, error: RedisAway) -> None:
        """Have no answer, for whoever still waits for one."""
        if not self.answer.done():
            self.answer.set_exception(error)


class RateCounter:
    """The counts that decide: this process's, and Redis's for what this process would let pass."""

    def __init__(self, redis: FastRedis, metrics: Metrics, clock: Clock) -> None:
        self._redis = redis
        self._counted = {by: metrics.rate_limit_counts.labels(by) for by in Counted}
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
            self._here.take_back(quotas, here)
        return self._told(everywhere, Counted.REDIS)

    def _told(self, tally: Tally, by: Counted) -> Tally:
        self._counted[by].inc()
        return tally

    async def _ask(self, quotas: Sequence[Quota]) -> Tally:
        """Wait for the trip that takes this along: each ends within its budget, and the queue bounds how many are ahead."""
        asking = _Asking(quotas, asyncio.get_running_loop().create_future())
        self._queue.append(asking)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_all())
        return await asking.answer

    async def _flush_all(self) -> None:
        group: list[_Asking] = []
        try:
            while self._queue:
                await asyncio.sleep(0)  # whoever comes in this turn as well shares the round trip
                group, self._queue = self._queue[:_GROUP_MAX], self._queue[_GROUP_MAX:]
                group = [asking for asking in group if not asking.answer.done()]
                if group:
                    await self._flush(group)
        finally:
            self._flushing = None
            # Whatever has ended the trips, nobody waits for one that will not come.
            left_behind, self._queue = [*group, *self._queue], []
            for asking in left_behind:
                asking.fail(RedisAway(Trouble.OTHER))

    async def _flush(self, group: Sequence[_Asking]) -> None:
        try:
            [answers] = await self._redis.run(
                lambda commands: rate_script.ask(commands, [asking.quotas for asking in group])
            )
        except RedisAway as error:
            # Whoever waits for the next round trip would wait in vain: nobody waits for more than one that fails.
            failed, self._queue = [*group, *self._queue], []
            async for asking in a_few_in_a_turn(failed):
                asking.fail(error)
            return
        async for asking, answer in a_few_in_a_turn(list(zip(group, answers, strict=True))):
            if not asking.answer.done():
                asking.answer.set_result(Tally(*rate_script.read(answer)))
