"""A balancer as a deployment has one: it asks `/readyz`, and leads each new connection to the next who says ready."""

import asyncio
from collections import Counter

from tests.doubles.fault_proxy import FaultProxy

_LOOK_EVERY_S = 0.1
_PATIENCE_S = 2.0
_HOST = "127.0.0.1"
_ASKED = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Balancer(FaultProxy):
    """`with Balancer() as front: front.serve(port); ...`; `led` counts the connections of each port."""

    def __init__(self) -> None:
        super().__init__(0)
        self.led: Counter[int] = Counter()
        self._ports: tuple[int, ...] = ()
        self._ready: list[int] = []
        self._watch: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    def serve(self, *ports: int) -> None:
        """Lead to those of these who say that they are ready."""
        self._ports = ports
        self._run(self._ask_all())

    async def _listen(self) -> None:
        await super()._listen()
        self._watch = asyncio.create_task(self._look())

    async def _close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await super()._close()

    async def _look(self) -> None:
        while True:
            await self._ask_all()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _ask_all(self) -> None:
        ports = self._ports
        said = await asyncio.gather(*(_says_ready(port) for port in ports))
        self._ready = [port for port, is_ready in zip(ports, said, strict=True) if is_ready]

    async def _open_upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to who had least of those who are ready; where nobody is, anybody is better than none."""
        untried = set(self._ready or self._ports)
        while untried:
            port = min(untried, key=lambda one: self.led[one])
            try:
                wires = await asyncio.open_connection(_HOST, port)
            except OSError:
                untried.discard(port)
            else:
                self.led[port] += 1
                return wires
        raise ConnectionRefusedError("nobody picks up")


async def _says_ready(port: int) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_connection(_HOST, port)
            try:
                writer.write(_ASKED)
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
