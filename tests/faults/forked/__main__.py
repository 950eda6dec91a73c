"""Every crash point, once and in pairs: `python -m tests.faults.forked`; `--only book,start_saga.after_commit#1` repeats.

It first lives through each path to learn which points lie on it, then kills at each of them (a few in a row, one life
each, before everything is looked at), then at their later passes and at pairs of them until the budget is spent. It
prints what failed with the command that repeats it, one line in the end, and exits with 1 if anything was not as it
must be.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.forked import plan
from tests.faults.forked.paths import PATHS
from tests.faults.forked.plan import Order
from tests.faults.forked.trials import Verdict
from tests.faults.forked.workers import Workers, open_workers

Recoveries = dict[str, dict[str, int]]

_PAIRS_AT_LEAST = 6
_REPEAT = ".venv/bin/python -m tests.faults.forked --only '{}'"


@dataclass
class Tally:
    """What has been tried so far and what was wrong."""

    wrong: list[str] = field(default_factory=list)
    points: set[str] = field(default_factory=set)
    points_wrong: set[str] = field(default_factory=set)
    rows: int = 0
    alone: int = 0
    later: int = 0
    later_known: int = 0
    not_again: int = 0
    pairs: int = 0
    pairs_recovered: int = 0
    pairs_known: int = 0

    def judge(self, order: Order, verdict: Verdict) -> bool:
        """Take a verdict in; True when every planned crash happened and nothing was wrong after it."""
        if verdict.violations:
            missed = [f"did not come to {verdict.missed}"] if verdict.missed else []
            self._report(order, [*missed, *verdict.violations])
        return not verdict.violations and not verdict.missed

    def judge_single(self, order: Order, verdict: Verdict) -> None:
        """A first pass at home must happen; any other was seen once and need not come again."""
        if self.judge(order, verdict) or verdict.violations:
            return
        if order.must_fire:
            self._report(order, ["the crash never happened"])
        else:
            self.not_again += 1

    def judge_pair(self, order: Order, verdict: Verdict) -> None:
        """When a recovery goes another way than it did once, there is no second crash, and so no pair."""
        good = self.judge(order, verdict)
        if good or verdict.violations:
            self.pairs += 1
            self.pairs_recovered += good

    def _report(self, order: Order, findings: Sequence[str]) -> None:
        self.points_wrong |= plan.points_of([order])
        self.wrong.append("\n    ".join([str(order), *findings, f"repeat: {_REPEAT.format(order)}"]))

    def sample(self, seed: int) -> str:
        """Say how much of what could be tried beyond the first passes was tried."""
        return (
            f"{self.rows} rows of deaths, {self.alone} deaths alone, later passes {self.later} of {self.later_known} ({self.not_again} did not come again), "
            f"pairs {self.pairs} of {self.pairs_known}, seed {seed}"
        )

    def line(self) -> str:
        return (
            f"crash points {len(self.points - self.points_wrong)}/{len(self.points)} recovered, "
            f"pairs {self.pairs_recovered}/{self.pairs} recovered, violations {len(self.wrong)}"
        )


class Campaign:
    """The whole of it, within a budget."""

    def __init__(self, workers: Workers, *, seed: int, budget_s: float, every: bool) -> None:
        self._workers = workers
        self._seed = seed
        self._ends = time.monotonic() + budget_s
        self._every = every
        self.tally = Tally()

    def run(self) -> None:
        passes = self._explore()
        if self.tally.wrong:
            return
        recoveries = self._kill_once(passes)
        self._kill_more(plan.later_passes(passes, every=self._every), plan.pairs(recoveries))

    def _explore(self) -> plan.Passes:
        """Live through each path without a crash; what is wrong then would be wrong after every crash."""
        passes = {}
        paths = [Order(path) for path in PATHS]
        for order, verdict in self._workers.run_all(paths, go_on=lambda: not self.tally.wrong):
            self.tally.judge(order, verdict)
            passes[order.path] = verdict.passes
        if not self.tally.wrong:
            self.tally.wrong += plan.unplaced(passes)
        return passes

    def _kill_once(self, passes: plan.Passes) -> Recoveries:
        """Return what each recovery on convert's path came past."""
        orders = plan.first_passes(passes, every=self._every)
        self.tally.points = plan.points_of(orders)
        rows, alone = plan.chains(orders, passes)
        recoveries: Recoveries = {}
        for order, verdict in self._workers.run_all(rows):
            self.tally.rows += 1
            alone += self._again_alone(order, verdict)
            if order.path == plan.CONVERT and not verdict.violations and not verdict.missed:
                recoveries[order.deaths[-1]] = verdict.passes
        for order, verdict in self._workers.run_all(alone):
            self.tally.judge_single(order, verdict)
            self.tally.alone += 1
        return recoveries

    def _again_alone(self, order: Order, verdict: Verdict) -> list[Order]:
        """Return what a row has not shown: the deaths that it did not come to, and all of them when it ended wrong."""
        if verdict.violations:
            self.tally.judge(order, verdict)
            return plan.one_by_one(order)
        return plan.one_by_one(order, after=verdict.missed) if verdict.missed else []

    def _kill_more(self, later: list[Order], pairs: list[Order]) -> None:
        """Go on with later passes and with pairs, in an order that the seed decides, as long as there is time."""
        self.tally.later_known, self.tally.pairs_known = len(later), len(pairs)
        orders = later + pairs
        random.Random(self._seed).shuffle(orders)
        for order, verdict in self._workers.run_all(orders, go_on=self._has_time):
            if len(order.deaths) == 1:
                self.tally.judge_single(order, verdict)
                self.tally.later += 1
            else:
                self.tally.judge_pair(order, verdict)

    def _has_time(self) -> bool:
        return time.monotonic() < self._ends or self.tally.pairs < _PAIRS_AT_LEAST


def _only(workers: Workers, orders: Sequence[Order]) -> int:
    tally = Tally()
    for order, verdict in workers.run_all(orders):
        good = tally.judge(order, verdict)
        missed = f", did not come to {verdict.missed}" if verdict.missed else ""
        print(f"{order}: {'recovered' if good else 'not as it must be'}, {verdict.took_s} s{missed}")
    print(*tally.wrong, sep="\n")
    return int(bool(tally.wrong))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.forked", description=__doc__)
    parser.add_argument("--only", action="append", metavar="PATH,POINT#PASS[,POINT#PASS]", help="make this one trial")
    parser.add_argument("--every", action="store_true", help="kill at each point on each path that passes it")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds after which nothing more is sampled")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the pairs' order")
    parser.add_argument("--workers", type=int, default=3, help="harness processes beside each other")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-crashes-", ignore_cleanup_errors=True) as folder,
        open_workers(Path(folder), arguments.workers) as workers,
    ):
        if arguments.only:
            return _only(workers, [Order.read(order) for order in arguments.only])
        began = time.monotonic()
        campaign = Campaign(workers, seed=arguments.seed, budget_s=arguments.budget, every=arguments.every)
        campaign.run()
        tally = campaign.tally
        print(*tally.wrong, sep="\n")
        print(tally.sample(arguments.seed) + f", {time.monotonic() - began:.0f} s")
        print(tally.line())
        return int(bool(tally.wrong))


if __name__ == "__main__":
    sys.exit(main())
