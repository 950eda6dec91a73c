"""What the stack is made of: whatever can be started, asked whether it is ready, and stopped or killed."""

import http.client
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from deploy.embedded.ports import LOOPBACK
from deploy.embedded.processes import Child, StartFailed

PROJECT = Path(__file__).resolve().parents[2]

_PROBE_S = 5.0


class Part(Protocol):
    """One process of the stack. `spawn` returns at once, `wait_ready` when the program itself says that it is ready."""

    port: int

    @property
    def child(self) -> Child | None: ...
    @property
    def mark(self) -> str: ...
    def spawn(self) -> None: ...
    def wait_ready(self, deadline_s: float) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class HttpPart:
    """A Python program of this project (`python -m module`) that answers 200 on `ready_path` when it may be used."""

    def __init__(
        self, name: str, module: str, *, port: int, folder: Path, env: Mapping[str, str], ready_path: str
    ) -> None:
        self.port = port
        self.env = dict(env)
        self.module = module
        self._name = name
        self._folder = folder
        self._ready_path = ready_path
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def child(self) -> Child | None:
        return self._child

    @property
    def mark(self) -> str:
        return f"-m {self.module}"

    def spawn(self, *, env: Mapping[str, str] | None = None) -> None:
        """Start it; `env` adds to its own for this once."""
        self._child = Child(
            self._name,
            [sys.executable, "-m", self.module],
            log=self._folder / f"{self._name}.log",
            env=self.env | dict(env or {}),
            cwd=PROJECT,
            # When the launcher is killed the databases go too: nothing is left to drain to, and a kill at any
            # moment is what the services are made for.
            death_signal=signal.SIGKILL,
        )

    def wait_ready(self, deadline_s: float) -> None:
        if self._child is None:
            raise StartFailed(f"{self._name} was never started")
        self._child.wait_until(self._is_ready, deadline_s)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=_PROBE_S)
        try:
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self, deadline_s: float = 25.0) -> None:
        """Ask it to drain and leave; the deadline is a little longer than the services' own."""
        if self._child is not None:
            self._child.stop(deadline_s)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
