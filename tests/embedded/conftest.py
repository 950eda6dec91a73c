"""What the launcher's tests share: stand-in programs and a look at the machine's processes."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

MakeProgram = Callable[[Path, str], Path]


@pytest.fixture
def make_program() -> MakeProgram:
    """Writes an executable shell script at a path and returns the path."""

    def make(path: Path, script: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


def processes_with(word: str) -> list[int]:
    """Return the ids of living processes whose command line contains `word` (zombies have none)."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if word.encode() in command:
            found.append(int(entry.name))
    return found


def gone_within(word: str, deadline_s: float) -> bool:
    """Tell whether no process with `word` in its command line is left before the deadline."""
    end = time.monotonic() + deadline_s
    while processes_with(word):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
