"""Runs everything and writes down what it has proved: `python -m tests.scenarios`, then the page of failure modes."""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.architecture import reference_tables
from tests.architecture.source import ROOT
from tests.scenarios.catalogue import catalogue
from tests.scenarios.page import LAST_RUN
from tests.scenarios.watch import RESULTS_FILE


def main() -> int:
    """Run the whole suite as `make test` does; results are kept only if it was whole, whether or not all of it passed."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "results.json"
        environment = os.environ | {RESULTS_FILE: str(target)}
        command = [sys.executable, "-m", "pytest", "@tests/whole_run.args"]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        told = json.loads(target.read_text()) if target.exists() else {"full": False}
    if code not in (0, 1) or not told["full"]:
        print("the run did not come to its end, so nothing is written down")
        return code or 1
    LAST_RUN.write_text(json.dumps(_record(told), indent=1) + "\n")
    reference_tables.main()
    return code


def _record(told: dict[str, Any]) -> dict[str, Any]:
    results = told["results"]
    in_order = {name: results[name] for name in catalogue() if name in results}
    today = datetime.now(UTC).date().isoformat()
    return {"date": today, "commit": _commit(), "tests": told["tests"], "results": in_order}


def _commit() -> str:
    """Return the commit that was tested, with a plus when the folder held more than it."""
    commit = _git("rev-parse", "--short", "HEAD")
    return f"{commit}+" if _git("status", "--porcelain") else commit


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
