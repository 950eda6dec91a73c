"""The reference pages are the code, read aloud: no table in the documentation can say anything else."""

import inspect
import re
from pathlib import Path

import pytest

from reservation_service.api.manners import MANNERS
from reservation_service.settings import ReservationSettings
from reservation_service.states import LEGAL_MOVES, LEGAL_SAGA_MOVES, OWNERS, BookingStatus, SagaStatus
from shared.flags import Flag
from tests.architecture.reference_tables import TABLES, blocks, flags_table, moves_table, pages, rewritten, table
from tests.architecture.source import ROOT

_PAGES = pages()


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_the_code_says(page: Path) -> None:
    """Every generated table is up to date; `python -m tests.architecture.reference_tables` writes them."""
    assert _PAGES[page] == rewritten(_PAGES[page])


def test_every_table_is_shown_somewhere() -> None:
    """Settings, flags, metrics, refusals, statuses, crash points and the saga: each has its page."""
    shown = [name for text in _PAGES.values() for name in blocks(text)]
    assert sorted(shown) == sorted(TABLES)


def test_the_limits_that_callers_read_are_those_that_are_shipped() -> None:
    """The text above all operations has numbers in it: each is the default of its setting."""
    shipped = {name: field.default for name, field in ReservationSettings.model_fields.items()}
    for words, name in {
        "{} holds a minute for each customer": "rate_limit_holds_per_minute",
        "{} for all anonymous guests of one address": "rate_limit_guest_holds_per_minute",
        "{} guest sessions a minute": "rate_limit_guest_sessions_per_minute",
        "{} look-ups an hour for each address": "rate_limit_lookups_per_hour",
        "{} for each reference": "rate_limit_lookups_per_reference",
        "{} calls a second": "rate_limit_caller_per_second",
        "{} at once": "rate_limit_caller_burst",
        "{} a day for each caller": "rate_limit_caller_per_day",
    }.items():
        assert re.search(rf"\b{re.escape(words.format(f'{shipped[name]:,}'))}", MANNERS), name


def test_every_status_has_moves_and_an_owner() -> None:
    """No status is forgotten in the tables that the code obeys."""
    assert set(LEGAL_MOVES) == set(OWNERS) == set(BookingStatus)
    assert set(LEGAL_SAGA_MOVES) == set(SagaStatus)


def test_a_changed_page_would_be_noticed() -> None:
    """A table edited by hand is written anew, and what stands around it is left alone."""
    name = "flags.reservation"
    page = f"before\n<!-- generated: {name} -->\nwrong\n<!-- end -->\nafter\n"
    assert rewritten(page) == f"before\n<!-- generated: {name} -->\n{TABLES[name]()}<!-- end -->\nafter\n"


def test_rendering() -> None:
    """Cells are escaped, flags say what off means, moves are sorted."""
    assert table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |\n"
    assert "| `f` | off | 0.1 | nothing |" in flags_table([Flag("f", off_means="nothing", default=False)])
    assert "| `b` | `a`, `c` |" in moves_table({"b": ["c", "a"]})


def test_the_saga_table_names_real_functions() -> None:
    """Each step and each undo in the table is a method of the saga's acts."""
    from reservation_service.saga.steps import Steps

    acts = {name for name, _ in inspect.getmembers(Steps, inspect.isfunction)}
    named = {word for line in TABLES["saga"]().splitlines()[2:] for word in line.split("`")[1::2]}
    assert named
    assert named <= acts


def test_adrs_are_numbered_and_listed() -> None:
    """Decision records are numbered without a gap, have the four parts, and stand in the index."""
    folder = ROOT / "docs/decisions"
    records = sorted(path for path in folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text()
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        assert all(f"## {part}" in text for part in ("Context", "Decision", "Consequences", "Rejected")), record.name
        assert len(text.splitlines()) <= 60, f"{record.name} is more than a page"
        assert record.name in index
