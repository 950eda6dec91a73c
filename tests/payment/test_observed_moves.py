"""That a test makes a move is believed when the database has seen it, and for no mark of its alone."""

import pytest

from tests.observed_moves import claimed_by, made_as_marked, makes
from tests.payment.till import Till

FIRST, NEVER = makes("payment", "none", "requires_payment"), makes("payment", "none", "captured")


async def test_a_mark_that_is_not_kept_fails(till: Till) -> None:
    """The payment does move, but not where the mark says; with the right mark alone nothing is amiss."""
    async with made_as_marked(iter([FIRST.mark]), till.sql):
        await till.created()
    with pytest.raises(AssertionError, match=r"marked to make \[\('payment', 'none', 'captured'\)\], and did not"):
        async with made_as_marked(iter([FIRST.mark, NEVER.mark]), till.sql):
            await till.created()


def test_a_mark_counts_where_somebody_looks() -> None:
    """Marks of the test and of its cases, if it asks for a fixture that watches; of any other test, none."""

    @FIRST
    @pytest.mark.parametrize("case", ["a", pytest.param("b", marks=NEVER)])
    def watched(till: Till, case: str) -> None: ...

    @FIRST
    def unwatched() -> None: ...

    assert claimed_by(watched) == {("payment", "none", "requires_payment"), ("payment", "none", "captured")}
    assert claimed_by(unwatched) == set()
