"""The process: it says in one line why it cannot start, and stops when it is told to."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest

from deploy.embedded.databases import migrate
from deploy.embedded.postgres import Postgres
from tests.answers import eventually
from tests.sandbox.running import free_port

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "AUTH_JWT_SECRET": "secret-canary-1-of-the-identity-provider",
    "INTERNAL_SIGNING_KEYS": "k1:secret-canary-2-between-our-two-services",
    "STRIPE_SECRET_KEY": "sk_test_canary_3",
    "STRIPE_PUBLISHABLE_KEY": "pk_test_x",
    "STRIPE_WEBHOOK_SECRETS": "whsec_canary_4",
    "STRIPE_API_BASE": "http://127.0.0.1:9",
}


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "payment_service"]
    env = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    """A database that no migration has seen."""
    name = f"empty_{uuid4().hex}"
    postgres.create_database(name)
    yield postgres.url(name)
    postgres.drop_database(name)


def test_missing_settings_are_named_and_their_values_are_not() -> None:
    """One line says what is missing or wrong; no secret is printed."""
    wrong = SETTINGS | {"WEBHOOK_TOLERANCE_S": "0"}
    ended = run(**wrong)
    assert ended.returncode == 1
    assert "PAYMENT_DATABASE_URL" in ended.stderr
    assert "WEBHOOK_TOLERANCE_S" in ended.stderr
    assert "canary" not in ended.stderr + ended.stdout
    assert len(ended.stderr.strip().splitlines()) == 1


def test_an_outdated_schema_is_refused(empty_database: str) -> None:
    """A service on an older schema says so and exits, before it takes a request."""
    ended = run(**SETTINGS, PAYMENT_DATABASE_URL=empty_database)
    assert ended.returncode == 1
    assert "holdfast migrate" in ended.stderr


def test_a_database_that_is_away_is_named() -> None:
    """Nobody listens there: one line, no stack, no password."""
    url = f"postgresql+asyncpg://someone:canary@127.0.0.1:{free_port()}/nothing"
    ended = run(**SETTINGS, PAYMENT_DATABASE_URL=url)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "canary" not in ended.stderr


@contextmanager
def launched(database_url: str, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Yield a process that has begun to start, and its address."""
    port = free_port()
    env = {"PATH": os.environ["PATH"], **SETTINGS, "PAYMENT_DATABASE_URL": database_url, **settings}
    with subprocess.Popen(
        [sys.executable, "-m", "payment_service"],
        env=env | {"PAYMENT_PORT": str(port), "SHUTDOWN_GRACE_S": "5"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@contextmanager
def serving(database_url: str, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Yield a process that is ready, and its address."""
    with launched(database_url, **settings) as (process, url):
        answer = wait_ready(process, f"{url}/readyz")
        assert answer.json()["status"] == "ready"
        assert "server" not in answer.headers
        yield process, url


async def sessions_of(database: str, postgres: Postgres) -> int:
    """Return how many connections to a database have come and gone."""
    connection = await asyncpg.connect(postgres.dsn())
    try:
        return int(await connection.fetchval("SELECT sessions FROM pg_stat_database WHERE datname = $1", database))
    finally:
        await connection.close()


def test_a_start_may_wait_for_its_schema(postgres: Postgres, empty_database: str) -> None:
    """With START_PATIENCE_S it looks again and again, and serves once somebody has migrated the database."""

    def looks() -> int:
        return asyncio.run(sessions_of(empty_database.rpartition("/")[2], postgres))

    with launched(empty_database, START_PATIENCE_S="20") as (process, url):
        eventually(looks, lambda sessions: sessions >= 3)
        assert process.poll() is None
        migrate({"payment": empty_database})
        assert wait_ready(process, f"{url}/readyz").status_code == 200


def test_a_start_that_waits_hears_that_it_is_not_wanted(postgres: Postgres, empty_database: str) -> None:
    """SIGTERM ends it by its own hand: as the first process of a container it has no default to be ended by."""

    def looks() -> int:
        return asyncio.run(sessions_of(empty_database.rpartition("/")[2], postgres))

    with launched(empty_database, START_PATIENCE_S="60") as (process, _):
        eventually(looks, lambda sessions: sessions >= 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTH_JWT_SECRET", "canary-of-31-characters-1234567"),
        ("INTERNAL_BEARER_SECRET", "canary"),
        ("INTERNAL_SIGNING_KEYS", "k1:canary"),
        ("INTERNAL_SIGNING_KEYS", f"k1:{'x' * 32},k2:canary"),
    ],
)
def test_a_secret_that_could_be_guessed_is_refused(variable: str, value: str) -> None:
    """Shorter than the hash that signs with it: named, not shown, and nothing is served with it."""
    ended = run(**SETTINGS | {"PAYMENT_DATABASE_URL": "postgresql+asyncpg://nobody@127.0.0.1:9/none", variable: value})
    assert ended.returncode == 1
    assert f"{variable} (" in ended.stderr
    assert "32 characters" in ended.stderr
    assert "canary" not in ended.stderr + ended.stdout


def test_it_serves_and_stops(payment_database_url: str) -> None:
    """Ready on its port; SIGTERM ends it within its grace, with a good conscience; text is logged while the flag is off."""
    with serving(payment_database_url, FLAG_STRUCTURED_LOGGING="off") as (process, _):
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=10)
    assert process.returncode in {0, -signal.SIGTERM}
    assert b"canary" not in printed
    assert b"Uvicorn running" in printed
    assert b'"event"' not in printed


def test_it_says_that_it_is_leaving_while_it_still_serves(payment_database_url: str) -> None:
    """For SHUTDOWN_NOTICE_S after SIGTERM `/readyz` is 503, so that no balancer sends more, and calls are answered."""
    with serving(payment_database_url, SHUTDOWN_NOTICE_S="3") as (process, url):
        process.send_signal(signal.SIGTERM)
        leaving = eventually(
            lambda: httpx.get(f"{url}/readyz", trust_env=False), lambda answer: answer.status_code == 503
        )
        assert leaving.json()["status"] == "draining"
        assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
        printed, _ = process.communicate(timeout=15)
    assert all("event" in json.loads(line) for line in printed.splitlines())
    assert process.returncode in {0, -signal.SIGTERM}


def wait_ready(process: subprocess.Popen[bytes], url: str) -> httpx.Response:
    """Return the answer of a probe once it is 200; twenty seconds at most."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        assert process.poll() is None, "it ended by itself"
        try:
            answer = httpx.get(url, trust_env=False)
        except httpx.ConnectError:
            time.sleep(0.05)
            continue
        if answer.status_code == 200:
            return answer
        time.sleep(0.05)
    pytest.fail("not ready within twenty seconds")
