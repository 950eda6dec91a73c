"""One clone, one run: a second one is told where the first is, a killed one leaves no lock and no process behind."""

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.embedded.clone import AlreadyRunning, Clone, Running
from deploy.embedded.credentials import load_or_make
from deploy.embedded.parts import PROJECT

_HERE = Running(4711, {"reservation": "http://127.0.0.1:1"}, {})


def test_a_second_run_is_told_where_the_first_is(tmp_path: Path) -> None:
    """The holder's addresses are in the refusal, and the holder goes on undisturbed."""
    first, second = Clone(tmp_path), Clone(tmp_path)
    with first.held():
        first.publish(_HERE)
        with pytest.raises(AlreadyRunning) as refusal, second.held():
            pass
        assert refusal.value.running == _HERE == second.running()
    assert second.running() is None


def test_a_second_run_while_the_first_is_starting(tmp_path: Path) -> None:
    """Before the first has addresses to tell, the second is refused all the same."""
    with Clone(tmp_path).held(), pytest.raises(AlreadyRunning) as refusal, Clone(tmp_path).held():
        pass
    assert refusal.value.running is None


def test_another_clone_is_another_matter(tmp_path: Path) -> None:
    """Two checkouts run beside each other."""
    with Clone(tmp_path / "one").held(), Clone(tmp_path / "two").held():
        assert Clone(tmp_path / "one").running() is None


def test_the_state_folder_is_private(tmp_path: Path) -> None:
    """What is kept there is the owner's business."""
    with Clone(tmp_path / "state").held():
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_killed_run_leaves_no_lock_and_its_children_are_ended(tmp_path: Path) -> None:
    """The next run takes over, ends what it finds recorded, and does not show stale addresses."""
    mark = f"leftover-{uuid4().hex}"
    code = "import time; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, mark], stdout=subprocess.PIPE) as leftover:
        assert leftover.stdout is not None
        leftover.stdout.readline()
        holder = (
            "import os, pathlib; from deploy.embedded.clone import Clone, Running\n"
            f"clone = Clone(pathlib.Path({str(tmp_path)!r}))\n"
            "with clone.held():\n"
            f"    clone.publish(Running(os.getpid(), {{}}, {{'x': ({leftover.pid}, {mark!r})}}))\n"
            "    os.kill(os.getpid(), 9)\n"
        )
        assert subprocess.run([sys.executable, "-c", holder], cwd=PROJECT, check=False).returncode == -9
        assert Clone(tmp_path).running() is None
        with Clone(tmp_path).held():
            assert leftover.wait(10) != 0


def test_a_clone_that_never_ran_has_no_wiring(tmp_path: Path) -> None:
    """Asking makes nothing; secrets without ports are no wiring either."""
    assert Clone(tmp_path).wiring({}) is None
    load_or_make(tmp_path)
    assert Clone(tmp_path).wiring({}) is None


def test_the_folder_can_be_named(tmp_path: Path) -> None:
    """HOLDFAST_STATE moves the state out of the checkout; without it, it is the checkout's .holdfast."""
    assert Clone.here({"HOLDFAST_STATE": str(tmp_path)}).folder == tmp_path
    assert Clone.here({}).folder == PROJECT / ".holdfast"
