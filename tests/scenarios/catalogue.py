"""The committed list of what may go wrong, read from required.toml: the measure that a full run is held against."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
KINDS = ("fault", "input", "rule", "invariant")

# One id, or several with all between them: `K01`, `C04..C09`.
_ID = re.compile(
    r"\b(?P<letter>[CSWTRPKVX](?=\d\d\b)|I(?=\d))(?P<first>\d{1,2})(?:\.\.(?P=letter)(?P<last>\d{1,2}))?\b"
)


@dataclass(frozen=True)
class Area:
    """A promise of the product; without `required_since` its scenarios are listed and not yet demanded."""

    name: str
    title: str
    required_since: str = ""


@dataclass(frozen=True)
class Scenario:
    """What happens to the system and what holds then."""

    id: str
    group: str
    kind: str
    area: Area
    what: str
    holds: str
    not_yet: str = ""

    @property
    def required(self) -> bool:
        return bool(self.area.required_since) and not self.not_yet


@cache
def catalogue() -> dict[str, Scenario]:
    """Return every scenario by id, in the order of the list."""
    listed = tomllib.loads((FOLDER / "required.toml").read_text())
    areas = {name: Area(name, **entry) for name, entry in listed.pop("areas").items()}
    return {
        scenario_id: Scenario(**{**entry, "area": areas[entry["area"]]}, id=scenario_id, group=group)
        for group, entries in listed.items()
        for scenario_id, entry in entries.items()
    }


def groups() -> tuple[str, ...]:
    """Return the names of the list's groups, in its order."""
    return tuple(dict.fromkeys(scenario.group for scenario in catalogue().values()))


def by_area(ids: Iterable[str]) -> dict[Area, list[str]]:
    """Sort ids by their area; every area is there, even with none."""
    found: dict[Area, list[str]] = {scenario.area: [] for scenario in catalogue().values()}
    for scenario_id in ids:
        found[catalogue()[scenario_id].area].append(scenario_id)
    return found


def ids_in(docstring: str) -> list[str]:
    """Return the ids that a docstring names, ranges spelled out."""
    found: list[str] = []
    for match in _ID.finditer(docstring):
        letter, first = match["letter"], match["first"]
        last = int(match["last"] or first)
        found += [f"{letter}{number:0{len(first)}d}" for number in range(int(first), last + 1)]
    return found
