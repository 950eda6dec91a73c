"""The tutorial is a script that runs: whoever follows it word by word ends with a confirmed booking."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.embedded.seed import seed
from deploy.embedded.stack import Stack
from tests.architecture.source import ROOT
from tests.surroundings import clean_environment

_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def fresh_stack(tmp_path: Path) -> Iterator[Stack]:
    """A system as a newcomer's is: nothing in its catalogue but what is seeded."""
    with Stack(tmp_path / "stack", environ=clean_environment(), durable=False) as stack:
        yield stack


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tutorial is written for curl")
def test_the_first_booking_can_be_followed(fresh_stack: Stack) -> None:
    """Every command of the tutorial does what the page says, on the catalogue that `make run` seeds."""
    urls = {name.upper(): fresh_stack.url(name) for name in ("reservation", "sandbox")}
    seed(urls["RESERVATION"], fresh_stack.operator_token(), now=datetime.now(UTC))
    script = "".join(_SHELL.findall((ROOT / "docs/tutorials/first-booking.md").read_text()))
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, **urls},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    said = run.stdout.splitlines()
    assert said[-1] == "confirmed", run.stdout
    assert "action_required" in said
    assert "card_declined" in said
