"""Sends requests byte for byte as they are, also those that no HTTP client would send, and reads what comes back."""

import socket
from dataclasses import dataclass, field

_ENOUGH_BYTES = 4 * 1024 * 1024
_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Sent:
    """A request on its way to one of the services; `what` says what it was meant to be."""

    service: str
    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    what: str = ""
    announced: bytes | None = field(default=None)  # a Content-Length of its own, true or not

    def raw(self) -> bytes:
        length = str(len(self.body)).encode() if self.announced is None else self.announced
        lines = [self.method + b" " + self.target + b" HTTP/1.1", b"Host: x", b"Content-Length: " + length]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join([*lines, b"", self.body])


@dataclass(frozen=True)
class Seen:
    """What came back; status 0 when the other side hung up without a word."""

    status: int
    media_type: str = ""
    body: bytes = b""


class Wires:
    """One connection to each service at a time, opened anew when it was closed."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._open: dict[str, socket.socket] = {}

    def send(self, request: Sent) -> Seen:
        raw = request.raw()
        for fresh in (False, True):
            connection = self._connection(request.service, fresh=fresh)
            try:
                connection.sendall(raw)
                if request.announced is not None:
                    connection.shutdown(socket.SHUT_WR)  # whatever was announced, nothing more comes
                seen = self._read(request.service, connection)
            except OSError:
                seen = Seen(0)
            if seen.status or fresh:
                break
            self._hang_up(request.service)
        if request.announced is not None:
            self._hang_up(request.service)
        return seen

    def close(self) -> None:
        for service in list(self._open):
            self._hang_up(service)

    def _connection(self, service: str, *, fresh: bool) -> socket.socket:
        if fresh or service not in self._open:
            self._hang_up(service)
            self._open[service] = socket.create_connection(("127.0.0.1", self._ports[service]), timeout=_PATIENCE_S)
        return self._open[service]

    def _hang_up(self, service: str) -> None:
        connection = self._open.pop(service, None)
        if connection is not None:
            connection.close()

    def _read(self, service: str, connection: socket.socket) -> Seen:
        data = b""
        while b"\r\n\r\n" not in data or data.startswith(b"HTTP/1.1 100"):
            if b"\r\n\r\n" in data:  # a word on the way; the answer follows
                data = data.partition(b"\r\n\r\n")[2]
                continue
            more = connection.recv(65536)
            if not more:
                self._hang_up(service)
                return Seen(0)
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        status, media_type = int(lines[0].split()[1]), headers.get(b"content-type", b"").decode("latin-1")
        if media_type.startswith("text/event-stream"):
            self._hang_up(service)  # it has answered; its events are endless
            return Seen(status, media_type)
        wanted = min(int(headers.get(b"content-length", b"0")), _ENOUGH_BYTES)
        while len(body) < wanted:
            more = connection.recv(65536)
            if not more:  # cut off: who was refused while still sending may lose the end of the answer
                self._hang_up(service)
                return Seen(0)
            body += more
        length = int(headers.get(b"content-length", len(body)))
        # What follows an answer belongs to the rest of a body that was refused early, read as another request.
        if headers.get(b"connection", b"").lower() == b"close" or len(body) > length:
            self._hang_up(service)
        return Seen(status, media_type, body[:length])
