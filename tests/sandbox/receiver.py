"""A webhook receiver on the loopback that checks signatures with the SDK and answers as it is told."""

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import stripe

from tests.sandbox.running import WEBHOOK_SECRET
from tests.sandbox.sdk_types import violations


class WebhookReceiver:
    """Records each delivery in order of arrival; `statuses` are given out one by one, then 200 for ever."""

    def __init__(self, *, secret: str = WEBHOOK_SECRET) -> None:
        self.secret = secret
        self.deliveries: list[Any] = []  # stripe.Event
        self.arrived_at: list[float] = []
        self.statuses: list[int] = []
        self.errors: list[str] = []
        self._server: asyncio.Server | None = None
        self._arrival = asyncio.Event()
        self._connections: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/webhooks/stripe"

    def about(self, intent_id: str) -> list[str]:
        """Return the event types that arrived about one PaymentIntent, in order of arrival."""
        return [event.type for event in self.deliveries if intent_id in str(event.data.object)]

    async def until(self, condition: Any, within_s: float = 5.0) -> None:
        """Wait until `condition()` holds; looked at after each arrival."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._arrival.clear()
                await self._arrival.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            while head := await self._head(reader):
                body = await reader.readexactly(int(head["content-length"]))
                self._accept(head, body)
                status = self.statuses.pop(0) if self.statuses else 200
                writer.write(b"HTTP/1.1 %d Told\r\nContent-Length: 0\r\n\r\n" % status)
                await writer.drain()
                self._arrival.set()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> dict[str, str]:
        lines = []
        while line := (await reader.readline()).strip():
            lines.append(line.decode())
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}

    def _accept(self, head: dict[str, str], body: bytes) -> None:
        try:
            event = stripe.Webhook.construct_event(body, head["stripe-signature"], self.secret)
        except (stripe.SignatureVerificationError, ValueError, KeyError) as error:
            self.errors.append(repr(error))
            return
        self.errors += violations(body)
        self.deliveries.append(event)
        self.arrived_at.append(time.monotonic())
