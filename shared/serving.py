"""Runs one service as one process: read the settings, check the schema, serve until SIGTERM, drain."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError

from shared.database import DatabaseAway
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
    http: type[asyncio.Protocol],
) -> None:
    """Serve until told to stop. Exits with status 1 and one clear line when the service cannot run like this.

    `http` speaks with a connection; `require_schema` is given the database's address and raises what `shared.schema_age`
    raises. An app keeps in `app.state.logs_in_json` what is asked before each line of the log.
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
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    app = create_app(settings)
    lines.follow(app.state.logs_in_json)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=port(settings),
        http=http,
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
    if waiting := asyncio.current_task():  # the first process of a container ends by nothing that it does not listen to
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, waiting.cancel)
    while True:
        try:
            return await look()
        except (SchemaOutdated, DatabaseAway):
            if time.monotonic() >= until:
                raise
        await asyncio.sleep(_LOOK_FOR_SCHEMA_S)


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
