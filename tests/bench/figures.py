"""What must be reached and what is aimed at, figure by figure, and how a run is judged by it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Better = Literal["more", "less"]


@dataclass(frozen=True)
class Figure:
    """A line of the table; without `must` and `goal` it is told and judged by nobody."""

    name: str
    title: str
    unit: str = ""
    better: Better = "more"
    must: float | None = None
    goal: float | None = None
    whole: bool = False  # measured by `make bench` alone; a quick run neither shows nor misses it

    def reached(self, values: Sequence[float]) -> str:
        """Judge the median; what was not measured was not reached."""
        if self.must is None:
            return "-"
        if not values:
            return "not measured"
        for name, bound in (("goal", self.goal), ("must", self.must)):
            if bound is not None and (median(values) >= bound if self.better == "more" else median(values) <= bound):
                return name
        return "NO"


FIGURES = (
    Figure("spread", "holds on 50 slots / pgbench, the same statement, 8 clients, PostgreSQL on one core", "x", must=0.65, goal=1.0),
    Figure("hot", "holds on one hot slot / pgbench on the same slot, 8 clients", "x", must=1.5, goal=3.0),
    Figure("winners", "1000 attempts at once on 100 seats: winners above or below 100", "", "less", 0, 0),
    Figure("burst_echo", "the same: last answer / (1000 / echo rate)", "x", "less", 1.5, 1.5),
    Figure("burst", "the same: last answer", "ms", "less", 60_000, 100),
    Figure("open_50", "open loop at 50 % of the knee, p99", "ms", "less", 30, 15),
    Figure("open_80", "open loop at 80 % of the knee, p99", "ms", "less", 100, 30),
    Figure("single", "one caller alone, p99", "ms", "less", 10, 4),
    Figure("fairness", "p99 of other slots beside a crowd at one / without a crowd", "x", "less", 1.2, 1.05, whole=True),
    Figure("growth", "a hold among 10^7 rows / among 10^3", "x", "less", 1.15, 1.05, whole=True),
    Figure("cpu", "processor time of a hold / of the bare FastAPI route", "x", "less", 2.5, 1.5),
    Figure("gc", "longest pause of the garbage collector", "ms", "less", 10, 5),
    Figure("lag", "latest awakening of the event loop", "ms", "less", 30, 10),
    Figure("bookings", "whole bookings / pgbench holds on 50 slots, PostgreSQL on all cores", "x", must=0.01, goal=0.025),
    Figure("webhook", "authorised webhook to confirmed at 50/s, p99", "ms", "less", 500, 500, whole=True),
    Figure("start_up", "warm `make run`, from its first line to a confirmed booking", "s", "less", 5, 4, whole=True),
    # Told, and judged by nobody: they depend on the machine.
    Figure("spread_per_s", "holds on 50 slots", "/s"),
    Figure("hot_per_s", "holds on one hot slot", "/s"),
    Figure("knee_per_s", "the knee: the rate from which on p99 is above 100 ms, or answers lag behind", "/s"),
    Figure("bookings_per_s", "whole bookings, 16 guests at a time, Stripe at 0 ms", "/s"),
    Figure("booking_p50", "a whole booking, p50", "ms", "less"),
    Figure("booking_p99", "a whole booking, p99", "ms", "less"),
    Figure("bookings_200_per_s", "whole bookings, 16 guests at a time, Stripe at 200 ms", "/s"),
    Figure("booking_200_p50", "a whole booking with Stripe at 200 ms, p50", "ms", "less"),
    Figure("booking_200_p99", "a whole booking with Stripe at 200 ms, p99", "ms", "less"),
    Figure("booking_cpu", "processor time of a whole booking, all processes but the guests'", "ms", "less"),
    Figure("core_hours", "the same for a million bookings", "core hours", "less"),
    Figure("memory_reservation", "resident memory of reservation_service after all that", "MB", "less"),
    Figure("memory_payment", "resident memory of payment_service after all that", "MB", "less"),
    Figure("image", "what an image adds to its base: locked packages and our code", "MB", "less"),
    Figure("generator", "the load generator's own part of the processors while holds were spread", "%", "less"),
    Figure("pgbench_spread_1", "yardstick: pgbench, 50 slots, PostgreSQL on one core", "/s"),
    Figure("pgbench_spread", "yardstick: pgbench, 50 slots, all cores", "/s"),
    Figure("pgbench_hot", "yardstick: pgbench, one hot slot", "/s"),
    Figure("echo", "yardstick: a constant FastAPI route", "/s"),
    Figure("bare", "yardstick: bare ASGI", "/s"),
)  # fmt: skip
BY_NAME = {figure.name: figure for figure in FIGURES}

Measured = Mapping[str, Sequence[float]]


def _shown(*, whole: bool) -> list[Figure]:
    return [figure for figure in FIGURES if whole or not figure.whole]


def table(measured: Measured, *, whole: bool = True) -> list[str]:
    """Return the table as Markdown; that of a quick run has no place for what only a whole run measures."""
    lines = ["| figure | median | min .. max | must | goal | reached |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for figure in _shown(whole=whole):
        values = measured.get(figure.name, ())
        if not values and figure.must is None:
            continue
        middle = _number(median(values), figure) if values else "-"
        range_of = f"{_number(min(values), figure)} .. {_number(max(values), figure)}" if values else "-"
        bounds = [_number(bound, figure) if bound is not None else "" for bound in (figure.must, figure.goal)]
        lines.append(
            f"| {figure.title} | {middle} | {range_of} | {bounds[0]} | {bounds[1]} | {figure.reached(values)} |"
        )
    return lines


def missed(measured: Measured, *, whole: bool = True) -> list[str]:
    """Return the titles of what must be reached and was not."""
    return [
        figure.title
        for figure in _shown(whole=whole)
        if figure.must is not None and figure.reached(measured.get(figure.name, ())) in {"NO", "not measured"}
    ]


def _number(value: float, figure: Figure) -> str:
    digits = 4 if figure.unit == "x" and abs(value) < 0.1 else 2 if figure.unit == "x" else 1 if value < 100 else 0
    return f"{value:.{digits}f}{' ' if figure.unit not in {'', '/s', '%'} else ''}{figure.unit}"
