"""Runs worlds by number and sums up what was seen in them."""

import argparse
import asyncio
import gc
import json
import logging
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import structlog
from stamina.instrumentation import set_on_retry_hooks

import shared.identifiers
from payment_service.payments import recording
from tests.simulation import chance, parity
from tests.simulation.invariants import Move, legal_moves
from tests.simulation.memory_sql.database import Engine, Store
from tests.simulation.planted import BUGS, WITNESSES, planted
from tests.simulation.world import Seen, World

shared.identifiers.uuid7 = chance._uuid7  # type: ignore[attr-defined]
chance.adopt(recording)

_TIDY_EVERY = 10  # what was let go of is used again while the processor still has it at hand
_CHUNK = 250
_COUNTED = ("moves", "points", "died_at")
_NUMBERS = ("crashes", "virtual_s", "events", "faults", "stripe_calls", "confirmed", "compared")


@dataclass
class Sum:
    """All worlds together."""

    seeds: int = 0
    crashes: int = 0
    virtual_s: float = 0.0
    events: int = 0
    faults: int = 0
    stripe_calls: int = 0
    confirmed: int = 0
    compared: int = 0
    failed: list[Seen] = field(default_factory=list)
    moves: Counter[Move] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    died_at: Counter[str] = field(default_factory=Counter)
    logs: dict[int, int] = field(default_factory=dict)

    def add(self, seen: Seen) -> None:
        self.seeds += 1
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(seen, name))
        for name in _COUNTED:
            getattr(self, name).update(getattr(seen, name))
        self.logs[seen.seed] = seen.log
        if seen.violations:
            self.failed.append(seen)

    def join(self, others: "Sum") -> None:
        """Add what other worlds came to."""
        for name in ("seeds", *_NUMBERS):
            setattr(self, name, getattr(self, name) + getattr(others, name))
        for name in _COUNTED:
            getattr(self, name).update(getattr(others, name))
        self.logs |= others.logs
        self.failed += others.failed

    def report(self) -> dict[str, Any]:
        """Return what was reached, for those who want to know what was not."""
        return {
            "line": self.line(),
            "seeds": self.seeds,
            "crashes": self.crashes,
            "failed": [[seen.seed, seen.violations] for seen in self.failed],
            "legal": sorted(legal_moves()),
            "moves": sorted(self.moves),
            "points": dict(self.points),
            "died_at": dict(self.died_at),
            "logs": {seed: f"log={log:08x}" for seed, log in self.logs.items()},
            "numbers": {name: getattr(self, name) for name in _NUMBERS},
        }

    def line(self) -> str:
        return (
            f"seeds={self.seeds} crashes={self.crashes} virtual_hours={self.virtual_s / 3600:.0f} "
            f"events={self.events} faults={self.faults} stripe_calls={self.stripe_calls} confirmed={self.confirmed} "
            f"books compared={self.compared} three-way differences={sum(seen.compared for seen in self.failed)} "
            f"violations={sum(len(seen.violations) for seen in self.failed)}"
        )


def quiet() -> None:
    """Let nothing be logged, and nothing be collected that is not there yet."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    set_on_retry_hooks([])
    warnings.simplefilter("ignore")
    gc.collect()
    gc.freeze()
    gc.disable()


def main() -> int:
    """Do what the command line says; returns the exit code."""
    arguments = _arguments()
    quiet()
    if arguments.only is not None:
        return _one(arguments)
    if arguments.bugs is not None:
        return _hunt(arguments)
    if arguments.parity is not None:
        print(json.dumps({seed: in_memory(seed, arguments.calls) for seed in arguments.parity}))
        return 0
    total = beside_each_other(
        arguments.beside, arguments.seed, arguments.seeds, budget_s=arguments.budget, keep_going=arguments.keep_going
    )
    for seen in total.failed[:20]:
        print(f"seed {seen.seed}: {seen.violations[0]}")
        print(f"    again: .venv/bin/python -m tests.simulation --only {seen.seed}")
    if arguments.report:
        arguments.report.write_text(json.dumps(total.report()))
    print(total.line())
    return int(bool(total.failed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5000, help="how many worlds")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--budget", type=float, default=1e9, help="seconds after which no further world begins")
    parser.add_argument("--only", type=int, help="live through one world and print everything that happens")
    parser.add_argument("--bugs", nargs="*", help="plant each bug (or those named) and say in which world it is found")
    parser.add_argument(
        "--parity", type=int, nargs="+", help="make the calls of `parity` with these seeds, and print the answers"
    )
    parser.add_argument("--calls", type=int, default=400, help="how many calls `--parity` makes")
    parser.add_argument(
        "--beside", type=int, default=os.cpu_count() or 1, help="how many processes, each with its own worlds"
    )
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first violation")
    parser.add_argument("--report", type=Path, help="write what was reached, as JSON")
    return parser.parse_args()


def many(first: int, count: int, *, budget_s: float = 1e9, keep_going: bool = False) -> Sum:
    """Live through worlds until something is untrue, or the time is over."""
    total, end = Sum(), time.monotonic() + budget_s
    for seed in range(first, first + count):
        if time.monotonic() > end:
            break
        total.add(World(seed).run())
        if total.seeds % _TIDY_EVERY == 0:
            gc.collect()
            gc.freeze()
        if total.failed and not keep_going:
            break
    return total


def beside_each_other(
    processes: int, first: int, count: int, *, budget_s: float = 1e9, keep_going: bool = False
) -> Sum:
    """Live through the same worlds in several processes; what is seen in each is what one process would see."""
    end, total = time.monotonic() + budget_s, Sum()
    firsts = range(first, first + count, _CHUNK)
    sizes = [min(_CHUNK, first + count - start) for start in firsts]
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        for part in pool.map(partial(_chunk, end=end, keep_going=keep_going), firsts, sizes):
            total.join(part)
            if total.failed and not keep_going:
                pool.shutdown(cancel_futures=True)
                break
    return total


def _chunk(first: int, count: int, *, end: float, keep_going: bool) -> Sum:
    return many(first, count, budget_s=end - time.monotonic(), keep_going=keep_going)


def _one(arguments: argparse.Namespace) -> int:
    with ExitStack() as soil:
        for bug in BUGS:
            if bug.__name__ in (arguments.bugs or ()):
                soil.enter_context(planted(bug))
        world = World(arguments.only, trace=print)
        seen = world.run()
    print(*world.journals(), sep="\n")
    print(*(f"violation: {line}" for line in seen.violations), sep="\n")
    print(f"seed={seen.seed} log={seen.log:08x} virtual_s={seen.virtual_s:.0f} events={seen.events}")
    return int(bool(seen.violations))


def _hunt(arguments: argparse.Namespace) -> int:
    """Plant one bug after the other; each must be found, in the same world again, in which honest code finds nothing."""
    named = set(arguments.bugs) or {bug.__name__ for bug in BUGS}
    wanted = [bug for bug in BUGS if bug.__name__ in named]
    missed = 0
    for bug in wanted:
        said, found = _found(bug, arguments)
        missed += not found
        print(f"bug {bug.__name__}: {said}", flush=True)
    print(f"bugs={len(wanted)} found={len(wanted) - missed}")
    return int(bool(missed))


def _found(bug: Callable[[Any], None], arguments: argparse.Namespace) -> tuple[str, bool]:
    """Look first where it was found last, then everywhere."""
    witness = WITNESSES.get(bug.__name__, arguments.seed)
    with planted(bug):
        failed = many(witness, 1).failed or many(arguments.seed, arguments.seeds, budget_s=arguments.budget).failed
        again = World(failed[0].seed).run() if failed else None
    if not failed or again is None:
        return "missed", False
    seen = failed[0]
    if again.log != seen.log:
        return f"not the same again in world {seen.seed}", False
    if honest := World(seen.seed).run().violations:
        return f"in world {seen.seed} it is wrong without the bug too: {honest[0]}", False
    return f"found in world {seen.seed}: {seen.violations[0]}", True


def in_memory(seed: int, calls_count: int) -> list[str]:
    """Make the calls of `parity` in memory."""
    play = parity.Play(seed)
    engines = {service: Engine(Store(play.time.now)) for service in ("reservation", "payment")}

    async def transact(service: str, do: parity.Do) -> Any:
        async with engines[service].connect() as connection, connection.begin():
            return await do(connection)

    return asyncio.run(parity.run(play, transact, calls_count))
