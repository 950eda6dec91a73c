"""A TCP proxy that misbehaves on demand, for the wire between a service and what it depends on.

It runs on a thread of its own, so that real processes, blocking tests and async tests can all stand behind it.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

_CHUNK_BYTES = 64 * 1024
_DEADLINE_S = 10.0


@dataclass(frozen=True)
class Fault:
    """How a connection is treated. The default forwards everything untouched."""

    latency_s: float = 0.0  # added to each chunk, in both directions
    black_hole: bool = False  # accepts, reads, forwards nothing, answers nothing
    reset: bool = False  # RST as soon as the client is there
    lose_response: bool = False  # the request arrives, the answer never does
    cut_after_bytes: int | None = None  # RST once so many bytes of the answer have passed

    @property
    def is_quiet(self) -> bool:
        return self == Fault()


PASS = Fault()
BLACK_HOLE = Fault(black_hole=True)
RESET = Fault(reset=True)
LOSE_RESPONSE = Fault(lose_response=True)


def latency(seconds: float) -> Fault:
    return Fault(latency_s=seconds)


def cut_after(answer_bytes: int) -> Fault:
    return Fault(cut_after_bytes=answer_bytes)


class FaultProxy:
    """Listens on a free loopback port and forwards to `target_port`; `with FaultProxy(port) as proxy: ...`.

    `inject` changes the treatment of open connections at once and of new ones; `fired` counts how often a fault really
    did something, so that a test can assert that its fault was no fiction.
    """

    def __init__(self, target_port: int, *, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self._fault = PASS
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.fired = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_error: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE_S)
        self._loop.close()

    def inject(self, fault: Fault) -> None:
        """Treat every connection like this from now on; open ones are reset when the fault is a reset."""
        self._run(self._inject(fault))

    def heal(self) -> None:
        """Forward everything again. Connections that lost bytes are reset: no protocol survives a hole in its stream."""
        self._run(self._inject(PASS, drop_open=True))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.result(_DEADLINE_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _inject(self, fault: Fault, *, drop_open: bool = False) -> None:
        was_quiet, self._fault = self._fault.is_quiet, fault
        if fault.reset or (drop_open and not was_quiet):
            for writer in list(self._clients):
                self._reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._clients.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side is gone, or the proxy is closing: the connection is over, as the caller finds out
        finally:
            self._clients.discard(writer)
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault.reset:
            self._reset(writer)
            return
        upstream_reader, upstream_writer = await self._open_upstream()
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, upstream_writer, self._asking()))
                pumps.create_task(self._pump(upstream_reader, writer, _Answer(self, writer).on_chunk))
        except* OSError:
            pass
        finally:
            upstream_writer.close()

    async def _open_upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._target)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        treat: Callable[[bytes], Awaitable[bytes]],
    ) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if forwarded := await treat(chunk):
                writer.write(forwarded)
                await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    def _asking(self) -> Callable[[bytes], Awaitable[bytes]]:
        """Return how the requests of a new connection are treated."""
        return self._on_request

    async def _on_request(self, chunk: bytes) -> bytes:
        fault = self._fault
        await self._delay(fault)
        if fault.black_hole:
            self.fired += 1
            return b""
        return chunk

    async def _delay(self, fault: Fault) -> None:
        if fault.latency_s:
            self.fired += 1
            await asyncio.sleep(fault.latency_s)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        """Close with RST instead of FIN: the peer sees a connection torn, not ended."""
        self.fired += 1
        sock = writer.get_extra_info("socket")
        if sock is not None and sock.fileno() != -1:  # closed meanwhile: there is nothing left to tear
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


class _Answer:
    """The way back of one connection, which remembers how much of the answer has passed."""

    def __init__(self, proxy: FaultProxy, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._writer = writer
        self._passed_bytes = 0

    async def on_chunk(self, chunk: bytes) -> bytes:
        fault = self._proxy._fault
        await self._proxy._delay(fault)
        if fault.black_hole or fault.lose_response:
            self._proxy.fired += 1
            return b""
        if fault.cut_after_bytes is None:
            return chunk
        room = max(0, fault.cut_after_bytes - self._passed_bytes)
        self._passed_bytes += len(chunk)
        if len(chunk) <= room:
            return chunk
        self._writer.write(chunk[:room])
        await asyncio.sleep(0.01)  # let the first bytes leave before the reset takes the rest
        self._proxy._reset(self._writer)
        return b""
