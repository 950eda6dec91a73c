"""The list of long files names files that exist; a renamed one would silently move to the end of the run."""

from pathlib import Path

from tests.order import LONG, unknown

_TESTS = Path(__file__).resolve().parents[1]


def test_every_long_file_exists() -> None:
    """A name that stands for no file is noticed, and so is one that stands twice."""
    assert unknown(_TESTS) == []
    assert unknown(_TESTS, ["races/test_nothing.py"]) == ["races/test_nothing.py"]
    assert len(set(LONG)) == len(LONG)
