"""The embedded PostgreSQL: what it stored survives a stop, a kill and a stranger; strangers without a password stay out."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from deploy.embedded.ports import free_port
from deploy.embedded.postgres import Postgres
from deploy.embedded.processes import StartFailed
from tests.embedded.conftest import gone_within

_PASSWORD = "for-this-test-only"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One server for this page; its tests restart it, so it is not the one everybody shares."""
    with Postgres(tmp_path_factory.mktemp("pg"), password=_PASSWORD, durable=False) as started:
        started.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        started.execute("INSERT INTO kept VALUES ('word')")
        yield started


async def _words(server: Postgres) -> list[str]:
    connection = await asyncpg.connect(server.dsn())
    try:
        return [row["word"] for row in await connection.fetch("SELECT word FROM kept")]
    finally:
        await connection.close()


async def test_a_restart_keeps_what_was_stored(server: Postgres) -> None:
    """Stopped and started, also from inside an event loop, it answers with the same rows."""
    server.stop()
    server.start()
    assert await _words(server) == ["word"]


async def test_a_killed_server_recovers_and_leaves_no_process(server: Postgres) -> None:
    """After kill -9 the next start waits for the old processes, recovers, and has the committed rows."""
    server.kill()
    server.start()
    assert await _words(server) == ["word"]


async def test_a_server_that_outlived_its_launcher_is_taken_over(server: Postgres) -> None:
    """A second launcher over the same data ends the running server and starts its own, instead of corrupting the data."""
    second = Postgres(server._folder, password=_PASSWORD, durable=False)
    second.start()
    try:
        assert server.child is not None
        assert not server.child.alive
        assert await _words(second) == ["word"]
    finally:
        second.stop()
        server.start()


async def test_a_pid_file_that_names_a_stranger_does_not_keep_it_from_starting(server: Postgres) -> None:
    """Process ids are given again: the file of a killed server may name any living process, which is left alone."""
    server.kill()
    pid_file = server.data / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{os.getppid()}\n", *rest]))
    server.start()
    assert await _words(server) == ["word"]


async def test_the_password_is_asked_for(server: Postgres) -> None:
    """Another user of the machine, who can reach the port, cannot get in."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.dsn().replace(_PASSWORD, "guess"))


async def test_a_service_s_role_sees_its_own_database_only(server: Postgres) -> None:
    """Databases are made once, and one service's role cannot connect to the other's."""
    assert server.create_database("mine", owner="mine", owner_password="m" * 20)
    assert not server.create_database("mine", owner="mine", owner_password="n" * 20)  # a new password is taken over
    server.create_database("theirs", owner="theirs", owner_password="t" * 20)
    own, other = (
        server.url(database, role="mine", password="n" * 20).replace("+asyncpg", "") for database in ("mine", "theirs")
    )
    connection = await asyncpg.connect(own)
    await connection.execute("CREATE TABLE proof ()")
    await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(other)


def test_a_database_is_cloned_from_a_template_and_dropped(server: Postgres) -> None:
    """Tests get their database by copying a migrated one."""
    server.create_database("pattern")
    server.execute("CREATE TABLE proof (word text)", database="pattern")
    server.create_database("copy", template="pattern")
    server.execute("INSERT INTO proof VALUES ('there')", database="copy")
    server.drop_database("copy")
    assert server.create_database("copy")


async def test_a_hundred_and_fifty_connections_fit(server: Postgres) -> None:
    """Two services with replicas, a sandbox and an audit stay below the limit."""
    connections = await asyncio.gather(*(asyncpg.connect(server.dsn()) for _ in range(150)))
    await asyncio.gather(*(connection.close() for connection in connections))


def test_a_first_start_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    """Half an initdb is not taken for a database."""
    (tmp_path / "data.draft").mkdir()
    (tmp_path / "data.draft" / "PG_VERSION").write_text("18\n")
    with Postgres(tmp_path, password=_PASSWORD, durable=False) as server:
        data = server.data
        assert not (tmp_path / "data.draft").exists()
        assert not (tmp_path / "password.draft").exists()
    assert gone_within(str(data), deadline_s=5)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error carries the server's own words."""
    server = Postgres(tmp_path, password=_PASSWORD, durable=False, port=free_port())
    server.start()
    server.stop()
    (server.data / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(StartFailed, match="no_such_setting"):
        server.start()
