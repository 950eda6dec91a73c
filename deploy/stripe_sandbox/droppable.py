"""Cutting a connection in the middle of a call, which ASGI has no word for: the protocol hands its transport to the app."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_CONNECTION = "sandbox_connection"


class DroppableProtocol(HttpToolsProtocol):
    """uvicorn's own protocol; each request's scope also knows the connection that it came over."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][_CONNECTION] = self.transport


class Dropped(Response):
    """Not an answer: the connection is cut."""

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        scope["state"][_CONNECTION].abort()
        while (await receive())["type"] != "http.disconnect":
            continue
