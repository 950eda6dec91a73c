"""The connections of a crowd at the doors of several processes, few enough that the crowd does not wait for itself."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

CLIENTS = 6  # one client with two hundred connections spends its time searching its own pool
CONNECTIONS_EACH = 33
RUSH_S = 60.0


@asynccontextmanager
async def a_crowd(doors: Sequence[str]) -> AsyncIterator[Sequence[httpx.AsyncClient]]:
    """Open a few clients that together hold 200 connections, half of them to each process."""
    limits = httpx.Limits(max_connections=CONNECTIONS_EACH, max_keepalive_connections=CONNECTIONS_EACH)
    async with AsyncExitStack() as clients:
        yield [
            await clients.enter_async_context(
                httpx.AsyncClient(
                    base_url=doors[number % len(doors)],
                    limits=limits,
                    timeout=httpx.Timeout(30.0, pool=RUSH_S),
                    trust_env=False,
                )
            )
            for number in range(CLIENTS)
        ]
