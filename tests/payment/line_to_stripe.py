"""The wire to Stripe, and what can happen on it: nothing sent, nothing done, nothing heard, or something else said."""

from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import orjson

Meeting = Callable[[httpx.Request, httpx.AsyncBaseTransport], Any]


async def passes(request: httpx.Request, sandbox: httpx.AsyncBaseTransport) -> httpx.Response:
    """Meet nothing unusual."""
    return await sandbox.handle_async_request(request)


async def never_connects(request: httpx.Request, _sandbox: httpx.AsyncBaseTransport) -> httpx.Response:
    """Stripe cannot be reached: nothing was sent."""
    raise httpx.ConnectError("refused", request=request)


async def loses_the_answer(request: httpx.Request, sandbox: httpx.AsyncBaseTransport) -> httpx.Response:
    """Stripe does it, and the answer gets lost."""
    response = await sandbox.handle_async_request(request)
    await response.aread()
    raise httpx.ReadTimeout("the answer got lost", request=request)


async def loses_the_question(request: httpx.Request, _sandbox: httpx.AsyncBaseTransport) -> httpx.Response:
    """The connection breaks while Stripe has not done it; from here that looks like a lost answer."""
    raise httpx.RemoteProtocolError("cut", request=request)


def says(status: int, body: Any = None, **headers: str) -> Meeting:
    """Answer in Stripe's place."""

    async def meet(_request: httpx.Request, _sandbox: httpx.AsyncBaseTransport) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body or {"error": {"type": "api_error"}})
        return httpx.Response(status, content=content, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return meet


def tells(**members: Any) -> Meeting:
    """Let Stripe do it, and change what its answer says."""

    async def meet(request: httpx.Request, sandbox: httpx.AsyncBaseTransport) -> httpx.Response:
        response = await sandbox.handle_async_request(request)
        document = orjson.loads(await response.aread())
        return httpx.Response(response.status_code, json=document | members)

    return meet


class Line(httpx.AsyncBaseTransport):
    """The way to Stripe. Each call meets the next thing of the script; without one it passes."""

    def __init__(self, sandbox: httpx.AsyncBaseTransport) -> None:
        self.sandbox = sandbox
        self.script: deque[Meeting] = deque()
        self.calls: list[httpx.Request] = []
        self.met = 0  # how many calls met something of a script

    def meets(self, *script: Meeting) -> None:
        self.script.extend(script)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        self.met += bool(self.script)
        meet = self.script.popleft() if self.script else passes
        return await meet(request, self.sandbox)

    def keys(self, path_ends: str) -> list[str]:
        """Return the idempotency keys of the POSTs to a path, in order."""
        return [
            call.headers["idempotency-key"]
            for call in self.calls
            if call.method == "POST" and call.url.path.endswith(path_ends)
        ]

    def form(self, at: int) -> dict[str, str]:
        """Return what the call at this place of the list had sent."""
        return {name: values[0] for name, values in parse_qs(self.calls[at].content.decode()).items()}
