"""The fault proxy itself: a fault that does not happen would make every fault test pass."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.doubles.fault_proxy import BLACK_HOLE, LOSE_RESPONSE, PASS, RESET, FaultProxy, cut_after, latency


class _Echo:
    """A server that answers every line with the line, and remembers what it got."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.lines.append(line)
            writer.write(line)
            await writer.drain()
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[_Echo, int]]:
    """An echo server on a free port."""
    double = _Echo()
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    yield double, server.sockets[0].getsockname()[1]
    server.close()


async def _ask(port: int, line: bytes, within_s: float = 1.0) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(line)
        async with asyncio.timeout(within_s):
            return await reader.readline()
    finally:
        writer.close()


async def _until_torn(port: int, line: bytes) -> bytes:
    """Return what came before the connection was torn; fails when it ends in good order after a whole answer."""
    got = b""
    with contextlib.suppress(OSError):  # the tear may be seen at any moment from connecting on
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(line)
            while chunk := await reader.read(100):
                got += chunk
    assert got != line
    return got


async def test_it_forwards_untouched(echo: tuple[_Echo, int]) -> None:
    """Without a fault every byte passes, and nothing is counted as fired."""
    with FaultProxy(echo[1]) as proxy:
        assert await _ask(proxy.port, b"hello\n") == b"hello\n"
        assert proxy.fired == 0


async def test_latency_delays_both_ways(echo: tuple[_Echo, int]) -> None:
    """A latency of 60 ms costs a round trip at least twice that."""
    with FaultProxy(echo[1]) as proxy:
        proxy.inject(latency(0.06))
        began = asyncio.get_running_loop().time()
        assert await _ask(proxy.port, b"slow\n") == b"slow\n"
        assert asyncio.get_running_loop().time() - began >= 0.12
        assert proxy.fired == 2


async def test_a_black_hole_swallows_the_request(echo: tuple[_Echo, int]) -> None:
    """The client hears nothing, and the server never saw the request."""
    with FaultProxy(echo[1]) as proxy:
        proxy.inject(BLACK_HOLE)
        with pytest.raises(TimeoutError):
            await _ask(proxy.port, b"lost\n", within_s=0.2)
        assert echo[0].lines == []
        assert proxy.fired == 1


async def test_a_reset_tears_connections(echo: tuple[_Echo, int]) -> None:
    """New connections are reset; after healing they work again."""
    with FaultProxy(echo[1]) as proxy:
        proxy.inject(RESET)
        assert await _until_torn(proxy.port, b"torn\n") == b""
        proxy.heal()
        assert await _ask(proxy.port, b"again\n") == b"again\n"
        assert proxy.fired >= 1


async def test_open_connections_are_reset_too(echo: tuple[_Echo, int]) -> None:
    """A connection that a pool keeps open is torn in the moment the fault is injected."""
    with FaultProxy(echo[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one\n")
        assert await reader.readline() == b"one\n"
        proxy.inject(RESET)
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.close()


async def test_a_lost_response_still_has_its_effect(echo: tuple[_Echo, int]) -> None:
    """The server acted, the client does not know: the case that UNKNOWN is made for."""
    with FaultProxy(echo[1]) as proxy:
        proxy.inject(LOSE_RESPONSE)
        with pytest.raises(TimeoutError):
            await _ask(proxy.port, b"pay\n", within_s=0.2)
        assert echo[0].lines == [b"pay\n"]
        proxy.inject(PASS)
        assert await _ask(proxy.port, b"pay\n") == b"pay\n"


async def test_an_answer_is_cut_after_so_many_bytes(echo: tuple[_Echo, int]) -> None:
    """The first bytes arrive, then the connection is torn."""
    with FaultProxy(echo[1]) as proxy:
        proxy.inject(cut_after(3))
        assert await _until_torn(proxy.port, b"abcdef\n") == b"abc"
        assert proxy.fired == 1
