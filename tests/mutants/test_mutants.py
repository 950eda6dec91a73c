"""The tests are tested: each bug of the list, planted into the product, makes an ordinary test fail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.figures import tell
from tests.mutants.bugs import BUGS, Bug, Edit
from tests.mutants.hunt import hunt, summary, verdict
from tests.mutants.planting import PROJECT, VARIABLE, CannotBePlanted, planted_source

_HERE = Path(__file__).parent


def _others() -> Iterator[Path]:
    """Yield the product's and the tests' own sources, without this folder."""
    for room in ("tests", "shared", "reservation_service", "payment_service", "deploy"):
        yield from (path for path in (PROJECT / room).rglob("*.py") if _HERE not in path.parents)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted(bug: Bug) -> None:
    """D12: the words that a bug changes still stand in the product, and what comes of them is still Python."""
    for edit in bug.edits:
        path = PROJECT / edit.path
        compile(planted_source(path.read_text(), edit), str(path), "exec")


def test_a_bug_that_has_lost_its_place_is_reported() -> None:
    """D12: when the product's words change, the bug is not silently planted nowhere."""
    with pytest.raises(CannotBePlanted):
        planted_source("a = 1\n", Edit("somewhere.py", "a = 2", "a = 3"))


def test_no_other_file_knows_of_the_bugs() -> None:
    """D12: the product has no switch for them, and the tests that notice them do not look for them."""
    told = [VARIABLE, "tests.mutants", *(f'"{bug.name}"' for bug in BUGS)]
    knowing = [(path, word) for path in _others() for word in told if word in path.read_text()]
    assert knowing == []


def test_only_a_failing_test_counts() -> None:
    """D12: a run that passes, or breaks before its tests run, has not noticed the bug."""
    failed = "FAILED tests/a.py::test_b - assert 1 == 2\n"
    assert verdict(BUGS[0], 1, failed, 1.0).killers == ("tests/a.py::test_b",)
    assert verdict(BUGS[0], 1, failed, 1.0).is_right
    assert not verdict(BUGS[0], 0, "", 1.0).is_right
    assert not verdict(BUGS[0], 1, "ERROR tests/a.py::test_b\n", 1.0).is_right
    assert not verdict(BUGS[0], 2, failed, 1.0).is_right
    assert not verdict(None, 1, failed, 1.0).is_right


@pytest.mark.timeout(400)
def test_every_planted_bug_is_noticed() -> None:
    """D12: twelve bugs, planted one at a time, each make an ordinary test fail that passes without them."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) == 12
    verdicts = hunt(BUGS, tell)
    tell(summary(verdicts))
    wrong = [f"{each.line}\n{each.printed}" for each in verdicts if not each.is_right]
    assert not wrong, "\n".join(wrong)
