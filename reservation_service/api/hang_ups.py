"""Notices that a caller has hung up: the server itself goes on with a request whose client is gone."""

import asyncio
from types import TracebackType

from starlette.requests import Request
from starlette.types import Receive


class ListeningForHangUp:
    """Gives a future that is done once the caller has hung up. The body was read before; nothing else is read here."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive

    async def __aenter__(self) -> "asyncio.Future[None]":
        self._listening = asyncio.create_task(_gone(self._receive))
        return self._listening

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._listening.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
