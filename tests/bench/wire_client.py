"""A load generator that costs little: raw sockets, requests made beforehand, and a parser in C.

Latency counts from the moment that was planned for a request, also while it waits for a free connection: whoever starts
late because the server is slow would otherwise flatter it.
"""

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httptools

Done = Callable[[int, bytes], None]
_GIVE_UP_S = 60.0


@dataclass
class Answers:
    """What came back: statuses (0: the connection broke), waits in ms by request, how long all of it took, and our own part."""

    statuses: Counter[int] = field(default_factory=Counter)
    by_request: dict[int, float] = field(default_factory=dict)
    took_s: float = 0.0
    generator_s: float = 0.0

    @property
    def waits_ms(self) -> list[float]:
        """All waits, in the order in which they ended."""
        return list(self.by_request.values())

    @property
    def per_s(self) -> float:
        return len(self.by_request) / self.took_s

    @property
    def generator_share(self) -> float:
        """The part of all cores that the generator itself has used."""
        return self.generator_s / self.took_s / (os.cpu_count() or 1)


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: Any = None
        self._done: Done | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, request: bytes, done: Done) -> None:
        self._done = done
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._answer(self._parser.get_status_code())

    def connection_lost(self, _error: Exception | None) -> None:
        self._answer(0)

    def close(self) -> None:
        self._done = None
        self._transport.close()

    def _answer(self, status: int) -> None:
        done, body, self._done, self._body = self._done, self._body, None, b""
        if done is not None:
            done(status, body)


class Wire:
    """So many open connections to one port."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.connections = connections
        self._free = deque(connections)
        self._queue: deque[tuple[bytes, Done]] = deque()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send one request and wait for its answer."""
        outcome: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.send(request, lambda status, body: outcome.set_result((status, body)))
        return await outcome

    def send(self, request: bytes, done: Done) -> None:
        """Send a request as soon as a connection is free."""
        if not self._free:
            self._queue.append((request, done))
            return
        connection = self._free.popleft()

        def over(status: int, body: bytes) -> None:
            self._free.append(connection)
            done(status, body)
            if self._queue and self._free:
                self.send(*self._queue.popleft())

        connection.ask(request, over)


@asynccontextmanager
async def wire_to(port: int, width: int, *, warm: bytes = b"") -> Any:
    """Open `width` connections; with `warm`, each has had one answer before the measurement."""
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(width)]
    wire = Wire(connections)
    if warm:
        await asyncio.gather(*(wire.ask(warm) for _ in connections))
    try:
        yield wire
    finally:
        for connection in connections:
            connection.close()


async def closed_loop(wire: Wire, requests: Sequence[bytes]) -> Answers:
    """Keep every connection busy until all requests are answered."""
    starts = [0.0] * len(requests)
    return await _measured(wire, requests, starts, schedule=False)


async def burst(wire: Wire, requests: Sequence[bytes]) -> Answers:
    """Send everything at once, on as many connections."""
    assert len(requests) <= len(wire.connections)
    return await _measured(wire, requests, [0.0] * len(requests), schedule=True)


async def open_loop(wire: Wire, requests: Sequence[bytes], starts_s: Sequence[float]) -> Answers:
    """Send each request at its own moment, whatever has become of the others."""
    return await _measured(wire, requests, starts_s, schedule=True)


async def _measured(wire: Wire, requests: Sequence[bytes], starts_s: Sequence[float], *, schedule: bool) -> Answers:
    loop, answers, over = asyncio.get_running_loop(), Answers(), asyncio.Event()
    before, zero = os.times(), time.perf_counter()

    def begin(at: int) -> None:
        sent = starts_s[at] if schedule else time.perf_counter() - zero

        def done(status: int, _body: bytes) -> None:
            answers.statuses[status] += 1
            answers.by_request[at] = (time.perf_counter() - zero - sent) * 1000
            if len(answers.by_request) == len(requests):
                over.set()
            elif not schedule and at + width < len(requests):
                begin(at + width)

        wire.send(requests[at], done)

    width = len(wire.connections)
    for at in range(len(requests) if schedule else min(width, len(requests))):
        if schedule and starts_s[at] > 0:
            loop.call_at(loop.time() + starts_s[at] - (time.perf_counter() - zero), begin, at)
        else:
            begin(at)
    async with asyncio.timeout(_GIVE_UP_S + max(starts_s, default=0.0)):
        await over.wait()
    after = os.times()
    answers.took_s = time.perf_counter() - zero
    answers.generator_s = after.user + after.system - before.user - before.system
    return answers
