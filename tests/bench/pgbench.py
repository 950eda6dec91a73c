"""PostgreSQL's own limit, by PostgreSQL's own tool: the very statement of a hold, on the same tables, without us."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from reservation_service.store.hold_lane import PLANNED_FOR
from reservation_service.store.slots import HOLD_ROUTE, HOLD_SQL
from tests.bench.ground import Ground

CLIENTS = 8
_CONSTANTS = {
    "route": HOLD_ROUTE,
    "items": '[{"title": "Adult", "seats": 1, "quantity": 1, "unit_price": {"amount": 4500, "currency": "EUR"}}]',
    "price": '{"total": {"amount": 4500, "currency": "EUR"}, "subtotal": {"amount": 4500, "currency": "EUR"}}',
    "fingerprint": "\\x" + "5a" * 32,
    "total_minor": "4500",
    "currency": "EUR",
    "capture_method": "manual",
    "ttl_s": "600",
    "seats": "1",
    "active_holds_max": "5",
}
# Ids count upwards in each client, as ours do in each process; every hold is of a new caller with a new key.
_EXPRESSIONS = {
    "hold_id": "CAST('01900000-0000-7000-9000-' || lpad(to_hex(CAST(:number AS bigint)), 12, '0') AS uuid)",
    "time_slot_id": "CAST('00000000-0000-7000-8100-' || lpad(to_hex(CAST(:slot AS int)), 12, '0') AS uuid)",
    "caller": ":number",
    "key": ":number",
    **dict.fromkeys(("client_reference", "metadata", "discount_id", "supersedes"), "NULL"),
}
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_TPS = re.compile(r"tps = ([0-9.]+)")
_RUNS = count(1)


def script(slots: int) -> str:
    """Return the pgbench script; constants come in as variables, everything else is an expression of a counter."""

    def placed(match: re.Match[str]) -> str:
        return _EXPRESSIONS.get(match[1], match[0])

    sql = " ".join(_PARAMETER.sub(placed, HOLD_SQL).split())
    return (
        "\\set turn :turn + 1\n\\set number :run * 10000000000 + :client_id * 100000000 + :turn\n"
        f"\\set slot random(0, {slots - 1})\n"
        f"\\if mod(:turn, {PLANNED_FOR // CLIENTS}) = 0\nDISCARD PLANS;\n\\endif\n{sql};\n"  # as `store.hold_lane` does
    )


@dataclass(frozen=True)
class Pgbench:
    """pgbench against the database of the reservation service."""

    ground: Ground
    folder: Path
    cores: set[int] = field(default_factory=lambda: os.sched_getaffinity(0))

    def holds_per_s(self, *, slots: int, seconds: float, clients: int = CLIENTS) -> float:
        """Return how many holds a second PostgreSQL takes from so many clients; every one of them must be taken."""
        file = self.folder / f"hold-{slots}.sql"
        file.write_text(script(slots))
        variables = {"run": str(next(_RUNS)), "turn": "0", **_CONSTANTS}
        done = subprocess.run(
            [
                self.ground.pg_bin / "pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2",
                "-T", str(max(1, round(seconds))), "-f", file, "-h", "127.0.0.1", "-p", str(self.ground.postgres.port),
                "-U", "postgres", *(f"-D{name}={value}" for name, value in variables.items()), self.ground.database,
            ],
            env=self._environment(), capture_output=True, text=True, timeout=seconds + 60, check=False,
        )  # fmt: skip
        found = _TPS.search(done.stdout)
        if done.returncode or found is None:
            raise RuntimeError(f"pgbench failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
        return float(found[1])

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, "PGPASSWORD": self.ground.postgres_password}

    @contextmanager
    def postgres_on_one_core(self) -> Iterator[None]:
        """Keep the server, and what it starts meanwhile, on one core; the other one is pgbench's."""
        server = self.ground.process_ids("postgres")
        try:
            for pid in server:
                _pin(pid, {min(self.cores)})
            yield
        finally:
            for pid in self.ground.process_ids("postgres"):
                _pin(pid, self.cores)


def _pin(pid: int, cores: set[int]) -> None:
    try:
        os.sched_setaffinity(pid, cores)
    except ProcessLookupError:
        return
