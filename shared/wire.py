"""The wire of one connection: whose turn it is, how long a sender is waited for, and how an answer leaves."""

import asyncio
import time
from collections import deque
from typing import Any, cast
from weakref import WeakKeyDictionary

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.clock import IN_A_TURN
from shared.http_edge import ARRIVED_AT
from shared.problems import HeadersTooLarge, MalformedRequest, Problem, RequestTimeout
from shared.telemetry import QUIET_PATHS


class _Turnstile:
    """Lets a few connections at a time say what they want: a thousand that do so at once would stop the loop for a second.

    A request costs half a millisecond before it first waits for something; begun all in one turn of the loop, a rush holds
    up whatever else is due: answers from the database, other guests' sockets, probes, deadlines. Who came first goes first,
    and probes before all. There are as many in line as connections, at most.
    """

    def __init__(self) -> None:
        self._room = IN_A_TURN
        self._line: deque[ImpatientProtocol] = deque()

    def lets_in(self) -> bool:
        """Tell whether there is room in this turn, and take it."""
        if not self._room:
            return False
        self._room -= 1
        if not self._room:
            asyncio.get_running_loop().call_soon(self._turn)
        return True

    def wait(self, connection: "ImpatientProtocol", *, first: bool) -> None:
        """Call `read_on` of a connection in a later turn."""
        (self._line.appendleft if first else self._line.append)(connection)

    def _turn(self) -> None:
        self._room = IN_A_TURN
        while self._line and self._room:
            self._line.popleft().read_on()
            self._room -= 1
        if not self._room:
            asyncio.get_running_loop().call_soon(self._turn)


_TURNSTILES: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turnstile] = WeakKeyDictionary()
_PROBES = tuple(f"GET {path} ".encode() for path in QUIET_PATHS)


class _InOnePiece:
    """A transport that sends the head of an answer with its body: each piece is a call of the kernel, and wakes its reader.

    The head of an answer whose length is not known goes at once: a stream's body may come much later.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._head and data.startswith(b"HTTP/1.") and b"\r\ncontent-length: " in data:
            self._head = data
            return
        head, self._head = self._head, b""
        self._transport.write(head + data)

    def flush(self) -> None:
        """Send a head that has no body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()


class ImpatientProtocol(HttpToolsProtocol):
    """Waits for no sender for ever: a request has so long for its head and for its body, and so many bytes for its head.

    uvicorn's own timeout is for connections that rest between two requests; one that says nothing, or a byte now and
    then, would be held open as long as its sender likes.
    """

    head_s = 10.0
    body_s = 30.0
    head_limit_bytes = 64 * 1024
    # A connection that rests is closed by its client first, never by us in the moment in which its next request comes:
    # httpx keeps one for 5 s, the usual balancer for 60.
    keep_alive_s = 75

    _deadline: asyncio.TimerHandle | None = None
    _deadline_of_body = False
    _in_head = True
    _head_bytes = 0
    _unread = b""
    _arrived_at = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.timeout_keep_alive = self.keep_alive_s
        self._turnstile = _TURNSTILES.setdefault(self.loop, _Turnstile())

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        self._answers = _InOnePiece(transport)
        super().connection_made(cast(asyncio.Transport, self._answers))
        self._wait(self.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._unread:
            self._unread += data
            if len(self._unread) > self.head_limit_bytes:
                self.flow.pause_reading()
            return
        self._arrived_at = time.perf_counter()
        if self._turnstile.lets_in():
            self._read(data)
        else:
            self._unset_keepalive_if_required()  # it rests no more, whenever it is read
            self._unread = data
            self._turnstile.wait(self, first=data.startswith(_PROBES))

    def read_on(self) -> None:
        """Read what came while this connection stood in line, unless its sender has left."""
        data, self._unread = self._unread, b""
        if data and cast(Any, self.parser) and not self.transport.is_closing():  # without a parser the sender has left
            self.flow.resume_reading()
            self._read(data)

    def shutdown(self) -> None:
        self.read_on()  # what has come is answered
        super().shutdown()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[ARRIVED_AT] = self._arrived_at  # type: ignore[literal-required]  # a scope may hold more

    def _read(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.head_limit_bytes:
            self._refuse(HeadersTooLarge())
        elif not self.transport.is_closing():
            self._wait_for_the_rest()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_waiting()
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._answers.flush()
        super().on_response_complete()

    def _wait_for_the_rest(self) -> None:
        """Set the clock for what is missing. Most requests come in one piece, and are never waited for."""
        if not self._in_head:
            if self._deadline is None or not self._deadline_of_body:
                self._wait(self.body_s)
                self._deadline_of_body = True
        elif self._head_bytes and self._deadline is None:
            self._wait(self.head_s)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words; ours are a problem document
        self._refuse(MalformedRequest())

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline, self._deadline_of_body = None, False

    def _give_up(self) -> None:
        self._deadline, self._deadline_of_body = None, False
        if self._head_bytes:
            self._refuse(RequestTimeout())
        else:
            self.transport.close()  # nothing was asked, so nothing is answered

    def _may_answer(self) -> bool:
        """Tell whether the request that is coming in has had no answer, and no other answer is on its way."""
        cycle: Any = self.cycle  # none before the first request, whatever uvicorn declares
        if self._in_head:
            return cycle is None or bool(cycle.response_complete)
        return not cycle.response_started

    def _refuse(self, problem: Problem) -> None:
        """Answer what never became a request, unless an answer is on its way already, and hang up."""
        self._stop_waiting()
        if self.transport.is_closing():
            return
        if self._may_answer():
            body = orjson.dumps(problem.document())
            head = (
                f"HTTP/1.1 {problem.status} {problem.code}\r\ncontent-type: application/problem+json\r\n"
                f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
