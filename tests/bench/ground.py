"""Everything that is measured, running: the whole system with production's settings, its database open to us, bare apps."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from deploy.embedded.parts import PROJECT
from deploy.embedded.processes import Child
from deploy.embedded.stack import Stack
from tests.bench.requests_to_come import Guests
from tests.builders import a_slot
from tests.load.processor_time import children_of, spent_by, spent_ms
from tests.load.running import running_system
from tests.system import System

SLOTS = 50  # as in the figures of the peers
_TRIES = 5
_CAPACITY = 1_000_000
_SLOT_ID = "('00000000-0000-7000-8100-' || lpad(to_hex(n::int), 12, '0'))::uuid"
_LOOSE = "reservation_events, saga_log, payment_signals, sagas, idempotency, reservations"
_READY_S = 60.0
_STOPS_S = 10.0


class WrongBooks(Exception):
    """A check in SQL has found what may never be: no figure of such a run is worth anything."""


async def _emptied(connection: Any) -> None:
    """Empty all tables of holds; what the services do in the background may want them in another order just then."""
    for _ in range(_TRIES):
        with suppress(asyncpg.DeadlockDetectedError):
            async with connection.transaction():
                await connection.execute("SET LOCAL session_replication_role = replica")  # history lets nobody else
                await connection.execute(f"TRUNCATE {_LOOSE} CASCADE")
            return
    raise WrongBooks(f"the tables could not be emptied in {_TRIES} tries: deadlocks")


@dataclass(frozen=True)
class Ground:
    """The running system and what is known about it."""

    system: System
    postgres: Any
    postgres_password: str
    pg_bin: Path
    database: str
    guests: Guests
    bare_port: int
    bare_pid: int
    watch_file: Path

    @property
    def port(self) -> int:
        return int(self.system.stack.url("reservation").rpartition(":")[2])

    @property
    def sandbox_port(self) -> int:
        return int(self.system.stack.url("sandbox").rpartition(":")[2])

    def process_ids(self, part: str) -> list[int]:
        """Return a part's process with those that it has started."""
        return children_of(self.system.stack.children()[part][0])

    def spent_ms(self, part: str) -> float:
        """Return the processor time that a part has used so far; `bare` is the process of the bare apps."""
        pid = self.bare_pid if part == "bare" else self.system.stack.children()[part][0]
        return spent_by(pid)

    def serving_ms(self) -> float:
        """Return the processor time that everything that serves guests has used so far."""
        return sum(spent for part, spent in spent_ms(self.system).items() if part != "guests")

    @staticmethod
    def slot_id(number: int) -> str:
        return f"00000000-0000-7000-8100-{number:012x}"

    @property
    def slot_ids(self) -> list[str]:
        return [self.slot_id(number) for number in range(SLOTS)]

    async def connect(self, database: str = "") -> Any:
        """Connect as the superuser, to the reservation service's database unless another is named."""
        return await asyncpg.connect(self.postgres.dsn(database or self.database))

    async def wipe(self, *, hot_capacity: int = _CAPACITY) -> None:
        """Begin anew: no holds, fresh pages, nothing to be written behind our back. Slot 0 is the hot one."""
        connection = await self.connect()
        try:
            await _emptied(connection)
            await connection.execute("UPDATE time_slots SET taken = 0, capacity = $1", _CAPACITY)
            await connection.execute("UPDATE time_slots SET capacity = $2 WHERE id = $1", self.slot_id(0), hot_capacity)
            await connection.execute("VACUUM ANALYZE time_slots")  # of the others nothing is known, as on the first day
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()

    async def check(self, *, holds: int) -> None:
        """Make sure that exactly so many holds were made, each with its key, and that the counters say so. WrongBooks."""
        connection = await self.connect()
        try:
            found = dict(await connection.fetchrow(_BOOKS))
        finally:
            await connection.close()
        wanted = {"oversold": 0, "miscounted": 0, "holds": holds, "keys": holds}
        if found != wanted:
            raise WrongBooks(f"the books say {found}, and should say {wanted}")


_BOOKS = """
SELECT (SELECT count(*) FROM time_slots WHERE taken > capacity OR taken < 0) AS oversold,
       (SELECT count(*) FROM time_slots AS slot
        LEFT JOIN (SELECT time_slot_id, sum(seats) AS seats FROM reservations WHERE seats_pinned GROUP BY 1) AS rows
               ON rows.time_slot_id = slot.id
        WHERE slot.taken <> coalesce(rows.seats, 0)) AS miscounted,
       (SELECT count(*) FROM reservations) AS holds,
       (SELECT count(*) FROM idempotency WHERE route = 'POST /v1/holds') AS keys
"""


@contextmanager
def open_ground(folder: Path) -> Iterator[Ground]:
    """Start everything; the reservation service tells what its collector and its loop do."""
    watch_file = folder / "watch.jsonl"

    def prepare(stack: Stack) -> None:
        part: Any = stack._parts["reservation"]
        part.module = "tests.bench.watched_reservation"
        part.env["BENCH_WATCH_FILE"] = str(watch_file)

    with _bare_apps(folder) as (port, pid), running_system(stripe_ms=0, prepare=prepare) as system:
        offer = a_slot(system, capacity=_CAPACITY)
        postgres: Any = system.stack._parts["postgres"]
        database = system.stack.wiring.database_owner("reservation")[0]
        postgres.execute(
            f"""INSERT INTO time_slots (id, experience_id, starts_at, ends_at, sells_until, capacity)
            SELECT {_SLOT_ID}, experience_id, starts_at, ends_at, sells_until, capacity
            FROM time_slots, generate_series(0, {SLOTS - 1}) AS n WHERE id = '{offer.id}'""",  # noqa: S608  our own words
            database=database,
        )
        yield Ground(
            system=system,
            postgres=postgres,
            postgres_password=system.stack.credentials.postgres_password,
            pg_bin=postgres.quarters.binaries.bin_dir,
            database=database,
            guests=Guests(system, offer.ticket_type_id),
            bare_port=port,
            bare_pid=pid,
            watch_file=watch_file,
        )


@contextmanager
def _bare_apps(folder: Path) -> Iterator[tuple[int, int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.bench.bare_apps", str(port)]
    apps = Child("the bare apps", command, log=folder / "bare_apps.log", env=dict(os.environ), cwd=PROJECT)
    try:
        apps.wait_until(partial(_answers, port), _READY_S)
        yield port, apps.pid
    finally:
        apps.stop(_STOPS_S)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
