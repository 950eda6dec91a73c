"""The one door to Redis, for what must help at once or not at all: a call that is late is a call that failed.

The client's own retries turn a quarter of a second into seven (measured with a server that swallows everything), so
they are off, and the budget is kept here, around the whole call.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as NoAnswer

from shared.clock import Clock

log = structlog.get_logger()

# What a caller fills with commands; the name by which it may speak of it without knowing the library.
Commands = Pipeline

# After trouble nobody asks for a while, twice as long each time: a Redis that swallows everything may cost its budget
# once a second, not always, and one late answer does not keep a whole rush without it.
_REST_FIRST_S = 0.05
_REST_MAX_S = 1.0
_HANDSHAKE_S = 1.0  # never reached within a budget, but a connection without any limit would linger
# A loop that lags hears the timer and an answer that had come in time in the same turn; so many turns later it is read,
# even the first one, which comes after a handshake.
_TURNS_OF_GRACE = 12
_CONNECTIONS_MAX = 16  # calls come in groups, so a few are plenty


class Trouble(StrEnum):
    """What may be wrong with Redis, as metrics and logs name it."""

    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    READ_ONLY = "read_only"  # the primary of yesterday
    OUT_OF_MEMORY = "out_of_memory"
    OTHER = "other"


class RedisAway(Exception):
    """No answer within the budget, or an error: what was asked for may have happened, or not."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble)
        self.trouble = trouble


class FastRedis:
    """One pool of connections of one process; an empty `url` means that there is no Redis, which is no trouble."""

    def __init__(self, url: str, clock: Clock, *, budget_s: float) -> None:
        self.configured = bool(url)
        self.budget_s = budget_s
        self._clock = clock
        self._rests_until = 0.0
        self._failures = 0  # in a row
        self._client: Redis | None = None
        if url:
            self._client = Redis.from_url(
                url,
                max_connections=_CONNECTIONS_MAX,
                socket_timeout=_HANDSHAKE_S,
                socket_connect_timeout=_HANDSHAKE_S,
                retry=Retry(NoBackoff(), 0),
            )

    @property
    def usable(self) -> bool:
        """Tell whether there is a Redis that has not just failed."""
        return self.configured and self._clock.monotonic() >= self._rests_until

    async def run(self, fill: Callable[[Commands], object], *, within_s: float | None = None) -> list[Any]:
        """Send what `fill` puts into a pipeline in one round trip; return one answer per command. Raises RedisAway."""
        try:
            async with _budget(self.budget_s if within_s is None else within_s):
                answers = await self._pipelined(fill)
        except Exception as error:  # whatever it is: no request fails of it, nobody waits for ever
            trouble = _trouble(error)
            self._rest(trouble, error)
            raise RedisAway(trouble) from error
        self._failures = 0
        return answers

    def _rest(self, trouble: Trouble, error: Exception) -> None:
        if not self._failures:
            log.warning("redis_away", trouble=trouble, error=type(error).__name__)
        rest_s = min(_REST_MAX_S, _REST_FIRST_S * 2 ** min(self._failures, 10))
        self._rests_until = self._clock.monotonic() + rest_s
        self._failures += 1

    async def _pipelined(self, fill: Callable[[Commands], object]) -> list[Any]:
        if self._client is None:
            raise OSError("no Redis is configured")
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                fill(pipeline)
                answers: list[Any] = await pipeline.execute()
                return answers
        except Exception:
            # Wires that were torn together should not fail one by one; and a primary that was demoted refuses to write
            # for as long as one stays connected to it, while its name may lead elsewhere by now.
            with suppress(OSError, RuntimeError):
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()


@asynccontextmanager
async def _budget(budget_s: float) -> AsyncIterator[None]:
    """Raise TimeoutError when what happens inside takes longer, and some turns of the loop more."""
    loop = asyncio.get_running_loop()
    timer: asyncio.Handle

    def count_down(turns: int) -> None:
        nonlocal timer
        if turns:
            timer = loop.call_soon(count_down, turns - 1)
        else:
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        timer = loop.call_later(budget_s, count_down, _TURNS_OF_GRACE)
        try:
            yield
        finally:
            timer.cancel()


def _trouble(error: Exception) -> Trouble:
    match error:
        case TimeoutError() | NoAnswer():
            return Trouble.NO_ANSWER
        case NoConnection() | OSError() | RuntimeError():  # the last is what uvloop says of a wire that was torn
            return Trouble.UNREACHABLE
        case ReadOnlyError():
            return Trouble.READ_ONLY
        case OutOfMemoryError():
            return Trouble.OUT_OF_MEMORY
        case _:
            return Trouble.OTHER
