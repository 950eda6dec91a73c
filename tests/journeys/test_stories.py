"""`make demo` as its user meets it: five stories, each with a right ending, and nothing left running."""

import os
import re
import subprocess
import sys
from pathlib import Path

from deploy.embedded.parts import PROJECT

_WITHIN_S = 110


def _in_use(folder: str) -> list[str]:
    """Return the commands of living processes that have this folder in their words."""
    commands = []
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(words.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [command for command in commands if folder in command]


def test_all_five_stories_end_right(tmp_path: Path) -> None:
    """S07, S11, C08, V11: the program tells all five, exits with 0, and takes its processes and its folder with it."""
    told = subprocess.run(
        [sys.executable, "-m", "deploy.stories"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"TMPDIR": str(tmp_path), "STRIPE_SECRET_KEY": "sk_live_not_for_stories"},
        timeout=_WITHIN_S,
        check=False,
    )
    print(told.stdout)
    assert told.returncode == 0, told.stdout
    assert "stories 5/5 ended right" in told.stdout
    assert re.findall(r"^(\d)\. ", told.stdout, re.MULTILINE) == list("12345")
    assert told.stdout.count("one payment in Stripe's book") == 5
    assert "kill -9" in told.stdout
    assert list(tmp_path.glob("holdfast-stories-*")) == []
    assert _in_use(str(tmp_path)) == []
