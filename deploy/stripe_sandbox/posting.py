"""A small HTTP client for one job: POST these bytes, tell the status. A general client cost four times as much per webhook."""

import asyncio
import ssl
from urllib.parse import urlsplit

import httptools

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_READ_BYTES = 16 * 1024
_REPLY_MAX_BYTES = 1024 * 1024


class PostFailed(Exception):
    """No answer: nobody listens, the connection broke, or what came was no HTTP."""


class _Reply:
    """Collects one answer; its body is read only to keep the connection usable."""

    def __init__(self) -> None:
        self.complete = False
        self.status = 0
        self.reusable = False  # the parser knows this only until it begins to expect the next answer
        self.parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        self.complete = True
        self.status = self.parser.get_status_code()
        self.reusable = self.parser.should_keep_alive()


class Poster:
    """Keeps connections that are not in use, a few per origin."""

    def __init__(self, idle_max: int) -> None:
        self._idle: dict[tuple[str, int], list[Connection]] = {}
        self._idle_max = idle_max

    async def post(self, url: str, body: bytes, headers: dict[str, str], timeout_s: float) -> int:
        """Return the status of the answer; redirects are not followed.

        Raises `PostFailed` when there was none within `timeout_s`.
        """
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        try:
            origin = (parts.hostname or "", parts.port or (443 if tls else 80))
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
            async with asyncio.timeout(timeout_s):
                return await self._exchange(origin, request, tls=tls)
        except (OSError, ValueError, httptools.HttpParserError) as error:  # TimeoutError is an OSError
            raise PostFailed(f"{type(error).__name__}: {error}"[:300]) from error

    def close(self) -> None:
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
        self._idle.clear()

    async def _exchange(self, origin: tuple[str, int], request: bytes, *, tls: bool) -> int:
        idle = self._idle.setdefault(origin, [])
        while idle:
            connection = idle.pop()
            if not connection[1].is_closing() and not connection[0].at_eof():
                try:
                    return await self._on(connection, origin, request)
                except ConnectionError:
                    continue  # the receiver had closed it meanwhile; a webhook may arrive twice, never not at all
        context = ssl.create_default_context() if tls else None
        return await self._on(await asyncio.open_connection(*origin, ssl=context), origin, request)

    async def _on(self, connection: Connection, origin: tuple[str, int], request: bytes) -> int:
        reader, writer = connection
        reply, size = _Reply(), 0
        try:
            writer.write(request)
            while not reply.complete:
                data = await reader.read(_READ_BYTES)
                size += len(data)
                if not data or size > _REPLY_MAX_BYTES:
                    raise ConnectionResetError("the connection ended before the answer did")
                reply.parser.feed_data(data)
            return reply.status
        finally:
            if reply.reusable and len(self._idle[origin]) < self._idle_max:
                self._idle[origin].append(connection)
            else:
                writer.close()
