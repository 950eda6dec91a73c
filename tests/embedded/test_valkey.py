"""The embedded Valkey: answers, keeps nothing on disk, and stops."""

import os
from pathlib import Path

import pytest
from redis.asyncio import Redis

from deploy.embedded.processes import StartFailed
from deploy.embedded.valkey import Valkey, find_valkey

pytestmark = pytest.mark.skipif(find_valkey() is None, reason="this machine has no Valkey; the product runs without")


async def test_it_starts_answers_and_stops(tmp_path: Path) -> None:
    """A lock can be taken; after a restart it is gone, and so is the process after a stop."""
    server = Valkey(tmp_path)
    server.start()
    async with Redis.from_url(server.url) as client:
        assert await client.set("lock", "token", nx=True, px=10_000)
        assert not await client.set("lock", "other", nx=True, px=10_000)
    server.stop()
    server.start()
    async with Redis.from_url(server.url) as client:
        assert await client.get("lock") is None
    server.stop()
    assert server.child is not None
    assert not server.child.alive
    assert os.listdir(tmp_path) == ["valkey.log"]  # noqa: PTH208  one look at a small folder blocks nobody


def test_a_machine_without_one_gets_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting what is not there names the way out."""
    monkeypatch.setattr("deploy.embedded.valkey.find_valkey", lambda: None)
    with pytest.raises(StartFailed, match="run without one"):
        Valkey(tmp_path).start()
