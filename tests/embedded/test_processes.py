"""Children: ready by their own word, stopped within a deadline, and never left behind by a parent that was killed."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.embedded.parts import PROJECT
from deploy.embedded.processes import Child, StartFailed, end_leftover, log_tail
from tests.embedded.conftest import gone_within, processes_with

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")


def _python(code: str, mark: str = "") -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), mark]


def test_a_child_that_ends_early_is_reported_with_its_log(tmp_path: Path) -> None:
    """Whoever waits for a dead child learns exit code and last words at once, not at the deadline."""
    child = Child("clock", _python("import sys; print('no spring'); sys.exit(7)"), log=tmp_path / "log")
    with pytest.raises(StartFailed, match=r"clock ended with exit code 7(.|\n)*no spring"):
        child.wait_until(lambda: False, deadline_s=20)


def test_a_child_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    """Waiting has an end."""
    child = Child("clock", _python("import time; time.sleep(60)"), log=tmp_path / "log")
    with pytest.raises(StartFailed, match=r"not ready after 0\.1 s"):
        child.wait_until(lambda: False, deadline_s=0.1)
    child.kill()
    assert not child.alive


def test_a_child_that_ignores_the_request_is_killed_at_the_deadline(tmp_path: Path) -> None:
    """Stop means stopped, politely or not."""
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        time.sleep(60)
    """
    child = Child("deaf", _python(code), log=tmp_path / "log")
    child.wait_until(lambda: "deaf" in child.log_tail(), deadline_s=20)
    assert child.stop(deadline_s=0.1) == -signal.SIGKILL


def test_stopping_a_dead_child_is_harmless(tmp_path: Path) -> None:
    """A child that was killed can be stopped; its exit code says how it ended."""
    child = Child("short", _python("import time; time.sleep(60)"), log=tmp_path / "log")
    assert child.kill() == -signal.SIGKILL
    assert child.stop(deadline_s=1) == -signal.SIGKILL


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """Callers may start children from worker threads: the death signal follows the process, not the thread."""
    children: list[Child] = []
    code = "import time; print('up', flush=True); time.sleep(60)"
    thread = threading.Thread(target=lambda: children.append(Child("c", _python(code), log=tmp_path / "log")))
    thread.start()
    thread.join()
    children[0].wait_until(lambda: "up" in children[0].log_tail(), deadline_s=20)
    assert children[0].alive
    children[0].kill()


@linux_only
@pytest.mark.parametrize("death_signal", ["SIGTERM", "SIGKILL"])
def test_children_die_with_a_parent_that_was_killed(tmp_path: Path, death_signal: str) -> None:
    """A launcher that is killed outright leaves nothing running."""
    mark = f"orphan-{uuid4().hex}"
    parent_code = f"""
        import signal, sys, time
        from pathlib import Path
        from deploy.embedded.processes import Child
        argv = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)", "{mark}"]
        child = Child("c", argv, log=Path("{tmp_path}/log"), death_signal=signal.{death_signal})
        child.wait_until(lambda: "up" in child.log_tail(), 20)
        print(child.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(_python(parent_code), stdout=subprocess.PIPE, cwd=PROJECT, text=True) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        assert child_pid in processes_with(mark)
        parent.kill()
    assert gone_within(mark, deadline_s=10)


def test_a_leftover_of_a_killed_run_is_ended() -> None:
    """Where no death signal exists, the next start ends what it knows by id and command line."""
    mark = f"leftover-{uuid4().hex}"
    code = "import time; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen(_python(code, mark), stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert end_leftover(process.pid, mark)
        assert process.wait(10) == -signal.SIGTERM


def test_a_process_id_given_to_a_stranger_is_left_alone() -> None:
    """An id alone proves nothing: this very process has another command line, and lives."""
    assert not end_leftover(os.getpid(), f"nobody-has-this-{uuid4().hex}")


def test_a_log_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    """An error message about a failed start must not fail itself."""
    assert log_tail(tmp_path / "none") == "(no log)"


def test_a_program_that_does_not_exist_says_so(tmp_path: Path) -> None:
    """The leash reports what it could not become."""
    child = Child("ghost", ["/nonexistent/program"], log=tmp_path / "log")
    with pytest.raises(StartFailed, match=r"exit code 127(.|\n)*cannot start /nonexistent/program"):
        child.wait_until(lambda: False, deadline_s=20)
