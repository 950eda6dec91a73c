"""Child processes that cannot outlive their parent, and waits for them that cannot last for ever.

A child that has exited is dead even while nobody has reaped it: every question here goes through `Popen.poll`, which
reaps, and "ready" is always asked of the program itself, never of its process id.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

_LEASH = Path(__file__).with_name("leash.py")
_LOG_LIMIT_BYTES = 10_000_000
_POLL_S = 0.02

# Linux sends the death signal when the *thread* that forked ends. One thread that lives as long as the process
# forks them all, so that a caller may start a child from any short-lived thread.
_SPAWNER = ThreadPoolExecutor(1, "holdfast-spawner")


class Program(Protocol):
    """What is asked of a running program; `subprocess.Popen` is one."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


# Tests have theirs forked from a process that has loaded them before.
start_program: Callable[..., Program] = subprocess.Popen[bytes]


class StartFailed(RuntimeError):
    """A process died or stayed unready; the message ends with the tail of its log."""


class Child:
    """One running program with its log file.

    `stop_signal` asks it to finish; `death_signal` is what the kernel sends it should this process die first.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = Path("/"),
        identity: str = "keep",
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        command = [*leashed(identity, death_signal), *map(str, argv)]
        _make_room(log)
        with log.open("ab") as output:
            self._process = _SPAWNER.submit(
                start_program,
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order
            ).result()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        return self.exit_code is None

    def stop(self, deadline_s: float) -> int:
        """Ask it to finish, insist when the deadline has passed; return its exit code. Harmless on a dead child."""
        if self.alive:
            self._process.send_signal(self._stop_signal)
        try:
            return self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it at once, as a power cut would, and wait until it is gone."""
        self._process.kill()
        return self._process.wait()

    def log_tail(self, lines: int = 25) -> str:
        return log_tail(self.log, lines)

    def wait_until(self, ready: Callable[[], bool], deadline_s: float) -> None:
        """Return when `ready()` is true. Raises StartFailed when the child dies or the deadline passes first."""
        end = time.monotonic() + deadline_s
        while not ready():
            if (code := self.exit_code) is not None:
                raise StartFailed(f"{self.name} ended with exit code {code}; its log ends with:\n{self.log_tail()}")
            if time.monotonic() > end:
                raise StartFailed(
                    f"{self.name} was not ready after {deadline_s:g} s; its log ends with:\n{self.log_tail()}"
                )
            time.sleep(_POLL_S)


def leashed(identity: str = "keep", death_signal: signal.Signals = signal.SIGTERM) -> list[str]:
    """Return the words to put before a program's own so that it runs as `identity` and dies with this process."""
    return [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), str(int(death_signal)), identity]


def log_tail(log: Path, lines: int = 25) -> str:
    """Return the last lines of a log file, or say that there is none."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def _make_room(log: Path) -> None:
    """Keep one older log beside the current one, so that months of runs cannot fill the disk."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_name(log.name + ".old"))


def end_leftover(
    pid: int, marker: str, *, stop_signal: signal.Signals = signal.SIGTERM, deadline_s: float = 10.0
) -> bool:
    """End a process that an earlier, killed run left behind; return whether there was one.

    `marker` must stand in its command line: process ids are given again to strangers.
    """
    if not _is_running(pid, marker):
        return False
    _send(pid, stop_signal)
    if not _gone_within(pid, marker, deadline_s):
        _send(pid, signal.SIGKILL)
        if not _gone_within(pid, marker, deadline_s):
            raise StartFailed(f"process {pid} ({marker}) of an earlier run does not end")
    return True


def _gone_within(pid: int, marker: str, deadline_s: float) -> bool:
    end = time.monotonic() + deadline_s
    while _is_running(pid, marker):
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_running(pid: int, marker: str) -> bool:
    """Tell whether `pid` is a process with `marker` in its command line; a zombie has none and counts as gone."""
    if Path("/proc/self/cmdline").exists():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:
        command = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    return marker in command
