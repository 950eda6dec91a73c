"""Notices that a caller has hung up: the server itself goes on with a request whose client is gone."""

import asyncio
from types import TracebackType

from starlette.requests import Request
from starlette.types import Receive

# Nearly every answer is there before that, and listening for one that has not waited costs more than it can save.
_LISTENS_AFTER_S = 0.2


class ListeningForHangUp:
    """Gives a future that is done once the caller has hung up. The body was read before; nothing else is read here."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._listening: asyncio.Task[None] | None = None

    def __enter__(self) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        self._hung_up: asyncio.Future[None] = loop.create_future()
        self._later = loop.call_later(_LISTENS_AFTER_S, self._listen)
        return self._hung_up

    def _listen(self) -> None:
        self._listening = asyncio.create_task(_gone(self._receive, self._hung_up))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._later.cancel()
        self._hung_up.cancel()
        if self._listening is not None:
            self._listening.cancel()


async def _gone(receive: Receive, hung_up: "asyncio.Future[None]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not hung_up.done():
        hung_up.set_result(None)
