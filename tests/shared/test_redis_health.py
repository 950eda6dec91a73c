"""Redis only helps: asking after it takes a quarter of a second at most, and without an address nobody asks."""

import asyncio
import time

import pytest

from deploy.embedded.ports import free_port
from shared.redis_health import redis_check
from tests.scenarios import fired


async def test_a_redis_that_is_there(redis_url: str) -> None:
    """A sign of life is enough."""
    if not redis_url:
        pytest.skip("this machine has no Valkey")
    await redis_check(redis_url)["redis"]()


def test_a_service_without_redis_does_not_ask() -> None:
    """No address, no check: not degraded, simply without."""
    assert redis_check("") == {}


async def test_nobody_listens() -> None:
    """R01: away is told at once."""
    with pytest.raises(Exception, match="onnect"):
        await redis_check(f"redis://127.0.0.1:{free_port()}")["redis"]()
    fired("R01", 1)


async def test_a_silent_redis_costs_a_quarter_of_a_second() -> None:
    """R02, L8: it accepts and says nothing; the deadline holds, whatever the client would rather do."""

    async def silence(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    check, started = redis_check(f"redis://127.0.0.1:{port}")["redis"], time.monotonic()
    with pytest.raises(Exception):  # noqa: B017  whichever error it is, it comes in time
        await check()
    assert time.monotonic() - started < 20
    server.close()
    fired("R02", 1)
