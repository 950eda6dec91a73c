"""The page of invariants says where each is checked: by which query, comparison, constraint or test, and it is so."""

import re
from collections import Counter
from collections.abc import Callable, Iterator

import payment_service.store.audit
import payment_service.store.tables
import reservation_service.store.audit
import reservation_service.store.tables
from deploy.cli.three_way import CHECKS
from tests.architecture.source import ROOT
from tests.scenarios.catalogue import catalogue
from tests.scenarios.claims import claims

PAGE = ROOT / "docs/explanation/invariants.md"
_ROW = re.compile(
    r"^\| (?P<id>\w+) \| [^|`]+ \| (?P<where>(?:reservation|payment|three-way|constraint|test) `.+`) \|$", re.MULTILINE
)
_PLACE = re.compile(r"(?P<kind>[\w-]+) (?P<names>`[^`]+`(?:, `[^`]+`)*)(?:; |$)")
# A check that is not called like its invariant; each of them has a row of its own all the same.
_BEYOND_THE_LIST = ("discounts", "prices")


def table() -> dict[str, dict[str, list[str]]]:
    """Return where each invariant is checked: kind of place to names."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in _ROW.finditer(PAGE.read_text()):
        assert row["id"] not in found, row["id"]
        places = list(_PLACE.finditer(row["where"]))
        assert "".join(place.group() for place in places) == row["where"], row["where"]
        found[row["id"]] = {place["kind"]: re.findall("`([^`]+)`", place["names"]) for place in places}
    return found


def named(kind: str) -> list[tuple[str, str]]:
    """Return what the table names of one kind, with the invariant it stands at."""
    return [(invariant, name) for invariant, places in table().items() for name in places.get(kind, ())]


def constraints() -> Iterator[str]:
    """Yield the names of all constraints and unique indexes of both databases."""
    for metadata in (reservation_service.store.tables.metadata, payment_service.store.tables.metadata):
        for each in metadata.tables.values():
            yield from (str(one.name) for one in each.constraints if one.name)
            yield from (str(index.name) for index in each.indexes if index.unique)


def test_every_invariant_has_its_row() -> None:
    """Each promised invariant, in order, and what is checked beyond them; each is checked somewhere."""
    promised = [name for name, scenario in catalogue().items() if scenario.kind == "invariant"]
    assert list(table()) == [*promised, *_BEYOND_THE_LIST]


def test_the_table_names_exactly_what_is_checked() -> None:
    """Every query and every comparison stands in one row, and a row names none that does not exist."""
    checked: dict[str, Callable[[], list[str]]] = {
        "reservation": lambda: [one.id for one in reservation_service.store.audit.INVARIANTS],
        "payment": lambda: [one.id for one in payment_service.store.audit.INVARIANTS],
        "three-way": lambda: [check_id for check_id, _, _ in CHECKS],
    }
    for kind, ids in checked.items():
        assert Counter(name for _, name in named(kind)) == Counter(ids()), kind


def test_checks_are_called_like_their_invariant() -> None:
    """`I5` of a service or of the comparison stands in the row of I5 and in no other."""
    for kind in ("reservation", "three-way"):
        told = [(invariant, name) for invariant, name in named(kind) if name in catalogue()]
        assert all(invariant == name for invariant, name in told), told


def test_constraints_and_tests_are_there() -> None:
    """What makes it impossible exists in the tables; a test that is named says in its docstring that it is about it."""
    assert {name for _, name in named("constraint")} <= set(constraints())
    claimed = {(invariant, claim.path) for claim in claims() for invariant in claim.ids}
    assert [pair for pair in named("test") if pair not in claimed] == []
