"""What processes hold on to while they run for long, and whether it grows."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MIB = 2**20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Memory comes in steps, and what is loaded late is no leak; what goes on growing passes any of these in an hour or a day.
_GROWTH_MAX = 0.10
_GROWTH_MIN_MIB = 6.0
_HANDLES_MAX = 8
_SLOWER_MAX = 1.5
_SAMPLES_LEAST = 8


@dataclass(frozen=True)
class Sample:
    """One look at one process: resident memory and how many files, sockets included, it has open."""

    process: str
    memory_mib: float
    handles: int


def look_at(process: str, pid: int) -> Sample:
    """Read a process that lives."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Sample(process, pages * _PAGE_BYTES / _MIB, len(list(Path(f"/proc/{pid}/fd").iterdir())))


def grown(samples: Sequence[Sample]) -> list[str]:
    """Return what the last quarter of one process' samples has more than the second one: the first is for warming up."""
    if len(samples) < _SAMPLES_LEAST:
        return [f"{len(samples)} looks say nothing: give it a longer budget"]
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    wrong = []
    before, after = (statistics.median(sample.memory_mib for sample in part) for part in (early, late))
    if after - before > max(_GROWTH_MAX * before, _GROWTH_MIN_MIB):
        wrong.append(f"{samples[0].process}: memory grows, {before:.0f} -> {after:.0f} MiB")
    opened, still = (statistics.median(sample.handles for sample in part) for part in (early, late))
    if still - opened > _HANDLES_MAX:
        wrong.append(f"{samples[0].process}: open files grow, {opened:.0f} -> {still:.0f}")
    return wrong


def slower(took_s: Sequence[float]) -> list[str]:
    """Return whether the same round takes longer and longer."""
    if len(took_s) < _SAMPLES_LEAST:
        return [f"{len(took_s)} rounds say nothing: give it a longer budget"]
    quarter = len(took_s) // 4
    early, late = statistics.median(took_s[quarter : 2 * quarter]), statistics.median(took_s[-quarter:])
    return [f"rounds get slower, {early:.2f} -> {late:.2f} s"] if late > _SLOWER_MAX * early else []
