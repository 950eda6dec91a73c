"""What has gone wrong in other systems, read from elsewhere.toml, and the tests that say it does not happen here."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache

from tests.scenarios.catalogue import FOLDER
from tests.scenarios.claims import docstrings

_ID = re.compile(r"\bB[1-6]\.\d{1,2}\b")


@dataclass(frozen=True)
class Complaint:
    """One thing that users of another system have suffered."""

    id: str
    group: str
    what: str
    not_ours: str = ""


@cache
def complaints() -> dict[str, Complaint]:
    """Return every complaint by id, in the order of the list."""
    listed = tomllib.loads((FOLDER / "elsewhere.toml").read_text())
    return {
        name: Complaint(name, group, **entry) for group, entries in listed.items() for name, entry in entries.items()
    }


@cache
def answers() -> dict[str, list[tuple[str, str]]]:
    """Return the tests that name each complaint, as path and name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for said in docstrings():
        for name in dict.fromkeys(_ID.findall(said.text)):
            found.setdefault(name, []).append((said.path, said.test))
    return found
