"""Somebody on the wire between two services, who hears every call and can repeat it as it was."""

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from tests.doubles.fault_proxy import FaultProxy

_LENGTH = re.compile(rb"(?im)^content-length: *(\d+)")
# What a client writes by itself, and no signature covers.
_OF_THE_WIRE = frozenset({"host", "content-length", "connection", "accept-encoding"})


@dataclass(frozen=True)
class Heard:
    """One call, with its signature."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Eavesdropper(FaultProxy):
    """Forwards like any proxy; `heard()` lists the calls so far."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self._ears: list[bytearray] = []

    def heard(self) -> list[Heard]:
        return [call for ear in self._ears for call in _calls(bytes(ear))]

    def _asking(self) -> Callable[[bytes], Awaitable[bytes]]:
        ear = bytearray()
        self._ears.append(ear)

        async def listen(chunk: bytes) -> bytes:
            ear.extend(chunk)
            return await self._on_request(chunk)

        return listen


def _calls(said: bytes) -> Iterator[Heard]:
    """Yield the whole calls of one connection, in their order."""
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        announced = _LENGTH.search(head)
        length = int(announced[1]) if announced else 0
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split()
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name: value for name, value in pairs if name.lower() not in _OF_THE_WIRE}
        yield Heard(method, path, headers, rest[:length])
        said = rest[length:]
