"""`make bench-profile`: in which layers the processor time of a hold goes.

First, undisturbed, what a hold costs beside a constant route; then py-spy looks at reservation_service a hundred times a second
while as many holds are made. It needs the right to look into another process: as root, or with `ptrace_scope` 0.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import holding
from tests.bench.ground import Ground, open_ground
from tests.bench.layers import parts, table
from tests.bench.watched_reservation import collected_ms, seen
from tests.load.running import commit, report

_PER_S = 100
_ENOUGH_SAMPLES = 500
_ENDS_S = 30.0
_TOLD_S = 1.5  # a line a second
_PY_SPY = Path(sys.executable).with_name("py-spy")


@contextmanager
def looked_at(pid: int, found: Path) -> Iterator[None]:
    """Have the stacks of a process sampled meanwhile; `found` gets a line for each that was seen."""
    command = [
        _PY_SPY,
        "record",
        "--pid",
        str(pid),
        "--rate",
        str(_PER_S),
        "--nonblocking",
        "--format",
        "raw",
        "-o",
        found,
    ]
    log = found.with_suffix(".log")
    with log.open("wb") as output:
        looking = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        looking.send_signal(signal.SIGINT)
        looking.wait(_ENDS_S)
    if not found.exists():
        raise SystemExit(f"bench-profile: py-spy saw nothing:\n{log.read_text(errors='replace')}")


async def measure(ground: Ground, found: Path, holds: int) -> float:
    """Return how many constant routes a hold costs, and have the stacks of as many holds written to `found`."""
    await holding.spread(ground, count=1000)
    route = await holding.bare(ground, "/echo", count=holds)
    began, before_ms = time.monotonic(), await _collected_ms(ground)
    hold = await holding.spread(ground, count=holds)
    in_all_ms = await _collected_ms(ground) - before_ms
    longest_ms, _ = seen(ground.watch_file, began)
    report(f"bench-profile: the collector: {in_all_ms / holds * 1000:.0f} us of each hold, {longest_ms:.1f} ms at once")
    for name, one in (("a hold", hold), ("a constant route", route)):
        report(f"bench-profile: {name}: {one.server_ms:.2f} ms of processor time, {one.answers.per_s:.0f} a second")
    (pid,) = ground.process_ids("reservation")
    with looked_at(pid, found):
        await holding.spread(ground, count=holds)
    return hold.server_ms / route.server_ms


async def _collected_ms(ground: Ground) -> float:
    await asyncio.sleep(_TOLD_S)
    return collected_ms(ground.watch_file)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profiling", description=__doc__)
    parser.add_argument("--holds", type=int, default=12_000, help="how many are made in each round")
    holds = parser.parse_args().holds
    with tempfile.TemporaryDirectory() as name:
        found = Path(name) / "stacks.txt"
        with tempfile.TemporaryDirectory() as folder, open_ground(Path(folder)) as ground:
            routes = asyncio.run(measure(ground, found, holds))
        lines = found.read_text(errors="replace").splitlines()
    samples = sum(int(line.rpartition(" ")[2]) for line in lines)
    sys.stdout.write("\n".join(table(parts(lines), routes)) + "\n")
    report(f"bench-profile: {samples} samples of {holds} holds, commit {commit()}")
    return 0 if samples >= _ENOUGH_SAMPLES else 1


if __name__ == "__main__":
    sys.exit(main())
