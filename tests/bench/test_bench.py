"""The bench judges as it promises, refuses a noisy machine, counts waits from the planned moment, and asks PostgreSQL the same."""

import asyncio
import os
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import asyncpg
import pytest

import payment_service.flags
import reservation_service.flags
from reservation_service.store.slots import HOLD_SQL
from tests.bench.__main__ import Run, shown_on
from tests.bench.figures import BY_NAME, FIGURES, missed, table
from tests.bench.ground import WrongBooks, _emptied
from tests.bench.machine import Calm, Usage, noise
from tests.bench.pgbench import script
from tests.bench.plots import drawing
from tests.bench.side_by_side import One, compared, measured
from tests.bench.switches import SWITCHES, Cost, Counts, Switch, costs
from tests.bench.watched_reservation import seen
from tests.bench.wire_client import Wire, burst, closed_loop, open_loop, wire_to

_GOOD = {figure.name: [figure.goal] * 5 for figure in FIGURES if figure.goal is not None}
_ANSWER = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("name", "values", "reached"),
    [
        ("spread", [0.6, 0.7, 0.8], "must"),
        ("spread", [1.0, 1.0, 0.2], "goal"),
        ("spread", [0.64, 0.9, 0.1], "NO"),
        ("single", [9.0, 4.1, 5.0], "must"),
        ("single", [11.0], "NO"),
        ("growth", [], "not measured"),
        ("winners", [0, 0, 0], "goal"),
        ("winners", [1, 1, 0], "NO"),
    ],
)
def test_the_median_is_judged(name: str, values: list[float], reached: str) -> None:
    """A figure reaches its goal, its must or nothing by its median; what was not measured reaches nothing."""
    assert BY_NAME[name].reached(values) == reached
    measured = _GOOD | {name: values}
    assert (BY_NAME[name].title in missed(measured)) is (reached in {"NO", "not measured"})
    assert any(line.endswith(f"| {reached} |") and BY_NAME[name].title in line for line in table(measured))


def test_a_run_without_a_flaw_misses_nothing() -> None:
    """All goals reached: nothing is missed, and the picture is an SVG with a bar for each judged figure."""
    assert missed(_GOOD) == []
    picture = ET.fromstring(drawing(_GOOD, "a run & more"))  # noqa: S314  our own
    bars = [one for one in picture.iter("{http://www.w3.org/2000/svg}rect") if one.get("class")]
    assert [bar.get("class") for bar in bars] == ["bar"] * sum(bool(figure.must) for figure in FIGURES)


def test_a_quick_run_is_judged_by_what_it_measures() -> None:
    """What only a whole run measures is missed by a whole run, and is no row of a quick one; everything else is both."""
    quick = {name: values for name, values in _GOOD.items() if not BY_NAME[name].whole}
    assert missed(quick, whole=False) == []
    assert set(missed(quick)) == {figure.title for figure in FIGURES if figure.whole}
    assert not any(BY_NAME["growth"].title in line for line in table(quick, whole=False))
    assert BY_NAME["spread"].title in missed({}, whole=False)


@pytest.mark.parametrize(
    ("disturbed", "calm", "load", "reasons"),
    [
        ([], Calm(0.01, 0.02), 0.3, 0),
        (["repetition 1, hot: the yardstick moved"], Calm(0.01, 0.02), 0.3, 1),
        ([], Calm(0.11, 0.02), 0.3, 1),
        ([], Calm(0.0, 0.2), 0.3, 1),
        (["repetition 1, hot: the yardstick moved"], Calm(0.0, 0.2), 3.0, 3),
    ],
)
def test_a_noisy_machine_is_refused(disturbed: list[str], calm: Calm, load: float, reasons: int) -> None:
    """A yardstick that moved, stolen time, other people's work: each is a reason not to believe the run."""
    assert len(noise(disturbed, calm, load)) == reasons


@pytest.mark.parametrize(
    ("readings", "counts", "moved", "is_calm"),
    [
        ([100, 110], 1, 10 / 105, True),
        ([100, 200, 100, 120], 2, 20 / 110, True),
        ([100, 200, 100, 150, 100, 300], 2, 50 / 125, False),
    ],
)
async def test_ours_is_measured_between_two_readings(
    readings: list[float], counts: int, moved: float, is_calm: bool
) -> None:
    """A try whose readings are far apart is made again; of three such the calmest counts, and is told for what it is."""
    left, tries = iter(readings), 0

    async def yardstick() -> One:
        return {"yardstick": next(left)}

    async def ours() -> One:
        nonlocal tries
        tries += 1
        return {"ours": tries}

    seconds = count()
    beside = await compared(yardstick, ours, counters=lambda: Usage(at_s=next(seconds), busy_s=0, stolen_s=0, ours_s=0))
    assert next(left, None) is None
    middle = sum(readings[2 * counts - 2 : 2 * counts]) / 2
    assert beside.found == {"ours": counts, "yardstick": middle}
    assert (beside.moved, beside.is_calm) == (pytest.approx(moved), is_calm)


@pytest.mark.parametrize(("stolen", "tries"), [([0.0, 0.01], 1), ([0.0, 0.4, 0.4, 0.41], 2)])
async def test_what_has_no_yardstick_is_measured_while_nobody_steals(stolen: list[float], tries: int) -> None:
    """A try in which more than 5 % of the processors were somebody else's is made again."""
    left, seconds, made = (part * (os.cpu_count() or 1) for part in stolen), count(), 0

    async def ours() -> One:
        nonlocal made
        made += 1
        return {"ours": made}

    alone = await measured(ours, counters=lambda: Usage(at_s=next(seconds), busy_s=0, stolen_s=next(left), ours_s=0))
    assert (alone.found, alone.is_calm, next(left, None)) == ({"ours": tries}, True, None)


def test_postgresql_is_asked_the_same() -> None:
    """The script is the statement of a hold, word for word but for where its values come from."""
    sql = script(50).splitlines()[-1]
    words = HOLD_SQL.split()
    assert [word for word in sql.split() if word in words] != []
    for clause in (
        "WITH known AS MATERIALIZED",
        "taken + :seats <= capacity",
        "INSERT INTO idempotency",
        "FROM active LEFT JOIN",
    ):
        assert clause in sql
        assert clause in " ".join(words)
    assert sql.endswith(";")
    assert ":hold_id" not in sql


def test_the_watch_tells_the_worst_of_the_window(tmp_path: Path) -> None:
    """Lines that began before the window do not count."""
    file = tmp_path / "watch.jsonl"
    file.write_text(
        '{"at": 10.0, "gc_ms": 50, "lag_ms": 60}\n{"at": 11.0, "gc_ms": 3, "lag_ms": 9}\n{"at": 12.0, "gc_ms": 4, "lag_ms": 8}\n'
    )
    assert seen(file, 9.5) == (4, 9)
    assert seen(file, 99) == (0, 0)


@asynccontextmanager
async def _server(answer_after_s: float) -> AsyncIterator[int]:
    """A server that answers every request a while later."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(answer_after_s)
            writer.write(_ANSWER)

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0, backlog=300)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def test_the_page_is_filled(tmp_path: Path) -> None:
    """The figures take the place that the page keeps for them, again and again, and touch nothing else."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench -->\nnothing yet\n<!-- end of bench -->\nafter\n")
    for title in ("first", "second"):
        shown_on(page, ["| a | b |"], title)
    assert page.read_text() == "before\n<!-- bench -->\n`second`\n\n| a | b |\n<!-- end of bench -->\nafter\n"
    real = Path(__file__).parents[2] / "docs/explanation/performance.md"
    assert real.read_text().count("<!-- bench -->\n") == real.read_text().count("<!-- end of bench -->\n") == 1


async def test_waiting_for_a_connection_counts() -> None:
    """Ten requests planned for the same moment, one connection, 20 ms each: the last has waited for all of them."""
    request = b"GET / HTTP/1.1\r\n\r\n"
    async with _server(0.02) as port, wire_to(port, 1, warm=request) as wire:
        answers = await open_loop(wire, [request] * 10, [0.0] * 10)
    assert answers.statuses == {201: 10}
    assert max(answers.waits_ms) >= 200
    assert min(answers.waits_ms) < max(answers.waits_ms) / 5


async def test_a_closed_loop_keeps_every_connection_busy() -> None:
    """Each connection has one request on its way at a time, and all of them are answered; a burst sends all at once."""
    request = b"GET / HTTP/1.1\r\n\r\n"
    async with _server(0.01) as port, wire_to(port, 5) as wire:
        closed = await closed_loop(wire, [request] * 50)
        at_once = await burst(wire, [request] * 5)
    assert isinstance(wire, Wire)
    assert closed.statuses == {201: 50}
    assert closed.took_s >= 0.1
    assert at_once.statuses == {201: 5}


async def test_a_broken_connection_is_seen() -> None:
    """A server that hangs up is no answer."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, wire_to(server.sockets[0].getsockname()[1], 1) as wire:
        status, _ = await wire.ask(b"GET / HTTP/1.1\r\n\r\n")
    assert status == 0


class Disturbed:
    """Repetitions of which those with these numbers are disturbed; each is known by its `spread`."""

    def __init__(self, *numbers: int) -> None:
        self.disturbed = list[str]()
        self._numbers = numbers

    async def repetition(self, number: int) -> One:
        self.disturbed += [f"repetition {number}"] * (number in self._numbers)
        shown = dict.fromkeys(("hot", "winners", "burst", "open_80", "single", "cpu", "bookings"), 0.0)
        return shown | {"spread": float(number)}


@pytest.mark.parametrize(
    ("numbers", "counted", "why"),
    [
        ((), [0, 1], []),
        ((0,), [1, 2], []),
        ((1, 2), [0, 3], []),
        ((0, 1, 3, 4), [2, 0], ["repetition 0"]),
    ],
)
async def test_a_disturbed_repetition_is_made_anew(
    tmp_path: Path, numbers: tuple[int, ...], counted: list[int], why: list[str]
) -> None:
    """It only counts when there are not enough of the others, and then the run says why it is refused."""
    options = Namespace(size="tiny", seed=1, budget=60.0, growth_rows=0)
    nothing: Any = None
    bench: Any = Disturbed(*numbers)
    run = Run(nothing, tmp_path, options)
    done = await run._repetitions(bench)
    assert [one["spread"] for one in done] == counted
    assert run.disturbed == why


class Busy:
    """A connection on which the first tables to be emptied are wanted by somebody else, so many times."""

    def __init__(self, deadlocks: int) -> None:
        self.deadlocks = deadlocks
        self.emptied = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield

    async def execute(self, sql: str) -> None:
        if not sql.startswith("TRUNCATE"):
            return
        if self.deadlocks:
            self.deadlocks -= 1
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        self.emptied += 1


@pytest.mark.parametrize(("deadlocks", "emptied"), [(0, 1), (2, 1), (99, 0)])
async def test_tables_are_emptied_beside_what_runs_in_the_background(deadlocks: int, emptied: int) -> None:
    """A run of half an hour does not end because a broom came by; where one always does, it says so."""
    busy = Busy(deadlocks)
    with nullcontext() if emptied else pytest.raises(WrongBooks):
        await _emptied(busy)
    assert busy.emptied == emptied


def test_every_flag_is_measured() -> None:
    """Each flag that a service declares is a row of the table of costs, and so is telemetry."""
    declared = {flag.name for flag in (*reservation_service.flags.FLAGS, *payment_service.flags.FLAGS)}
    titles = {switch.title for switch in SWITCHES}
    assert {f"`{name}`" for name in declared} == {title for title in titles if title.startswith("`")}
    assert sum("telemetry" in title for title in titles) == 2


async def test_a_switch_is_measured_on_and_off_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference of the medians is what it costs; who is asked while it is off is not counted as on."""
    seen, now = list[bool](), [False]

    @contextmanager
    def turned(_ground: Any, on: bool) -> Iterator[None]:
        now[0] = on
        seen.append(on)
        yield

    async def one(_ground: Any, _counts: Counts) -> tuple[float, float]:
        return (300.0 if now[0] else 200.0) + len(seen), 4.0 if now[0] else 3.0

    monkeypatch.setattr("tests.bench.switches._hold", one)
    monkeypatch.setattr("tests.bench.switches.SWITCHES", (Switch("a thing", "a hold", turned),))
    nothing: Any = None
    [cost] = await costs(nothing, Counts(1, 1, 1), goes_on=lambda: True)
    assert await costs(nothing, Counts(1, 1, 1), goes_on=lambda: False) == []
    assert await costs(nothing, Counts(1, 1, 1), goes_on=lambda: True, only="another") == []
    assert seen == [True, False, True, False]
    assert cost == Cost("a thing", "a hold", 302.0, 203.0, 4.0, 3.0)
    assert "| +99 us |" in cost.row
