"""What a booking costs in processor time, part by part: waits depend on who else is on the machine, this does not."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tests.system import System

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_YARD = 200_000


def spent_ms(system: System) -> dict[str, float]:
    """Return the processor time that each part of the system, its children included, has used so far."""
    parents = {pid: _stat(pid) for pid in _processes()}
    spent = {name: _with_children(pid, parents) for name, (pid, _mark) in system.stack.children().items()}
    mine = os.times()
    return spent | {"guests": (mine.user + mine.system) * 1000}


def children_of(pid: int) -> list[int]:
    """Return a process and all that it has started, directly or not, and that still live."""
    parents = {one: _stat(one)[0] for one in _processes()}
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def spent_by(pid: int) -> float:
    """Return the processor time that one process has used, and those of its children that have ended, in ms."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) * 1000 / _TICKS_PER_S


def per_booking(before: Mapping[str, float], after: Mapping[str, float], bookings: int) -> str:
    """Return the cost of a booking in one line, and how many of them two cores can do in a second."""
    each = {name: (after[name] - before[name]) / bookings for name in before}
    parts = " ".join(f"{name}={cost_ms:.1f}" for name, cost_ms in each.items() if cost_ms >= 0.05)
    total_ms = sum(each.values())
    cores = os.cpu_count() or 1
    return f"processor time per booking: {total_ms:.0f} ms ({parts}), so at most {cores * 1000 / total_ms:.1f}/s here"


def yardstick_ms() -> float:
    """Return how long this machine takes for a fixed piece of Python, so that figures of two machines can be compared."""
    began, total = time.thread_time(), 0
    for number in range(_YARD):
        total += number % 7
    return (time.thread_time() - began) * 1000


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> tuple[int, float]:
    """Return a process's parent and its processor time; one that is gone has neither."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    return int(fields[1]), (int(fields[11]) + int(fields[12])) * 1000 / _TICKS_PER_S


def _with_children(pid: int, parents: Mapping[int, tuple[int, float]]) -> float:
    own = parents.get(pid, (0, 0.0))[1]
    return own + sum(_with_children(child, parents) for child, (parent, _) in parents.items() if parent == pid)
