"""The short way to `POST /v1/holds`, the one path on which a whole town stands at once.

What is as it should be goes straight to the behaviour: routing, dependencies and the wrapping of errors cost the
framework more than a hold costs us. Whatever is not (no caller, no key, another media type, a body that does not
validate) goes the ordinary way, with the same bytes: only the route in the OpenAPI document refuses.
"""

from typing import NamedTuple

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reservation_service.api.dependencies import Parts
from reservation_service.api.holds import make_hold
from reservation_service.api.schemas import CreateHoldBody
from reservation_service.flags import LEAN_HOLD_DOOR
from shared.auth import Caller
from shared.idempotency import parse_key
from shared.problems import Problem, Weather, refused

PATH = "/v1/holds"
_JSON = "application/json"


class _Wanted(NamedTuple):
    """A request that nothing is wrong with, as far as its form goes."""

    caller: Caller
    key: str
    body: CreateHoldBody


class HoldDoor:
    """Stands behind the rate limits, which know the caller. `route` is the ordinary one, whose name metrics count by."""

    def __init__(self, app: ASGIApp, parts: Parts, route: BaseRoute) -> None:
        self._app = app
        self._parts = parts
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        caller: Caller | None = scope.get("caller")
        if caller is None or not self._parts.flags.is_on(LEAN_HOLD_DOOR, caller.subject):
            await self._app(scope, receive, send)
            return
        content = await _body(receive)
        if content is None:
            await self._app(scope, receive, send)  # where the server says once more that nobody is there
            return
        wanted = _read(scope, caller, content)
        if wanted is None:
            await self._app(scope, _again(content, receive), send)
            return
        request = Request(scope, receive)
        scope["route"] = self._route
        try:
            answer = await make_hold(self._parts, wanted.caller, wanted.key, wanted.body, request)
        except (Problem, Weather) as refusal:
            answer = await refused(request, refusal)
        await answer(scope, receive, send)


async def _body(receive: Receive) -> bytes | None:
    """Read a body to its end; None when its sender has left before."""
    content, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        content += message.get("body", b"")
        more = message.get("more_body", False)
    return content


def _read(scope: Scope, caller: Caller, content: bytes) -> _Wanted | None:
    """Return what is wanted; None when anything about it is not as it should be, whatever that is."""
    if not caller.writes or caller.bound_to is not None or _said(scope, b"content-type") != [_JSON]:
        return None
    try:
        key = parse_key(_said(scope, b"idempotency-key"))
        return _Wanted(caller, key, CreateHoldBody.model_validate(orjson.loads(content)))
    except (Problem, ValidationError, orjson.JSONDecodeError):
        return None


def _said(scope: Scope, header: bytes) -> list[str]:
    """Return the lines of a header; its name is in lower case, as ASGI wants it."""
    return [value.decode("latin-1") for name, value in scope["headers"] if name == header]


def _again(content: bytes, receive: Receive) -> Receive:
    """Return what gives the body once more to whoever reads it next."""
    unread: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_again() -> Message:
        return unread.pop() if unread else await receive()

    return receive_again
