"""`make run` as its user meets it: a booking before the eyes, one run per clone, and nothing left when it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from deploy.embedded.parts import PROJECT
from tests.embedded.conftest import gone_within

_UP_S = 90
_DOWN_S = 40


class _Run:
    """One launcher process; `lines` is what it has printed so far."""

    def __init__(self, folder: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.endswith(("_URL", "_SECRET"))}
        self.environ = {**inherited, "HOLDFAST_STATE": str(folder)}
        self.lines: list[str] = []
        self._is_up = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.embedded"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=PROJECT,
            env=self.environ,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("Up."):
                self._is_up.set()
        self._is_up.set()

    @property
    def printed(self) -> str:
        return "".join(self.lines)

    def wait_up(self) -> None:
        assert self._is_up.wait(_UP_S), self.printed
        assert self.process.poll() is None, self.printed

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.finish()

    def finish(self) -> int:
        code = self.process.wait(_DOWN_S)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def holdfast(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deploy.cli", *words]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=PROJECT, env=self.environ, timeout=60, check=False
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder that the runs on this page share in turn, as one clone's do."""
    return tmp_path_factory.mktemp("clone") / "state"


@pytest.fixture
def run(folder: Path) -> Iterator[_Run]:
    """The stack, up."""
    run = _Run(folder)
    try:
        run.wait_up()
        yield run
    finally:
        if run.process.poll() is None:
            run.end(signal.SIGTERM)


def _children(folder: Path) -> dict[str, int]:
    running = json.loads((folder / "running.json").read_text())
    return {name: pid for name, (pid, _mark) in running["children"].items()}


def _all_gone(folder: Path, pids: list[int]) -> bool:
    """Tell whether neither the recorded children nor anything else with the state folder in its words is left."""
    return gone_within(str(folder), 10) and not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)


def test_a_first_run_books_and_ctrl_c_leaves_nothing(run: _Run, folder: Path) -> None:
    """The booking is confirmed before the addresses appear; status and audit are well; Ctrl-C leaves no process."""
    assert "confirmed" in run.printed, run.printed
    assert "http://127.0.0.1:" in run.printed
    status = run.holdfast("status", "--json")
    assert status.returncode == 0, status.stdout + status.stderr
    audit = run.holdfast("audit", "--json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    pids = list(_children(folder).values())
    assert len(pids) >= 4
    assert run.end(signal.SIGINT) == 0
    assert "stopped" in run.printed
    assert _all_gone(folder, pids)


def test_the_next_run_finds_everything_and_survives_company(run: _Run, folder: Path) -> None:
    """Bookings and addresses are kept; a second run changes nothing; a killed part comes back; a killed launcher leaves nothing."""
    _assert_state_was_kept(run, folder)
    _assert_second_run_changes_nothing(run, folder)
    old = _children(folder)["payment"]
    os.kill(old, signal.SIGKILL)
    assert _becomes(lambda: _children(folder)["payment"] != old, within_s=30), run.printed
    assert "payment died" in run.printed
    demo = run.holdfast("demo")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    pids = list(_children(folder).values())
    assert run.end(signal.SIGKILL) == -signal.SIGKILL
    assert _all_gone(folder, pids)


def _assert_state_was_kept(run: _Run, folder: Path) -> None:
    urls = json.loads((folder / "running.json").read_text())["urls"]
    assert "catalogue: 0 experiences and 0 time slots added" in run.printed
    headers = {"Authorization": f"Bearer {run.holdfast('token').stdout.strip()}"}
    sagas = httpx.get(f"{urls['reservation']}/admin/v1/sagas", headers=headers, timeout=10).json()["data"]
    assert len(sagas) == 2, "one booking of this run, one of the run before"


def _assert_second_run_changes_nothing(run: _Run, folder: Path) -> None:
    before = _children(folder)
    second = _Run(folder)
    assert second.finish() == 0
    assert "is up already" in second.printed
    assert json.loads((folder / "running.json").read_text())["urls"]["reservation"] in second.printed
    assert _children(folder) == before
    assert run.holdfast("status").returncode == 0


def test_a_run_after_a_kill_is_whole(run: _Run) -> None:
    """Recovery is no mode: a normal start over what the kill left, with a clean audit; SIGTERM ends it like Ctrl-C."""
    assert "confirmed" in run.printed, run.printed
    audit = run.holdfast("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert run.end(signal.SIGTERM) == 0


def _becomes(true: Callable[[], bool], *, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
