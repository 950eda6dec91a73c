"""Runs one service as one process: read the settings, check the schema, serve until SIGTERM, drain."""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, cast

import orjson
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.database import DatabaseAway
from shared.http_edge import Turnstile
from shared.problems import HeadersTooLarge, MalformedRequest, Problem, RequestTimeout
from shared.schema_age import SchemaOutdated
from shared.settings import SharedSettings
from shared.telemetry import configure_logging

_START_FAILED = 3
_LOOK_S = 0.05
_LOOK_FOR_SCHEMA_S = 0.2

Settings = TypeVar("Settings", bound=SharedSettings)


def serve(
    name: str,
    settings_class: type[Settings],
    create_app: Callable[[Settings], FastAPI],
    *,
    port: Callable[[Settings], int],
    database_url: Callable[[Settings], SecretStr],
    require_schema: Callable[[str], Coroutine[Any, Any, None]],
) -> None:
    """Serve until told to stop. Exits with status 1 and one clear line when the service cannot run like this.

    `require_schema` is given the database's address and raises what `shared.schema_age` raises. An app keeps in
    `app.state.logs_in_json` what is asked before each line of the log.
    """
    try:
        settings = settings_class()
    except ValidationError as error:
        sys.exit(f"{name}: {_what_is_wrong(error)}")
    lines = configure_logging(name, settings)
    try:
        asyncio.run(_find_schema(partial(require_schema, database_url(settings).get_secret_value()), settings))
    except SchemaOutdated as error:
        sys.exit(f"{name}: {error}")
    except DatabaseAway as error:
        sys.exit(f"{name}: the database cannot be reached ({error})")
    app = create_app(settings)
    lines.follow(app.state.logs_in_json)
    config = uvicorn.Config(
        Turnstile(app),
        host=settings.host,
        port=port(settings),
        http=ImpatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # else any process on this host could say whom it speaks for; see TRUSTED_PROXIES
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    server = _Server(config, app, notice_s=settings.shutdown_notice_s)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(_START_FAILED)


async def _find_schema(look: Callable[[], Coroutine[Any, Any, None]], settings: SharedSettings) -> None:
    """Look until everything is there, as long as settings have patience. Raises what the last look raised."""
    until = time.monotonic() + settings.start_patience_s
    while True:
        try:
            return await look()
        except (SchemaOutdated, DatabaseAway):
            if time.monotonic() >= until:
                raise
        await asyncio.sleep(_LOOK_FOR_SCHEMA_S)


class _InOnePiece:
    """A transport that sends the head of an answer with its body: each piece is a call of the kernel, and wakes its reader.

    The head of an answer whose length is not known goes at once: a stream's body may come much later.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._head and data.startswith(b"HTTP/1.") and b"\r\ncontent-length: " in data:
            self._head = data
            return
        head, self._head = self._head, b""
        self._transport.write(head + data)

    def flush(self) -> None:
        """Send a head that has no body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()


class ImpatientProtocol(HttpToolsProtocol):
    """Waits for no sender for ever: a request has so long for its head and for its body, and so many bytes for its head.

    uvicorn's own timeout is for connections that rest between two requests; one that says nothing, or a byte now and
    then, would be held open as long as its sender likes.
    """

    head_s = 10.0
    body_s = 30.0
    head_limit_bytes = 64 * 1024

    _deadline: asyncio.TimerHandle | None = None
    _deadline_of_body = False
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        self._answers = _InOnePiece(transport)
        super().connection_made(cast(asyncio.Transport, self._answers))
        self._wait(self.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.head_limit_bytes:
            self._refuse(HeadersTooLarge())
        elif not self.transport.is_closing():
            self._wait_for_the_rest()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_waiting()
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._answers.flush()
        super().on_response_complete()

    def _wait_for_the_rest(self) -> None:
        """Set the clock for what is missing. Most requests come in one piece, and are never waited for."""
        if not self._in_head:
            if self._deadline is None or not self._deadline_of_body:
                self._wait(self.body_s)
                self._deadline_of_body = True
        elif self._head_bytes and self._deadline is None:
            self._wait(self.head_s)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words; ours are a problem document
        self._refuse(MalformedRequest())

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline, self._deadline_of_body = None, False

    def _give_up(self) -> None:
        self._deadline, self._deadline_of_body = None, False
        if self._head_bytes:
            self._refuse(RequestTimeout())
        else:
            self.transport.close()  # nothing was asked, so nothing is answered

    def _may_answer(self) -> bool:
        """Tell whether the request that is coming in has had no answer, and no other answer is on its way."""
        cycle: Any = self.cycle  # none before the first request, whatever uvicorn declares
        if self._in_head:
            return cycle is None or bool(cycle.response_complete)
        return not cycle.response_started

    def _refuse(self, problem: Problem) -> None:
        """Answer what never became a request, unless an answer is on its way already, and hang up."""
        self._stop_waiting()
        if self.transport.is_closing():
            return
        if self._may_answer():
            body = orjson.dumps(problem.document())
            head = (
                f"HTTP/1.1 {problem.status} {problem.code}\r\ncontent-type: application/problem+json\r\n"
                f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """Says that it is leaving before it takes no more calls, and ends endless answers before it waits for those in flight.

    An app keeps in `app.state.health` what `/readyz` says, and in `app.state.when_leaving` what ends its endless answers.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, notice_s: float = 0.0) -> None:
        super().__init__(config)
        self._app = app
        self._notice_s = notice_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.health.draining = True
        loop = asyncio.get_running_loop()
        notice_ends = loop.time() + self._notice_s
        while loop.time() < notice_ends and not self.force_exit:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(_LOOK_S)
        for end in getattr(self._app.state, "when_leaving", ()):
            end()
        await super().shutdown(sockets)


def _what_is_wrong(error: ValidationError) -> str:
    """Name the variables, never their values: they may be secrets."""
    lines = [f"{str(item['loc'][0]).upper()} ({item['msg']})" for item in error.errors(include_input=False)]
    return "the environment is not complete: " + ", ".join(lines)
