"""`python -m tests.bench.watched_reservation`: the reservation service as it is, telling what its collector and loop do.

Every second a line of JSON goes to the file that `BENCH_WATCH_FILE` names, in ms: the longest pause of the garbage
collector and the latest awakening of the event loop since the line before, and all pauses since the process began.
"""

import asyncio
import gc
import json
import os
import runpy
import time
from pathlib import Path
from typing import Any

from shared.ticker import Background

_NAP_S = 0.01
_LINE_S = 1.0


class Watch:
    """What is told next."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._began = 0.0
        self._gc_ms = 0.0
        self._all_gc_ms = 0.0
        self._lag_ms = 0.0

    def collected(self, phase: str, _info: Any) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            took_ms = (time.perf_counter() - self._began) * 1000
            self._gc_ms, self._all_gc_ms = max(self._gc_ms, took_ms), self._all_gc_ms + took_ms

    async def watch_loop(self) -> None:
        line_at = time.monotonic() + _LINE_S
        while True:
            due = time.monotonic() + _NAP_S
            await asyncio.sleep(_NAP_S)
            self._lag_ms = max(self._lag_ms, (time.monotonic() - due) * 1000)
            if time.monotonic() >= line_at:
                line_at = time.monotonic() + _LINE_S
                self._tell()

    def _tell(self) -> None:
        line = {"at": time.monotonic(), "gc_ms": self._gc_ms, "lag_ms": self._lag_ms, "all_gc_ms": self._all_gc_ms}
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._gc_ms = self._lag_ms = 0.0


def seen(file: Path, since_s: float) -> tuple[float, float]:
    """Return the longest pause and the latest awakening since a moment of the monotonic clock, in ms."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    recent = [line for line in lines if line["at"] - _LINE_S >= since_s]
    return max((line["gc_ms"] for line in recent), default=0.0), max((line["lag_ms"] for line in recent), default=0.0)


def collected_ms(file: Path) -> float:
    """Return how long the collector has worked since the process began, as of the last line."""
    return float(json.loads(file.read_text().splitlines()[-1])["all_gc_ms"])


def main() -> None:
    watch = Watch(Path(os.environ["BENCH_WATCH_FILE"]))
    gc.callbacks.append(watch.collected)
    start, tasks = Background.start, []

    def start_watched(background: Background) -> None:
        tasks.append(asyncio.create_task(watch.watch_loop()))
        start(background)

    Background.start = start_watched  # type: ignore[method-assign]
    runpy.run_module("reservation_service", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
