"""The small HTTP client of the deliveries against receivers that answer oddly."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from deploy.stripe_sandbox.posting import Poster, PostFailed

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def statuses(talk: Talk, posts: int = 1, timeout_s: float = 2.0) -> tuple[list[int], int]:
    """Post several times to a receiver that talks like this; return the statuses and how many connections that took."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    poster = Poster(idle_max=2)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?x=1"
    try:
        return [await poster.post(url, b"{}", {"A": "b"}, timeout_s) for _ in range(posts)], connections
    finally:
        poster.close()
        server.close()


async def request(reader: asyncio.StreamReader) -> bytes:
    """Read one request of two bytes; empty when the client has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    assert head.startswith(b"POST /hook?x=1 HTTP/1.1\r\n")
    assert b"\r\nA: b\r\n" in head
    return head + await reader.readexactly(2)


async def test_one_connection_serves_many_posts() -> None:
    """Keep-alive is used, with a length, with chunks, and when the answer comes byte by byte."""
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            assert await request(reader)
            for position in range(len(answer)):
                writer.write(answer[position : position + 1])
                await writer.drain()

    assert await statuses(talk, posts=3) == ([200, 202, 204], 1)


async def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    """The receiver closes after each answer without saying so; the next post opens another one."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    assert await statuses(talk, posts=3) == ([200, 200, 200], 3)


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", b"HTTP/1.1 200 OK\r\n" * 90_000],
)
async def test_no_proper_answer_is_a_failure(answer: bytes) -> None:
    """Silence, noise, half an answer and an endless one are all no 2xx."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)
        await writer.drain()

    with pytest.raises(PostFailed):
        await statuses(talk)


async def test_a_receiver_that_never_answers_costs_one_timeout() -> None:
    """The attempt ends when its time is over."""

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await request(reader)
        await reader.read()

    with pytest.raises(PostFailed, match="TimeoutError"):
        await statuses(talk, timeout_s=0.2)
