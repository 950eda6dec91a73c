"""Notices that a caller has hung up: the server itself goes on with a request whose client is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.types import Receive


@asynccontextmanager
async def listening_for_hang_up(request: Request) -> AsyncIterator["asyncio.Future[None]"]:
    """Give a future that is done once the caller has hung up. The body was read before; nothing else is read here."""
    listening = asyncio.create_task(_gone(request.receive))
    try:
        yield listening
    finally:
        listening.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
