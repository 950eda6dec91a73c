"""Runs one service as one process: read the settings, check the schema, serve until SIGTERM, drain."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import TypeVar

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError

from shared.database import DatabaseAway
from shared.migrations import SchemaOutdated, require_current
from shared.settings import SharedSettings
from shared.telemetry import configure_logging

_START_FAILED = 3

Settings = TypeVar("Settings", bound=SharedSettings)


def serve(
    name: str,
    settings_class: type[Settings],
    create_app: Callable[[Settings], FastAPI],
    *,
    port: Callable[[Settings], int],
    database_url: Callable[[Settings], SecretStr],
    migrations: str,
) -> None:
    """Serve until told to stop. Exits with status 1 and one clear line when the service cannot run like this."""
    try:
        settings = settings_class()
    except ValidationError as error:
        sys.exit(f"{name}: {_what_is_wrong(error)}")
    configure_logging(name, settings)
    try:
        asyncio.run(require_current(database_url(settings).get_secret_value(), migrations))
    except SchemaOutdated as error:
        sys.exit(f"{name}: {error}")
    except DatabaseAway as error:
        sys.exit(f"{name}: the database cannot be reached ({error})")
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=port(settings),
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # else any process on this host could say whom it speaks for; see TRUSTED_PROXIES
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    server = _Server(config, app)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(_START_FAILED)


class _Server(uvicorn.Server):
    """Lets the app end its endless answers before it waits for the answers in flight.

    An app that has such answers keeps in `app.state.when_leaving` what ends them.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for end in getattr(self._app.state, "when_leaving", ()):
            end()
        await super().shutdown(sockets)


def _what_is_wrong(error: ValidationError) -> str:
    """Name the variables, never their values: they may be secrets."""
    lines = [f"{str(item['loc'][0]).upper()} ({item['msg']})" for item in error.errors(include_input=False)]
    return "the environment is not complete: " + ", ".join(lines)
