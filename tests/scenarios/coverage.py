"""What a run has proved: a scenario is covered by a test that names it, passed, and told its fault if it has one."""

from collections.abc import Iterable
from dataclasses import dataclass

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
    proved, failed = set[str](), set[str]()
    for outcome in outcomes:
        if not outcome.passed:
            failed.update(outcome.ids)
            continue
        told = set(fired_in(outcome.printed))
        proved.update(name for name in outcome.ids if name in told or not _is_fault(name))
    return Coverage(frozenset(proved - failed), frozenset(failed))


def _is_fault(scenario_id: str) -> bool:
    scenario = catalogue().get(scenario_id)
    return scenario is None or scenario.kind == "fault"
