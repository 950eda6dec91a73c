"""The state folder of one clone: who runs it now, where, and that it is only one.

The lock is the operating system's (`flock`): it is gone with the process that holds it, however that ended, and needs
no guess about process ids. `running.json` is what others may know: the lock's holder, its addresses, its children.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from deploy.embedded.credentials import load, write_private
from deploy.embedded.parts import PROJECT
from deploy.embedded.processes import end_leftover
from deploy.embedded.wiring import Wiring

_RUNNING = "running.json"


@dataclass(frozen=True)
class Running:
    """What a running stack tells: its launcher, what listens where, and its children as (pid, mark in the command)."""

    pid: int
    urls: Mapping[str, str]
    children: Mapping[str, tuple[int, str]] = field(default_factory=dict)


class AlreadyRunning(RuntimeError):
    """Another process holds this clone; `running` is None while that one is still starting."""

    def __init__(self, running: Running | None) -> None:
        super().__init__("this clone is running already")
        self.running = running


class Clone:
    """One state folder, `.holdfast` of the checkout unless `HOLDFAST_STATE` names another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> "Clone":
        return cls(Path(environ.get("HOLDFAST_STATE") or PROJECT / ".holdfast").absolute())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one who runs this clone. Raises AlreadyRunning; ends what a killed run left behind."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as lock:
            if not _locked(lock):
                raise AlreadyRunning(self._read())
            if (killed := self._read()) is not None:
                for pid, mark in killed.children.values():
                    end_leftover(pid, mark)
            self._forget()
            try:
                yield
            finally:
                self._forget()

    def running(self) -> Running | None:
        """Return what runs now, None when nothing does (a file that a killed run left behind does not count)."""
        try:
            with (self.folder / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return self._read()

    def publish(self, running: Running) -> None:
        """Let others know; called by the holder of the lock."""
        write_private(self.folder / _RUNNING, json.dumps(asdict(running), indent=2))

    def wiring(self, environ: Mapping[str, str] = os.environ) -> Wiring | None:
        """Return the addresses and secrets this clone uses, None when it never ran."""
        credentials = load(self.folder)
        try:
            ports = json.loads((self.folder / "ports.json").read_text())
        except FileNotFoundError:
            return None
        return Wiring(environ, credentials, ports) if credentials is not None else None

    def _read(self) -> Running | None:
        try:
            kept = json.loads((self.folder / _RUNNING).read_text())
        except FileNotFoundError:
            return None
        return Running(kept["pid"], kept["urls"], {name: (pid, mark) for name, (pid, mark) in kept["children"].items()})

    def _forget(self) -> None:
        (self.folder / _RUNNING).unlink(missing_ok=True)


def _locked(lock: IO[str]) -> bool:
    """Take the lock if nobody runs this clone; a passing reader (`running`) has it for an instant only."""
    for wait_s in (0.05, 0.1, 0.0):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(wait_s)
        else:
            return True
    return False
