"""Databases for tests, made and dropped by the hundred: over one connection that stays open, each a copy of a template."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import asyncpg

from deploy.embedded.databases import migrate
from deploy.embedded.postgres import Postgres
from tests.surroundings import template_of

T = TypeVar("T")

LENT = "HOLDFAST_TESTS_POSTGRES"
_MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it
_ROOM_BYTES = 3 * 2**30


@contextmanager
def quick_folder(otherwise: Path) -> Iterator[Path]:
    """Yield a folder in memory where the machine has one with room: no test asks what a disk keeps."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-tests-", dir=_MEMORY, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as somebody else where the tests run as root
        yield Path(folder)


@contextmanager
def open_server(folder: Path) -> Iterator[Postgres]:
    """Yield the server that another run lends to this one, else one of its own; it need not survive a power cut."""
    if lent := os.environ.get(LENT):
        port, _, password = lent.partition(":")
        yield Postgres(folder, password=password, port=int(port))
        return
    with (
        quick_folder(folder) as home,
        Postgres(home, password=secrets.token_hex(16), durable=False) as server,
    ):
        yield server


def lend(server: Postgres) -> dict[str, str]:
    """Return the environment in which a run uses this server instead of one of its own."""
    address = urlsplit(server.dsn())
    return {LENT: f"{address.port}:{address.password}"}


def migrated_template(server: Postgres, service: str) -> str:
    """Return the name of a database with all migrations of a service, to be copied and never connected to."""
    name = template_of(service)
    if server.create_database(name):
        migrate({service: server.url(name)})
    return name


class Databases:
    """One server's databases; may be asked from inside an event loop, because it has one of its own in a thread."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._thread = ThreadPoolExecutor(1)
        self._loop = asyncio.Runner()
        self._connection: Any = None

    def create(self, name: str, *, template: str) -> None:
        """Create a copy of a template that nobody is connected to."""
        self._ask(self._do(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'))

    def drop(self, name: str) -> None:
        """Drop a database with the connections it has."""
        self._ask(self._do(f'DROP DATABASE "{name}" WITH (FORCE)'))

    async def _do(self, statement: str) -> None:
        try:
            await (await self._connected()).execute(statement, timeout=60)
        except asyncpg.ConnectionDoesNotExistError:  # a test has restarted the server, and this says so just now
            await (await self._connected()).execute(statement, timeout=60)

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._postgres.dsn(), timeout=20)
        return self._connection

    async def _close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        return self._thread.submit(self._loop.run, work).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ask(self._close())
        self._thread.submit(self._loop.close).result()
        self._thread.shutdown()
