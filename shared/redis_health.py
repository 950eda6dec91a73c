"""Asks Redis for a sign of life, within a deadline that holds; Redis away degrades a service and never unreadies it."""

import asyncio

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from shared.health import Check

_DEADLINE_S = 0.25


def redis_check(url: str) -> dict[str, Check]:
    """Return the check for `Health`'s optional parts; none when the service runs without Redis."""
    if not url:
        return {}

    async def check() -> None:
        # The client's own retries would make a quarter of a second into seven (measured with a black-holed server).
        client = Redis.from_url(
            url, socket_timeout=_DEADLINE_S, socket_connect_timeout=_DEADLINE_S, retry=Retry(NoBackoff(), 0)
        )
        async with asyncio.timeout(_DEADLINE_S), client:
            await client.ping()

    return {"redis": check}
