"""The only place where the sandbox is wired: routes, background work, start and stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .control import Control
from .errors import unrecognized_url
from .front_desk import FrontDesk
from .operations import OPERATIONS, Operation
from .sandbox import Sandbox
from .three_d_secure import BankPage, page

_log = logging.getLogger(__name__)
_TICK_S = 0.5


def create_app(sandbox: Sandbox) -> Starlette:
    """Return the ASGI application; its lifespan runs the deliveries and closes the state."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(sandbox.deliverer.run()), asyncio.create_task(_tick_for_ever(sandbox))]
        for task in tasks:
            task.add_done_callback(_complain)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)
            sandbox.state.close()

    desk, bank = FrontDesk(sandbox), BankPage(sandbox)
    routes = [
        Route(operation.path, _answering(desk, operation), methods=[operation.method]) for operation in OPERATIONS
    ]
    routes += Control(sandbox).routes()
    routes += [
        Route("/", _front_page),
        Route("/3ds/{id}", bank.show, methods=["GET"]),
        Route("/3ds/{id}", bank.decide, methods=["POST"]),
        Route("/v1/{rest:path}", _preflight, methods=["OPTIONS"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _unrecognized})


def _answering(desk: FrontDesk, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await desk.answer(operation, request)

    return answer


async def _tick_for_ever(sandbox: Sandbox) -> None:
    while True:
        sandbox.tick()
        await asyncio.sleep(_TICK_S)


def _complain(task: asyncio.Task[None]) -> None:
    """Background work never ends by itself; when a bug ends it, the log must say so."""
    if not task.cancelled() and (error := task.exception()):
        _log.critical("background work of the sandbox has stopped", exc_info=error)


async def _unrecognized(request: Request, _error: Exception) -> Response:
    refusal = unrecognized_url(request.method, request.url.path)
    return Response(orjson.dumps(refusal.body()), refusal.status, media_type="application/json")


async def _preflight(_request: Request) -> Response:
    """A browser asks before it confirms from another origin; Stripe allows all of them, and so do we under /v1."""
    headers = {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "authorization, content-type, idempotency-key, stripe-version",
        "Access-Control-Max-Age": "600",
    }
    return Response(status_code=204, headers=headers)


async def _front_page(_request: Request) -> Response:
    operations = "".join(f"<li><code>{operation.method} {operation.path}</code></li>" for operation in OPERATIONS)
    return page(
        "This is not Stripe",
        "<p>It is a stand-in that speaks a part of Stripe's API, so that Holdfast runs without an account. "
        "It keeps no real money and takes only Stripe's published test cards.</p>"
        f"<p>What it can do:</p><ul>{operations}</ul><p>What it did: <a href='/_sandbox/journal'>journal</a>, "
        "<a href='/_sandbox/book'>book</a>, <a href='/_sandbox/deliveries'>deliveries</a>, <a href='/_sandbox/faults'>faults</a>.</p>",
    )
