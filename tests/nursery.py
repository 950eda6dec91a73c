"""A process that has loaded both services once, and becomes any of them by forking: loading is half of what a start costs.

Tests start services more than a hundred times. `serve_warm` has those starts made here (`python -m tests.nursery`, which
imports, and runs nothing); everything else is started as ever. A child is what `python -m MODULE` would have been: its
environment, its folder, its log, its own session, and the signal that ends it when the nursery goes; only its command line
is the nursery's. `make run` and whatever runs as a program of its own are never served from here.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.embedded import processes
from deploy.embedded.processes import leashed
from shared import crashpoints

_PROJECT = Path(__file__).resolve().parents[1]
_SERVED = (
    "payment_service",
    "reservation_service",
    "deploy.stripe_sandbox",
    "tests.release.next_payment",
    "tests.release.next_reservation",
)
_LOADED = ("payment_service.app", "reservation_service.app", "shared.serving", "deploy.stripe_sandbox.app")
_MESSAGE_MAX = 1 << 20
_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.005


class WarmProcess:
    """A child of the nursery, to be handled like a `subprocess.Popen`."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self.pid = pid
        self._nursery = nursery

    def poll(self) -> int | None:
        """Return None while it runs; minus the signal's number when a signal ended it."""
        return self._nursery.ended(self.pid, within_s=0)

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended. Raises subprocess.TimeoutExpired."""
        code = self._nursery.ended(self.pid, within_s=timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The wire to the process that forks. Any thread may ask; one at a time does."""

    def __init__(self) -> None:
        self._wire, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [*leashed(death_signal=signal.SIGKILL), sys.executable, "-m", "tests.nursery", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=_PROJECT, stdin=subprocess.DEVNULL)
        theirs.close()
        self._ended: dict[int, int] = {}
        self._lock = threading.Lock()

    def start(self, module: str, death_signal: int, *, env: Mapping[str, str], cwd: Path, log: int) -> WarmProcess:
        """Fork, and return the child that is becoming `module`."""
        order = {"module": module, "death_signal": death_signal, "env": dict(env), "cwd": str(cwd)}
        with self._lock:
            socket.send_fds(self._wire, [json.dumps(order).encode()], [log])
            while (pid := self._hear()) is None:
                pass
        return WarmProcess(self, pid)

    def ended(self, pid: int, *, within_s: float | None) -> int | None:
        """Return how a child ended, waiting so long for it; None while it runs."""
        until = None if within_s is None else time.monotonic() + within_s
        while True:
            with self._lock:
                while select.select([self._wire], [], [], 0)[0]:
                    self._hear()
                if pid in self._ended:
                    return self._ended[pid]
            if until is not None and time.monotonic() >= until:
                return None
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """End the nursery; children that are left go with it."""
        self._wire.close()
        self._process.kill()
        self._process.wait()

    def _hear(self) -> int | None:
        """Take one message in; return the id of a child that has begun."""
        message = self._wire.recv(_MESSAGE_MAX)
        if not message:
            raise processes.StartFailed("the nursery is gone")
        told: dict[str, int] = json.loads(message)
        if "code" in told:
            self._ended[told["pid"]] = told["code"]
            return None
        self._ended.pop(told["pid"], None)  # of an earlier process that had this id
        return told["pid"]


@contextmanager
def serve_warm() -> Iterator[None]:
    """Have services and sandboxes that this process starts forked by a nursery, which begins with the first of them."""
    cold, nurseries, lock = processes.start_program, list[Nursery](), threading.Lock()

    def start(command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any) -> processes.Program:
        module = command[-1] if command[-2] == "-m" else ""
        if module not in _SERVED or env is None or sys.platform != "linux":  # elsewhere sockets have no such messages
            return cold(command, env=env, **options)
        with lock:
            if not nurseries:
                nurseries.append(Nursery())
        death_signal = int(command[len(leashed()) - 2])
        log: int = options["stdout"].fileno()
        return nurseries[0].start(module, death_signal, env=env, cwd=options["cwd"], log=log)

    processes.start_program = start
    try:
        yield
    finally:
        processes.start_program = cold
        for nursery in nurseries:
            nursery.close()


def _rear(wire: socket.socket) -> dict[str, Any] | None:
    """Fork as ordered. Returns the order in each child, and None in the nursery when nobody orders any more."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    while True:
        ready = select.select([wire, reading], [], [])[0]
        if reading in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 4096)
            _tell_who_ended(wire)
        if wire not in ready:
            continue
        message, (log, *_), _flags, _address = _received(wire)
        if not message:
            return None
        order: dict[str, Any] = json.loads(message)
        nursery, (is_gone, going) = os.getpid(), os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (reading, writing, is_gone, wire.detach()):
                os.close(descriptor)
            _leave_home(order, nursery, log)
            os.close(going)
            return order
        for descriptor in (log, going):
            os.close(descriptor)
        os.read(is_gone, 1)  # returns when the child has left home, or is dead
        os.close(is_gone)
        wire.send(json.dumps({"pid": pid}).encode())


def _received(wire: socket.socket) -> tuple[bytes, list[int], int, Any]:
    message, descriptors, flags, address = socket.recv_fds(wire, _MESSAGE_MAX, 1)
    return message, descriptors or [-1], flags, address


def _tell_who_ended(wire: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            wire.send(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _leave_home(order: Mapping[str, Any], nursery: int, log: int) -> None:
    """Become independent of the nursery but for its end, as `leash.py` and `Popen` see to it for others."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(order["death_signal"]), 0, 0, 0)
    if os.getppid() != nursery:
        os._exit(1)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    crashpoints.arm(os.environ.get("HOLDFAST_CRASH_AT"))


def _main(descriptor: int) -> None:
    wire = socket.socket(fileno=descriptor)
    for module in _LOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    order = _rear(wire)
    if order is not None:
        gc.unfreeze()
        module: str = order["module"]
        sys.argv = [module]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
