"""`make redis-weather`: the suites that touch Redis, once in each bad weather; everything must hold in all of them.

Exits 0 only if every mode ran to its end, nothing failed, and what the mode promises really happened. The same `--seed`
makes the same moments.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from tests.redis_weather.weather import MODES

SUITES = ("tests/reservation", "tests/races", "tests/journeys", "tests/invariants")
_LAST_WORDS_S = 30.0


@dataclass(frozen=True)
class Result:
    """What came of one mode."""

    finished: bool
    passed: int
    skipped: int
    failed: list[str]
    deselected: int
    bouts: int
    took_s: float

    def is_good(self, mode: str) -> bool:
        return self.finished and self.passed > 0 and not self.failed and (mode == "absent" or self.bouts > 0)


def main() -> int:
    options = _options()
    ends = time.monotonic() + options.budget
    print(f"redis weather: seed={options.seed} commit={_commit()} suites={' '.join(options.suites)}", flush=True)
    bad = []
    for mode in options.modes:
        left_s = ends - time.monotonic()
        if left_s <= 0:
            print(f"  {mode:8s} not run: the budget is used up", flush=True)
            bad.append(mode)
            continue
        result = _run(mode, options, left_s)
        _tell(mode, result)
        if not result.is_good(mode):
            bad.append(mode)
    if bad:
        print(f"redis weather: RED in {', '.join(bad)}; again: make redis-weather SEED={options.seed} MODE={bad[0]}")
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.redis_weather", description=__doc__)
    parser.add_argument("--mode", dest="modes", action="append", choices=list(MODES), help="default: all, one by one")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--budget", type=float, default=3600.0, help="seconds for all modes together")
    parser.add_argument("suites", nargs="*", default=list(SUITES), help="files or folders of tests")
    options = parser.parse_args()
    options.modes = options.modes or list(MODES)
    return options


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, timeout=10
    )
    return found.stdout.strip() or "unknown"


def _run(mode: str, options: argparse.Namespace, within_s: float) -> Result:
    with tempfile.TemporaryDirectory(prefix="holdfast-weather-") as folder:
        report, tally, log = (Path(folder) / name for name in ("report.xml", "tally", "log"))
        weather = [f"--redis={mode}", f"--redis-seed={options.seed}", f"--redis-tally={tally}"]
        command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-q", f"--junitxml={report}"]
        began = time.monotonic()
        with log.open("wb") as output:
            run = subprocess.Popen([*command, *weather, *options.suites], stdout=output, stderr=subprocess.STDOUT)
            finished = _wait(run, within_s)
        result = _read(report, tally, finished=finished, took_s=time.monotonic() - began)
        if not result.is_good(mode):
            print(log.read_text(errors="replace")[-20_000:], flush=True)
        return result


def _wait(run: subprocess.Popen[bytes], within_s: float) -> bool:
    """Tell whether the run came to its end in time; one that did not gets a moment to clean up after itself."""
    try:
        run.wait(within_s)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGINT)
        try:
            run.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
        return False
    return True


def _read(report: Path, tally: Path, *, finished: bool, took_s: float) -> Result:
    cases = ET.parse(report).getroot().iter("testcase") if report.exists() else ()  # noqa: S314  pytest wrote it
    passed, skipped, failed = 0, 0, list[str]()
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    lines = [json.loads(line) for line in tally.read_text().splitlines()] if tally.exists() else []
    deselected, bouts = (
        sum(line["count"] for line in lines if line["what"] == what) for what in ("deselected", "bouts")
    )
    return Result(finished, passed, skipped, failed, deselected, bouts, took_s)


def _tell(mode: str, result: Result) -> None:
    state = "" if result.finished else " NOT FINISHED"
    print(
        f"  {mode:8s} passed={result.passed} failed={len(result.failed)} skipped={result.skipped} "
        f"deselected={result.deselected} bouts={result.bouts} in {result.took_s:.0f} s{state}  ({MODES[mode]})",
        flush=True,
    )
    for name in result.failed:
        print(f"           FAILED {name}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
