"""The soak sees what it is there for: growth that goes on, and nothing else."""

import os

import pytest

from tests.soak.watching_processes import Sample, grown, look_at, slower

_LOOKS = 40


def looks(memory: float, memory_step: float = 0.0, handles: float = 40, handles_step: float = 0.0) -> list[Sample]:
    return [
        Sample("payment", memory + number * memory_step, round(handles + number * handles_step))
        for number in range(_LOOKS)
    ]


def test_what_stays_is_no_growth() -> None:
    """Flat, wobbling by a little, or large from the start."""
    assert grown(looks(120)) == []
    assert grown(looks(120, 0.15)) == []
    warming = [Sample("payment", 60 + 10 * number, 20) for number in range(8)]
    assert grown(warming + looks(150)[8:]) == []


@pytest.mark.parametrize(
    ("leaking", "word"), [(looks(120, 1.0), "memory"), (looks(120, handles_step=0.7), "open files")]
)
def test_a_leak_is_seen(leaking: list[Sample], word: str) -> None:
    """Memory or sockets, a little more at each look."""
    (found,) = grown(leaking)
    assert word in found


def test_rounds_that_get_slower_are_seen() -> None:
    """As they would by a table without an index; a slow minute in the middle is none."""
    assert slower([1.0] * 40) == []
    assert slower([1.0] * 20 + [5.0] * 5 + [1.0] * 15) == []
    assert len(slower([1.0 + number / 10 for number in range(40)])) == 1


def test_too_little_proves_nothing() -> None:
    """A run that was too short is red, and says so."""
    assert grown(looks(120)[:5]) != []
    assert slower([1.0] * 5) != []


def test_a_process_is_looked_at() -> None:
    """This one has some memory, and one more file while it is open."""
    before = look_at("me", os.getpid())
    with open(os.devnull) as _:  # noqa: PTH123  one more handle
        after = look_at("me", os.getpid())
    assert before.memory_mib > 10
    assert after.handles == before.handles + 1
