"""The store in memory answers like PostgreSQL: the same random calls, the same answers, the same errors, at the same time."""

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared import identifiers
from tests.simulation import chance, parity

_CALLS = 600
_SEEDS = (1, 2)
# The databases' own clock is the calls' clock: unqualified, its functions are found in this schema first. A statement
# takes no time, so nobody waits for a lock.
_CLOCK = (
    "CREATE SCHEMA sim",
    *(
        f"CREATE FUNCTION sim.{name}() RETURNS timestamptz LANGUAGE sql STABLE AS"
        " $$ SELECT current_setting('sim.now')::timestamptz $$"
        for name in ("clock_timestamp", "statement_timestamp")
    ),
)
_DEFAULTS = text(
    "SELECT table_name, column_name FROM information_schema.columns"
    " WHERE table_schema = 'public' AND column_default LIKE '%clock_timestamp()%'"
)


@pytest.fixture
async def engines(reservation_database_url: str, payment_database_url: str) -> AsyncIterator[dict[str, AsyncEngine]]:
    """Both services' databases, whose clock stands where the calls put it."""
    opened = {
        service: create_async_engine(
            url,
            connect_args={
                "server_settings": {"search_path": "sim, pg_catalog, public", "sim.now": "2031-03-01 12:00Z"}
            },
        )
        for service, url in (("reservation", reservation_database_url), ("payment", payment_database_url))
    }
    for engine in opened.values():
        async with engine.begin() as connection:
            for statement in _CLOCK:
                await connection.execute(text(statement))
            for table, column in (await connection.execute(_DEFAULTS)).all():
                await connection.execute(
                    text(f"ALTER TABLE public.{table} ALTER COLUMN {column} SET DEFAULT sim.clock_timestamp()")
                )
    yield opened
    for engine in opened.values():
        await engine.dispose()


@pytest.fixture(scope="module")
def in_memory() -> dict[str, list[str]]:
    """What the store in memory answers, by seed; it takes a process of its own."""
    command = [sys.executable, "-m", "tests.simulation", "--calls", str(_CALLS), "--parity", *map(str, _SEEDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=110)
    told: dict[str, list[str]] = json.loads(done.stdout)
    return told


@pytest.mark.plants_violations
@pytest.mark.parametrize("seed", _SEEDS)
async def test_the_store_in_memory_answers_like_postgresql(
    seed: int, engines: dict[str, AsyncEngine], in_memory: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of calls of nearly every function of both stores are answered the same, errors and rollbacks included."""
    monkeypatch.setattr(identifiers, "uuid7", chance._uuid7)
    play = parity.Play(seed)

    async def transact(service: str, do: parity.Do) -> Any:
        async with engines[service].begin() as connection:
            await connection.execute(
                text("SELECT set_config('sim.now', :now, true)"), {"now": play.time.now().isoformat()}
            )
            return await do(connection)

    here = await parity.run(play, transact, _CALLS)
    for number, (real, simulated) in enumerate(zip(here, in_memory[str(seed)], strict=True)):
        assert _alike(real) == _alike(simulated), f"call {number}"
    errors = sum("Error" in line for line in here)
    assert errors > 5, "the calls must also meet constraints"
    print(f"parity: seed={seed} calls={len(here)} of them refused={errors}, all answered alike")


def _alike(line: str) -> str:
    """Leave out what each side may say in its own words: the names of error classes, codes staying."""
    return re.sub(r": \w+(Error|Exception|Row|Found)\w* ?", ": error ", line)
