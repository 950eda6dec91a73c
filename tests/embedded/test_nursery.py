"""A service from the nursery is what `python -m` would have started: its words, its end, and nobody else's environment."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from deploy.embedded.ports import free_port
from tests.nursery import Nursery, WarmProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there services come from a nursery")

_SANDBOX = "deploy.stripe_sandbox"


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """A nursery for this page alone, because it is killed in the end."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def sandbox_env(tmp_path: Path) -> Mapping[str, str]:
    return {
        "SANDBOX_PORT": str(free_port()),
        "SANDBOX_STATE": str(tmp_path / "sandbox.sqlite"),
        "SANDBOX_SECRET_KEY": "sk_test_nursery",
        "SANDBOX_PUBLISHABLE_KEY": "pk_test_nursery",
    }


def start(nursery: Nursery, module: str, env: Mapping[str, str], folder: Path) -> WarmProcess:
    with (folder / "log").open("ab") as log:
        return nursery.start(module, signal.SIGKILL, env=env, cwd=folder, log=log.fileno())


def test_one_that_cannot_start_says_why(nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is what was given and nothing else; its words go to its log and its code to whoever waits."""
    monkeypatch.setenv("RESERVATION_PORT", "no number")
    process = start(nursery, "reservation_service", {"HOLD_TTL_SECONDS": "soon"}, tmp_path)
    assert process.wait(10) == 1
    said = (tmp_path / "log").read_text()
    assert said.startswith("reservation_service: ")
    assert "HOLD_TTL_SECONDS" in said
    assert "RESERVATION_PORT" not in said


def test_signals_end_it_as_they_end_others(nursery: Nursery, sandbox_env: Mapping[str, str], tmp_path: Path) -> None:
    """It lives in a session and a folder of its own, and is waited for as long as the caller likes."""
    process = start(nursery, _SANDBOX, sandbox_env, tmp_path)
    assert os.getsid(process.pid) == process.pid
    assert Path(f"/proc/{process.pid}/cwd").resolve() == tmp_path
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    assert process.poll() is None
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)  # to nobody


def test_nobody_outlives_the_nursery(nursery: Nursery, sandbox_env: Mapping[str, str], tmp_path: Path) -> None:
    """Whoever is killed with everything it started leaves no service behind."""
    process = start(nursery, _SANDBOX, sandbox_env, tmp_path)
    watched = os.pidfd_open(process.pid)
    nursery.close()
    assert select.select([watched], [], [], 10)[0]
    os.close(watched)
