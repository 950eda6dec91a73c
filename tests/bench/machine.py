"""Whether this machine is calm enough to measure on, and what it is: a figure from a busy one is no figure."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.load.processor_time import children_of, spent_by

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LOAD_MAX = 1.5  # of others, before anything of ours runs
STEAL_MAX = 0.05  # while one thing is measured
STEAL_OF_A_RUN_MAX = 0.10  # what lies between counts too
OTHERS_MAX = 0.10


@dataclass(frozen=True)
class Usage:
    """Processor seconds of the whole machine, of those that another machine stole, and of us."""

    at_s: float
    busy_s: float
    stolen_s: float
    ours_s: float


def usage() -> Usage:
    """Read the counters; ours are those of this process and all that it has started."""
    fields = [int(field) / _TICKS_PER_S for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    ours_ms = sum(spent_by(pid) for pid in children_of(os.getpid()))
    return Usage(time.monotonic(), user + nice + system + irq + softirq, steal, ours_ms / 1000)


@dataclass(frozen=True)
class Calm:
    """What disturbed a run: the part of the processors that was stolen, and the part that others used."""

    stolen: float
    others: float

    @classmethod
    def between(cls, before: Usage, after: Usage) -> "Calm":
        room_s = (after.at_s - before.at_s) * (os.cpu_count() or 1)
        others_s = (after.busy_s - before.busy_s) - (after.ours_s - before.ours_s)
        return cls((after.stolen_s - before.stolen_s) / room_s, max(0.0, others_s / room_s))


def spread(values: Sequence[float]) -> float:
    """Return how far apart values are, as a part of their median."""
    return (max(values) - min(values)) / median(values)


def noise(disturbed: Sequence[str], calm: Calm, load_before: float) -> list[str]:
    """Return the reasons not to believe this run; `disturbed` are those that single comparisons gave."""
    reasons = list(disturbed)
    if calm.stolen > STEAL_OF_A_RUN_MAX:
        reasons.append(f"{calm.stolen:.0%} of the processors were stolen (at most {STEAL_OF_A_RUN_MAX:.0%})")
    if calm.others > OTHERS_MAX:
        reasons.append(f"others used {calm.others:.0%} of the processors (at most {OTHERS_MAX:.0%})")
    if load_before > LOAD_MAX:
        reasons.append(f"the load was {load_before:.1f} before anything of ours ran (at most {LOAD_MAX})")
    return reasons


def described() -> dict[str, str | int]:
    """Return what the figures were measured on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 1,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
