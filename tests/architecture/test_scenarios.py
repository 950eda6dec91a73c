"""The list of failure scenarios and the docstrings of the tests speak of the same things."""

import pytest

from tests.architecture.source import snippet
from tests.scenarios.catalogue import KINDS, catalogue, ids_in
from tests.scenarios.claims import claims
from tests.scenarios.elsewhere import answers, complaints

SIZES = {"C": 20, "S": 30, "W": 20, "T": 10, "R": 8, "P": 11, "K": 10, "V": 13, "X": 18}
INVARIANTS = 28


def test_the_list_is_whole() -> None:
    """140 scenarios and 28 invariants, each of a known kind, with what happens and what holds in one line."""
    expected = {f"{letter}{number:02d}" for letter, size in SIZES.items() for number in range(1, size + 1)}
    expected |= {f"I{number}" for number in range(1, INVARIANTS + 1)}
    assert catalogue().keys() == expected
    for scenario in catalogue().values():
        assert scenario.kind in KINDS, scenario.id
        assert (scenario.kind == "invariant") == scenario.id.startswith("I"), scenario.id
        assert scenario.what, scenario.id
        assert scenario.holds, scenario.id


def test_every_id_in_a_docstring_is_in_the_list() -> None:
    """A test that names a scenario which does not exist proves something that nobody asked for, or has a slip."""
    unknown = [
        f"{claim.path}:{claim.line}: {claim.test} names {name}"
        for claim in claims()
        for name in claim.ids
        if name not in catalogue()
    ]
    assert not unknown


def test_every_demanded_scenario_has_a_test() -> None:
    """Peers B1.7: What the list demands is named by at least one test; whether it passes is for the full run to say."""
    claimed = {name for claim in claims() for name in claim.ids}
    assert [name for name, scenario in catalogue().items() if scenario.required and name not in claimed] == []


def test_what_went_wrong_elsewhere_has_a_test_here() -> None:
    """Every row of the list is named by a test or says why none can be, and no test names a row that is not there."""
    untested = [one.id for one in complaints().values() if bool(one.not_ours) == (one.id in answers())]
    assert untested == []
    assert set(answers()) <= set(complaints())
    assert len(complaints()) == 70


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ("K01, I1: exactly its seats.", ["K01", "I1"]),
        ("C04..C06 and I20, in a row.", ["C04", "C05", "C06", "I20"]),
        ("K1, K001, AK01, L8, D12, SHA1, IPv6 and P are no ids.", []),
        ("C99: a slip is seen as an id.", ["C99"]),
    ],
)
def test_ids_are_read_from_prose(said: str, ids: list[str]) -> None:
    """Ranges are spelled out, other words are left alone."""
    assert ids_in(said) == ids


def test_claims_are_read_from_functions_and_classes() -> None:
    """A test in a class claims what its class says as well; what is no test claims nothing."""
    module = snippet(
        '''
@pytest.mark.parametrize("n", [1])
async def test_alone(n):
    """K01: one."""

def helper():
    """K02: none."""

class TestMany:
    """K03: all."""
    def test_in_a_class(self):
        """K04: and this."""
''',
        "tests/example.py",
    )
    assert [(claim.test, claim.ids) for claim in claims([module])] == [
        ("test_alone", ("K01",)),
        ("TestMany::test_in_a_class", ("K03", "K04")),
    ]
