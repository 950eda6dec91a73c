"""What a dashboard consists of, as plain data: rows of panels, each of which answers one question."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a panel looks."""

    LINES = "lines"
    FIGURE = "figure"  # the latest number, large, with its recent course behind it
    STATES = "states"  # a band for each series, coloured by what its number means


class Unit(StrEnum):
    """What is counted, in Grafana's names for units."""

    COUNT = "short"
    A_SECOND = "ops"
    REQUESTS_A_SECOND = "reqps"
    A_MINUTE = "suffix: /min"
    SECONDS = "s"
    SHARE = "percentunit"


class Colour(StrEnum):
    """What an operator is to feel."""

    WELL = "green"
    CAREFUL = "orange"
    ALARMED = "red"


@dataclass(frozen=True)
class Query:
    """One expression, and how its lines are called."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Goal:
    """The number from which on things are not well any more; or, `at_least`, from which on they are."""

    value: float
    at_least: bool = False


@dataclass(frozen=True)
class Meaning:
    """The word for a number, and its colour."""

    word: str
    colour: Colour


@dataclass(frozen=True)
class Panel:
    """One question, the expressions that answer it, and what the answer is on a good day."""

    title: str
    question: str
    normal: str
    queries: tuple[Query, ...]
    unit: Unit = Unit.COUNT
    kind: Kind = Kind.LINES
    goal: Goal | None = None
    meanings: tuple[tuple[int, Meaning], ...] = ()
    from_zero: bool = True


@dataclass(frozen=True)
class Row:
    """Panels below one headline, `columns` of them side by side."""

    title: str
    columns: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page of Grafana's; `name` is its file, and behind `holdfast-` its address."""

    name: str
    title: str
    purpose: str
    rows: tuple[Row, ...]
