"""Several processes, one truth: they open together, one of all tries, and the one that dies of it is replaced."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from payment_service.gateway.results import Result
from payment_service.payments.switchboard import Switchboard
from payment_service.states import BreakerName, BreakerState
from shared.clock import SystemClock
from shared.database import Database
from shared.payment_contract import Outcome
from tests.payment.breaker_bench import POLICY, SICK, WELL, Notes
from tests.sandbox.running import free_port
from tests.scenarios import fired

OPEN, CLOSED = BreakerState.OPEN, BreakerState.CLOSED
SHORT = replace(POLICY, rest_s=0.3, probe_lease_s=0.4, ramp_s=0.001)


class Process:
    """One process: its switchboard, its pool, and how often it has gone to the provider."""

    def __init__(self, url: str, **changed: Any) -> None:
        self.database = Database.connect(url, application_name="payment_service", pool_size=4)
        self.notes, self.calls = Notes(), 0
        self.policy = replace(SHORT, **changed)
        self.board = Switchboard(
            self.database,
            self.policy,
            clock=SystemClock(),
            enabled=lambda: True,
            watch=self.notes,
            nudge=self.notes.nudge,
        )
        self.breaker = self.board.breakers[BreakerName.INTERACTIVE]

    async def call(self, result: Result[Any] = WELL) -> Result[Any]:
        async def attempt() -> Result[Any]:
            self.calls += 1
            await asyncio.sleep(0.01)
            return result

        return await self.breaker.call(attempt)

    async def open(self) -> None:
        for _ in range(self.policy.min_calls):
            await self.call(SICK)
        await self.board.share()

    async def row(self) -> dict[str, Any]:
        async with self.database.reading() as connection:
            found = await connection.execute(text("SELECT * FROM breakers WHERE name = 'interactive'"))
            return dict(found.mappings().one())


Start = Callable[..., Process]


@asynccontextmanager
async def processes(url: str) -> AsyncIterator[Start]:
    """Return how to start one more process; all end with the block."""
    started: list[Process] = []

    def start(**changed: Any) -> Process:
        started.append(Process(url, **changed))
        return started[-1]

    yield start
    for process in started:
        await process.database.close()


@pytest.fixture
async def start(payment_database_url: str) -> AsyncIterator[Start]:
    async with processes(payment_database_url) as start:
        yield start


async def share(*all_of_them: Process) -> None:
    for process in all_of_them:
        await process.board.share()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await is_so():  # noqa: ASYNC110  another pool's rows ring no bell
            await asyncio.sleep(0.02)


async def test_opened_here_is_open_there(start: Start) -> None:
    """S17: the second process learns it from the table: it refuses without having seen one failure."""
    one, two = start(rest_s=30), start(rest_s=30)
    await one.open()
    await share(two)
    refused = await two.call()
    assert (refused.outcome, refused.code, two.calls) == (Outcome.NOT_SENT, "breaker_open", 0)
    assert refused.retry_after_s == pytest.approx(30, abs=2)
    assert two.board.seen()[0].reason == one.board.seen()[0].reason == "4 of 4 calls failed, the last one: http_500"
    assert two.board.seen()[1].state is CLOSED, "the other breaker is not meant"


async def test_the_first_to_open_decides_how_long(start: Start) -> None:
    """A second process that opens later does not begin the rest anew."""
    one, two = start(rest_s=30), start(rest_s=30)
    await one.open()
    until_then = (await one.row())["rests_until"]
    await two.open()
    assert (await two.row())["rests_until"] == until_then


async def test_two_hundred_callers_of_two_processes_send_one_probe(start: Start) -> None:
    """S19: the rest is over for all at once; one call reaches the provider, and its success opens the way for all."""
    one, two = start(probe_lease_s=15), start(probe_lease_s=15)
    await one.open()
    await share(two)
    one.calls = two.calls = 0
    await asyncio.sleep(SHORT.rest_s)
    ends = await asyncio.gather(*(process.call() for _ in range(100) for process in (one, two)))
    assert one.calls + two.calls == 1
    assert [end.outcome for end in ends].count(Outcome.NOT_SENT) == 199
    await share(one, two, one)  # whichever of them it was that tried, the other one learns of it
    assert (one.breaker.state, two.breaker.state) == (CLOSED, CLOSED)
    fired("S19", len(ends))


async def test_a_bad_probe_is_everybodys(start: Start) -> None:
    """S19: one tried in vain; the other does not try again before the new rest is over."""
    one, two = start(), start(rest_s=30)
    await one.open()
    await share(two)
    await asyncio.sleep(SHORT.rest_s)
    assert (await two.call(SICK)).outcome is Outcome.UNKNOWN
    await share(two)
    one.calls = 0
    assert (await one.call()).code == "breaker_open", "the row says so, although nobody here knows it yet"
    await share(one)
    assert (await one.call()).code == "breaker_open"
    assert one.calls == 0
    assert one.board.seen()[0].reason == "the probe failed: http_500"


async def test_a_probe_that_dies_is_replaced(start: Start) -> None:
    """S19: the process with the probe is gone; when its lease is over another one tries, and heals all."""
    dead, alive = start(), start()
    await dead.open()
    await share(alive)
    await asyncio.sleep(SHORT.rest_s)
    trying = asyncio.create_task(dead.breaker.call(asyncio.Event().wait))  # type: ignore[arg-type]
    await until(lambda: _has_a_probe(alive))
    await share(alive)
    assert (await alive.call()).code == "breaker_open"
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)

    async def healed() -> bool:
        await share(alive)
        return (await alive.call()).outcome is Outcome.OK

    await until(healed)
    await share(alive, dead)
    assert dead.breaker.state is CLOSED
    fired("S19", int(trying.cancelled()))


async def _has_a_probe(process: Process) -> bool:
    return (await process.row())["probe"] is not None


async def test_a_probe_that_comes_back_late_has_no_say(start: Start) -> None:
    """I19: frozen past its lease, it reports a failure of long ago; another one has healed the breaker since."""
    frozen, other = start(), start()
    await frozen.open()
    await share(other)
    await asyncio.sleep(SHORT.rest_s)
    thaw = asyncio.Event()

    async def wakes_up() -> Result[Any]:
        await thaw.wait()
        return SICK

    late = asyncio.create_task(frozen.breaker.call(wakes_up))
    await until(lambda: _has_a_probe(other))
    await asyncio.sleep(SHORT.probe_lease_s)
    await share(other)
    assert (await other.call()).outcome is Outcome.OK
    await share(other)
    thaw.set()
    await late
    await share(frozen, other)
    assert (frozen.breaker.state, other.breaker.state) == (CLOSED, CLOSED)


async def test_without_the_database_each_goes_on_alone() -> None:
    """D6: nobody to agree with: it opens, rests, tries and heals by itself, and says that it was alone."""
    async with processes(f"postgresql+asyncpg://nobody:x@127.0.0.1:{free_port()}/nothing") as start:
        alone = start()
        for _ in range(SHORT.min_calls):
            await alone.call(SICK)
        assert (await alone.call()).code == "breaker_open"
        await asyncio.sleep(SHORT.rest_s)
        with capture_logs() as lines:
            assert (await alone.call()).outcome is Outcome.OK
        assert alone.breaker.state is CLOSED
        assert "breaker_alone" in [line["event"] for line in lines]


async def test_what_happened_without_the_database_is_told_when_it_is_back(start: Start) -> None:
    """It opened while nobody could be told; the next tick that reaches the table tells all."""
    one, two = start(rest_s=30), start(rest_s=30)
    for _ in range(one.policy.min_calls):
        await one.call(SICK)
    assert one.notes.nudges == 1
    await share(two)
    assert two.breaker.state is CLOSED
    await share(one, two)
    assert two.breaker.state is OPEN


async def test_nobody_tries_against_an_operators_word(start: Start) -> None:
    """Held open a moment ago, elsewhere: the right to try is refused by the row."""
    one, two = start(), start()
    await one.open()
    await asyncio.sleep(SHORT.rest_s)
    await two.board.force("interactive", OPEN, by="olga", reason="drill")
    one.calls = 0
    assert ((await one.call()).code, one.calls) == ("breaker_open", 0)


async def test_an_operators_word_holds_everywhere(start: Start) -> None:
    """Open, closed, and back to itself: the next tick of each process follows, and failures cannot overrule it."""
    one, two = start(), start()
    with capture_logs() as lines:
        await one.board.force("interactive", OPEN, by="olga", reason="drill")
    assert [(line["name"], line["to"], line["by"]) for line in lines] == [("interactive", "open", "olga")]
    await share(two)
    assert (await two.call()).code == "breaker_open"
    await one.board.force("interactive", CLOSED, by="olga", reason="we know better")
    await share(two)
    await two.open()
    assert (await two.call()).outcome is Outcome.OK
    seen = await one.board.force("interactive", None, by="olga", reason="drill is over")
    assert (seen.state, seen.forced, seen.forced_by) == (CLOSED, None, None)
    await share(two)
    await two.open()
    assert two.breaker.state is OPEN
