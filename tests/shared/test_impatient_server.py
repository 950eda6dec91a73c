"""The wire itself: whoever sends slowly, endlessly or nothing is hung up on, and everybody else is served meanwhile."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from shared.clock import IN_A_TURN
from shared.problems import install_problem_handlers
from shared.wire import _TURNSTILES, ImpatientProtocol, _InOnePiece
from tests.figures import tell
from tests.scenarios import fired

HEAD_S, BODY_S, KEEPS_S = 0.6, 0.9, 2
HALF_A_HEAD = b"POST /read HTTP/1.1\r\nHost: x\r\nX-Slow: "
HALF_A_BODY = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"
WHOLE = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


CROWD = 200
TURN, BEGUN = [0], list[int]()  # of the loop; in which turn each request was begun


async def count_turns() -> None:
    """Count the turns of the loop."""
    while True:
        TURN[0] += 1
        await asyncio.sleep(0)


class HurriedProtocol(ImpatientProtocol):
    """As in production, but on a test's scale of time."""

    head_s, body_s, head_limit_bytes, keep_alive_s = HEAD_S, BODY_S, 8 * 1024, KEEPS_S


async def never_a_word() -> AsyncIterator[bytes]:
    """Begin a stream that says nothing."""
    await asyncio.sleep(60)
    yield b"late"


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """Serve an app that reads its body; yields the port."""
    app = FastAPI()
    install_problem_handlers(app)

    @app.post("/read")
    async def read(request: Request) -> int:
        BEGUN.append(TURN[0])
        return len(await request.body())

    @app.head("/read")
    async def look() -> Response:
        return Response(headers={"content-length": "1"})

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(never_a_word(), media_type="text/event-stream")

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=HurriedProtocol,
        log_config=None,
        access_log=False,
        ws="none",
        backlog=1024,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listening]))
    while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        yield listening.getsockname()[1]
    finally:
        while Wire.opened:
            Wire.opened.pop().hang_up()
        server.should_exit = True
        await running


class Wire:
    """One connection, spoken by hand."""

    opened: ClassVar[list["Wire"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.opened.append(self)

    def hang_up(self) -> None:
        self._writer.close()

    @classmethod
    async def to(cls, port: int, says: bytes = b"") -> "Wire":
        wire = cls(*await asyncio.open_connection("127.0.0.1", port))
        await wire.say(says)
        return wire

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def until_hung_up(self, within_s: float = 5.0) -> bytes:
        """Return all that came until the other side closed. Raises TimeoutError when it did not."""
        async with asyncio.timeout(within_s):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""
            finally:
                self._writer.close()

    async def answer(self) -> bytes:
        async with asyncio.timeout(5):
            return await self._reader.read(4096)


def problem(answer: bytes) -> tuple[int, str]:
    """Return status and code of a refusal that came before there was a request."""
    head, _, body = answer.partition(b"\r\n\r\n")
    document: dict[str, Any] = json.loads(body)
    assert b"application/problem+json" in head
    return int(head.split()[1]), document["code"]


async def test_five_hundred_that_say_nothing() -> None:
    """X09: silent, half a head, half a body: all closed in time, and somebody who asks meanwhile is answered."""
    async with served() as port:
        kinds = [b""] * 200 + [HALF_A_HEAD] * 150 + [HALF_A_BODY] * 150
        wires = await asyncio.gather(*(Wire.to(port, said) for said in kinds))
        guest = await Wire.to(port, WHOLE)
        assert (await guest.answer()).startswith(b"HTTP/1.1 200")
        answers = await asyncio.gather(*(wire.until_hung_up() for wire in wires))
        assert set(answers[:200]) == {b""}, "who asked nothing is answered nothing"
        assert {problem(answer) for answer in answers[200:]} == {(408, "REQUEST_TIMEOUT")}
    fired("X09", len(wires))
    tell(f"slow connections {len(wires)} closed, 1 guest served meanwhile")


@pytest.mark.parametrize("drops", [b"a", b"\r\n"], ids=["a header that grows", "lines of nothing"])
async def test_a_byte_now_and_then_wins_no_time(drops: bytes) -> None:
    """X09: the deadline is for the whole head, however busy its sender looks."""
    async with served() as port:
        wire = await Wire.to(port, HALF_A_HEAD if drops == b"a" else drops)
        hung_up = asyncio.create_task(wire.until_hung_up(HEAD_S + 3))
        for _ in range(40):
            await asyncio.sleep(0.05)
            if hung_up.done():
                break
            await wire.say(drops)
        assert problem(await hung_up) == (408, "REQUEST_TIMEOUT")


async def test_a_head_without_an_end_is_not_kept() -> None:
    """V06: what never ends is refused long before it fills anything."""
    async with served() as port:
        wire = await Wire.to(port, HALF_A_HEAD)
        await wire.say(b"a" * 9000)
        assert problem(await wire.until_hung_up()) == (431, "HEADERS_TOO_LARGE")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        HALF_A_HEAD[:-8] + b"\x00: 1\r\n\r\n",
    ],
    ids=["bytes", "no address", "tls", "version", "a NUL in a name"],
)
async def test_what_is_no_http_gets_a_problem_document(garbage: bytes) -> None:
    """I26, V05: even nonsense on the wire is answered in our one shape."""
    async with served() as port:
        assert problem(await (await Wire.to(port, garbage)).until_hung_up()) == (400, "MALFORMED_REQUEST")


@pytest.mark.parametrize(
    ("head", "sent"), [(b"Content-Length: 100", b"half"), (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n")]
)
async def test_a_sender_who_leaves_in_the_middle(head: bytes, sent: bytes) -> None:
    """V06: half a body and gone: the service notices, and serves the next one."""
    async with served() as port:
        wire = await Wire.to(port, b"POST /read HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + sent)
        wire.hang_up()
        next_one = await Wire.to(port, WHOLE)
        assert (await next_one.answer()).startswith(b"HTTP/1.1 200")


async def test_a_patient_connection_is_kept() -> None:
    """Several requests on one connection, with a pause between them that is shorter than uvicorn's own limit."""
    async with served() as port:
        wire = await Wire.to(port, WHOLE)
        assert (await wire.answer()).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(HEAD_S + BODY_S)
        await wire.say(WHOLE)
        assert (await wire.answer()).startswith(b"HTTP/1.1 200")


class Pieces:
    """A transport that keeps what it was given, piece by piece."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_head_and_body_are_one_piece() -> None:
    """A head whose length is known waits for its body; nothing is lost when there is none, and nothing is kept back else."""
    wire = Pieces()
    answers = _InOnePiece(wire)  # type: ignore[arg-type]
    head, stream = (
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    answers.write(head)
    assert wire.sent == []
    answers.write(b"body")
    answers.write(stream)
    answers.write(b"4\r\nbody\r\n")
    assert wire.sent == [head + b"body", stream, b"4\r\nbody\r\n"]
    answers.write(head)
    answers.flush()
    answers.flush()
    assert wire.sent[3:] == [head]
    answers.write(head)
    answers.close()
    assert wire.sent[4:] == [head]
    assert answers.is_closing()


async def test_heads_without_a_body_come_at_once() -> None:
    """An answer to HEAD has none, and a stream's may come much later."""
    async with served() as port:
        for asked in (b"HEAD /read", b"GET /stream"):
            wire = await Wire.to(port, asked + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(KEEPS_S - 0.5):  # when it has rested for too long, it is sent on closing
                assert (await wire.answer()).startswith(b"HTTP/1.1 200")
            wire.hang_up()


async def test_a_crowd_does_not_stop_the_loop() -> None:
    """Two hundred who ask in one moment are all answered, those who leave meanwhile excepted, and a few begin in each turn."""
    async with served() as port:
        wires = [await Wire.to(port) for _ in range(CROWD)]
        BEGUN.clear()
        turning = asyncio.create_task(count_turns())
        for wire in wires:
            await wire.say(WHOLE)
        for wire in wires[-10:]:
            wire.hang_up()
        answers = await asyncio.gather(*(wire.answer() for wire in wires[:-10]))
        turning.cancel()
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert len(BEGUN) >= len(answers)
        assert max(BEGUN.count(turn) for turn in BEGUN) <= 2 * IN_A_TURN


async def test_what_comes_in_pieces_while_it_waits_in_line() -> None:
    """A head in one crowd and its body in another are one request."""
    async with served() as port:
        wires = [await Wire.to(port) for _ in range(CROWD)]
        for piece in (WHOLE[:20], WHOLE[20:-2], WHOLE[-2:]):
            for wire in wires:
                await wire.say(piece)
        answers = await asyncio.gather(*(wire.answer() for wire in wires))
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


async def test_a_request_in_line_is_not_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """X11: it came before its connection had rested for too long, and is read when it no longer rests."""
    async with served() as port:
        wire = await Wire.to(port, WHOLE)
        assert (await wire.answer()).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(KEEPS_S - 0.5)
        turnstile = _TURNSTILES[asyncio.get_running_loop()]
        with monkeypatch.context() as crowded:
            crowded.setattr(turnstile, "lets_in", lambda: False)
            await wire.say(WHOLE)
            await asyncio.sleep(1)
        turnstile._turn()
        assert (await wire.answer()).startswith(b"HTTP/1.1 200")


def test_clients_let_go_first() -> None:
    """A connection that both sides let go in one moment loses a request: ours keeps it longer than those who call us."""
    ours, balancer_s = httpx.Limits().keepalive_expiry, 60
    assert ours is not None
    assert max(ours, balancer_s) < ImpatientProtocol.keep_alive_s


async def test_a_connection_rests_as_long_as_its_protocol_says() -> None:
    """Uvicorn's own five seconds are those of httpx; ours are said in one place, and count."""
    async with served() as port:
        wire = await Wire.to(port, WHOLE)
        began = asyncio.get_running_loop().time()
        assert (await wire.until_hung_up()).startswith(b"HTTP/1.1 200")
        assert KEEPS_S - 0.5 < asyncio.get_running_loop().time() - began < KEEPS_S + 2
