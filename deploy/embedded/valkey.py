"""An embedded Valkey (or Redis): the lock that makes contention cheaper, and never the proof of anything.

It keeps nothing on disk: after a restart the locks are gone, which the product must survive anyway.
"""

import signal
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.embedded.binaries import find_lock_server
from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.processes import Child, StartFailed

__all__ = ["Valkey", "find_valkey"]

find_valkey = find_lock_server

_PROBE_S = 1.0


class Valkey:
    """One server on a loopback port; `folder` receives its log and is its working directory."""

    def __init__(self, folder: Path, *, port: int | None = None, binary: Path | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._binary = binary or find_valkey()
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def child(self) -> Child | None:
        return self._child

    @property
    def mark(self) -> str:
        return f":{self.port}"  # the server rewrites its command line to address and port

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        if self._binary is None:
            raise StartFailed("there is no Valkey or Redis server on this machine; run without one")
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {"--port": str(self.port), "--bind": LOOPBACK, "--save": "", "--appendonly": "no"}
        self._child = Child(
            "valkey",
            [self._binary, *(word for pair in options.items() for word in pair)],
            log=self._folder / "valkey.log",
            cwd=self._folder,
            death_signal=signal.SIGKILL,  # there is nothing to save
        )

    def start(self, deadline_s: float = 10.0) -> None:
        """Start and wait until it answers PING. Raises StartFailed."""
        self.spawn()
        self.wait_ready(deadline_s)

    def wait_ready(self, deadline_s: float = 10.0) -> None:
        if self._child is None:
            raise StartFailed("valkey was never started")
        self._child.wait_until(self._answers, deadline_s)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=_PROBE_S) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self, deadline_s: float = 5.0) -> None:
        if self._child is not None:
            self._child.stop(deadline_s)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
