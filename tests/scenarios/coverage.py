"""What a run has proved: a scenario is covered by a test that names it, passed, and told its fault if it has one."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.scenarios import fired_in
from tests.scenarios.catalogue import by_area, catalogue


@dataclass(frozen=True)
class Outcome:
    """One test of the run: the ids of its docstring, how it ended, and what it printed."""

    ids: tuple[str, ...]
    passed: bool
    printed: str = ""


@dataclass(frozen=True)
class Coverage:
    """The ids that the run has proved, and those whose test failed."""

    covered: frozenset[str]
    failed: frozenset[str]
    seen: Mapping[str, int] = field(default_factory=dict)
    """How often the faults of the covered ones were seen."""

    def verdicts(self) -> dict[str, str]:
        """Return in words how each scenario ended that was tried."""
        proved = {name: self._proved(name) for name in sorted(self.covered)}
        return proved | dict.fromkeys(sorted(self.failed), "failed")

    def _proved(self, name: str) -> str:
        times = self.seen.get(name, 0)
        return f"passed, fault seen {times}x" if times else "passed"

    def missing(self) -> list[str]:
        """Return the demanded ids that this run has not proved."""
        return [name for name, scenario in catalogue().items() if scenario.required and name not in self.covered]

    def lines(self, *, name_missing: bool) -> list[str]:
        """Say for each area how much of it is covered, and name what is missing where it is demanded."""
        return [self._line(area.title, ids, name_missing) for area, ids in by_area(catalogue()).items()]

    def _line(self, title: str, ids: list[str], name_missing: bool) -> str:
        missing = [name for name in ids if name not in self.covered]
        covered = f"{title}: covered {len(ids) - len(missing)}/{len(ids)}"
        demanded = [name for name in missing if name_missing and catalogue()[name].required]
        return f"{covered} (missing: {', '.join(demanded)})" if demanded else covered


def covered_by(outcomes: Iterable[Outcome]) -> Coverage:
    """Judge a run; an id with a failed test is not covered, whatever other tests say."""
    proved, failed, seen = set[str](), set[str](), Counter[str]()
    for outcome in outcomes:
        if not outcome.passed:
            failed.update(outcome.ids)
            continue
        told = fired_in(outcome.printed)
        seen.update({name: times for name, times in told.items() if name in outcome.ids})
        proved.update(name for name in outcome.ids if name in told or not _is_fault(name))
    return Coverage(frozenset(proved - failed), frozenset(failed), seen)


def _is_fault(scenario_id: str) -> bool:
    scenario = catalogue().get(scenario_id)
    return scenario is None or scenario.kind == "fault"
