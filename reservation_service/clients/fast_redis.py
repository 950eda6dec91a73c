"""The one door to Redis, for what must help at once or not at all: a call that is late is a call that failed.

The client's own retries turn a quarter of a second into seven (measured with a server that swallows everything), so
they are off, and the budget is kept here, around the whole call.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.clock import Clock

log = structlog.get_logger()

# After trouble nobody asks for so long: a Redis that swallows everything may cost its budget once a second, not always.
_REST_S = 1.0


class RedisAway(Exception):
    """No answer within the budget, or an error: what was asked for may have happened, or not."""


class FastRedis:
    """One pool of connections of one process; an empty `url` means that there is no Redis, which is no trouble."""

    def __init__(self, url: str, clock: Clock, *, budget_s: float) -> None:
        self.configured = bool(url)
        self.budget_s = budget_s
        self._clock = clock
        self._rests_until = 0.0
        self._client: Redis | None = None
        if url:
            # No connection is tried for longer than the budget; the pool is small, as calls come in groups.
            self._client = Redis.from_url(
                url,
                max_connections=16,
                socket_timeout=budget_s,
                socket_connect_timeout=budget_s,
                retry=Retry(NoBackoff(), 0),
            )

    @property
    def usable(self) -> bool:
        """Tell whether there is a Redis that did not fail within the last second."""
        return self.configured and self._clock.monotonic() >= self._rests_until

    async def run(self, fill: Callable[[Pipeline], object], *, within_s: float | None = None) -> list[Any]:
        """Send what `fill` puts into a pipeline in one round trip; return one answer per command. Raises RedisAway."""
        if self._client is None:
            raise RedisAway("not configured")
        try:
            async with asyncio.timeout(self.budget_s if within_s is None else within_s):
                async with self._client.pipeline(transaction=False) as pipeline:
                    fill(pipeline)
                    answers: list[Any] = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            if self.usable:
                log.warning("redis_away", error=type(error).__name__, rest_s=_REST_S)
            self._rests_until = self._clock.monotonic() + _REST_S
            raise RedisAway(type(error).__name__) from error
        return answers

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()
