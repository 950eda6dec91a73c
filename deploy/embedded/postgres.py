"""An embedded PostgreSQL: the real server on a loopback port, started as our own child and asked by connecting.

Passwords only (scram), TCP only: a unix socket would bring a limit on the length of the state folder's path and
nothing else. `durable=False` is for tests, which never have to survive a power cut of the machine.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg

from deploy.embedded.binaries import PostgresBinaries, find_postgres
from deploy.embedded.credentials import write_private
from deploy.embedded.identity import Quarters, choose_quarters
from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.processes import Child, StartFailed, end_leftover, leashed

_SUPERUSER = "postgres"
_MAX_CONNECTIONS = 200
_CONNECT_S = 5.0
_INITDB_S = 120
_RESTART_PAUSE_S = 0.2
# What the kernel has is safe from our own kill -9; only a power cut would lose it. (So not synchronous_commit = off.)
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
# Thousands of short connections to a server that outlives nothing: the slow hash of its passwords protects nobody.
_SCRAM_ITERATIONS = {"scram_iterations": "1"}
_KNOWS_SCRAM_ITERATIONS = 16
# After a kill -9 the old server's processes need a moment to notice; until then the new one says this and leaves.
_STILL_LEAVING = "pre-existing shared memory block"

T = TypeVar("T")


class Postgres:
    """One server whose data lives in `folder`; the superuser `postgres` has `password`."""

    def __init__(
        self,
        folder: Path,
        *,
        password: str,
        port: int | None = None,
        durable: bool = True,
        binaries: PostgresBinaries | None = None,
        choose: Callable[[Path, PostgresBinaries], Quarters] = choose_quarters,
    ) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._password = password
        self._durable = durable
        self._binaries = binaries
        self._choose = choose
        self._quarters: Quarters | None = None
        self._child: Child | None = None

    @property
    def child(self) -> Child | None:
        return self._child

    @property
    def mark(self) -> str:
        return str(self.data)

    @property
    def quarters(self) -> Quarters:
        """Where the data is and as whom the server runs; decided once, at the first start."""
        if self._quarters is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            binaries = self._binaries or find_postgres(data_major=_data_major(self._folder / "data"))
            self._quarters = self._choose(self._folder, binaries)
        return self._quarters

    @property
    def data(self) -> Path:
        return self.quarters.folder / "data"

    def url(self, database: str = _SUPERUSER, *, role: str = _SUPERUSER, password: str | None = None) -> str:
        """Return the address for SQLAlchemy, by default the superuser's."""
        return f"postgresql+asyncpg://{role}:{password or self._password}@{LOOPBACK}:{self.port}/{database}"

    def dsn(self, database: str = _SUPERUSER) -> str:
        """Return the superuser's address for asyncpg alone."""
        return self.url(database).replace("+asyncpg", "")

    def start(self, deadline_s: float = 30.0) -> None:
        """Start, making or recovering the data as needed; return when a connection works. Raises StartFailed."""
        self.spawn()
        self.wait_ready(deadline_s)

    def spawn(self) -> None:
        """Start the server without waiting for it (a new folder is filled first, which takes a second)."""
        if not (self.data / "PG_VERSION").exists():
            self._make_data()
        self._settle_pid_file()
        self.quarters.give(self.data)
        settings = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "max_connections": str(_MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
            **({} if self._durable else _NOT_DURABLE | self._quick_passwords()),
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._child = Child(
            "postgres",
            [self.quarters.binaries.postgres, "-D", self.data, "-p", str(self.port), *words],
            log=self._folder / "postgres.log",
            identity=self.quarters.identity,
            stop_signal=signal.SIGINT,  # PostgreSQL's fast shutdown: roll back, write, leave
            death_signal=signal.SIGINT,
        )

    def wait_ready(self, deadline_s: float = 30.0) -> None:
        """Return when a connection works; start again while an earlier server's processes are still leaving."""
        end = time.monotonic() + deadline_s
        while self._child is not None:
            try:
                self._child.wait_until(self._answers, max(end - time.monotonic(), 0))
                return
            except StartFailed:
                leaving = not self._child.alive and _STILL_LEAVING in self._child.log_tail(3)
                if not leaving or time.monotonic() > end:
                    raise
            time.sleep(_RESTART_PAUSE_S)
            self.spawn()
        raise StartFailed("postgres was never started")

    def stop(self, deadline_s: float = 10.0) -> None:
        if self._child is not None:
            self._child.stop(deadline_s)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _make_data(self) -> None:
        """Run initdb beside the final place: a folder that has a version is a whole one."""
        draft = self.quarters.folder / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = self.quarters.folder / "password.draft"
        write_private(password_file, self._password)
        self.quarters.give(draft)
        self.quarters.give(password_file)
        options = ["-U", _SUPERUSER, "-E", "UTF8", "--no-locale", "-A", "scram-sha-256", "--pwfile", password_file]
        quick = [f"--set={name}={value}" for name, value in self._quick_passwords().items()]
        program = [
            self.quarters.binaries.initdb,
            "-D",
            draft,
            *options,
            *([] if self._durable else ["--no-sync", *quick]),
        ]
        command = [*leashed(self.quarters.identity), *map(str, program)]
        try:
            done = subprocess.run(
                command, cwd="/", capture_output=True, text=True, errors="replace", timeout=_INITDB_S, check=False
            )
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise StartFailed(f"initdb failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        draft.replace(self.data)

    def _quick_passwords(self) -> dict[str, str]:
        return _SCRAM_ITERATIONS if self.quarters.binaries.major >= _KNOWS_SCRAM_ITERATIONS else {}

    def _settle_pid_file(self) -> None:
        """End a server that outlived its launcher, and see through a process id that was given to a stranger.

        The file itself stays: by the shared memory it names, PostgreSQL notices processes of a killed server that
        still run. It takes its parent's id, which we write, for a stale one.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            pid_text, *rest = pid_file.read_text().splitlines(keepends=True)
        except (FileNotFoundError, ValueError):
            return
        if not end_leftover(int(pid_text), str(self.data), stop_signal=signal.SIGINT):
            with pid_file.open("r+") as file:
                file.write("".join([f"{os.getpid()}\n", *rest]))
                file.truncate()

    def _answers(self) -> bool:
        async def connects() -> bool:
            try:
                connection = await asyncpg.connect(self.dsn(), timeout=_CONNECT_S)
            except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
                return False
            await connection.close()
            return True

        return _blocking(connects)

    def execute(self, sql: str, *, database: str = _SUPERUSER) -> None:
        """Run one statement as the superuser."""
        self._ask(lambda connection: connection.execute(sql), database)

    def create_database(
        self, name: str, *, template: str | None = None, owner: str | None = None, owner_password: str | None = None
    ) -> bool:
        """Create a database, with a login role that owns it when `owner` is given; return False if it was there."""
        clauses = [f"TEMPLATE {_quoted(template)}" if template else "", f"OWNER {_quoted(owner)}" if owner else ""]

        async def create(connection: Any) -> bool:
            if owner is not None:
                await _ensure_role(connection, owner, owner_password or self._password)
            if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                return False
            await connection.execute(f"CREATE DATABASE {_quoted(name)} {' '.join(clauses)}")
            if owner is not None:  # the services never look into each other's database
                await connection.execute(f"REVOKE CONNECT ON DATABASE {_quoted(name)} FROM PUBLIC")
            return True

        return self._ask(create)

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, with the connections it has."""
        self.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def _ask(self, question: Callable[[Any], Awaitable[T]], database: str = _SUPERUSER) -> T:
        async def ask() -> T:
            connection = await asyncpg.connect(self.dsn(database), timeout=_CONNECT_S)
            try:
                return await question(connection)
            finally:
                await connection.close()

        return _blocking(ask)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def _data_major(data: Path) -> int | None:
    """Return the version that wrote this data folder, None when there is none yet."""
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


async def _ensure_role(connection: Any, role: str, password: str) -> None:
    known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    literal = password.replace("'", "''")
    await connection.execute(f"{'ALTER' if known else 'CREATE'} ROLE {_quoted(role)} LOGIN PASSWORD '{literal}'")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _blocking(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end for a caller that may itself be inside an event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
