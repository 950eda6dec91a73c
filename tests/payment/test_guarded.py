"""Patience: how often and how long a call is tried, and what several attempts together say."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from payment_service.gateway.breaker import Agreed
from payment_service.gateway.guarded import GuardedGateway, Patience, log_retries_without_arguments
from payment_service.gateway.results import Page, Result, done
from payment_service.states import BreakerState
from shared.payment_contract import Outcome
from tests.payment.breaker_bench import POLICY, SICK, HandClock, a_breaker

NOT_SENT = Result[Any](Outcome.NOT_SENT, code="provider_unreachable", again=True)
UNKNOWN = Result[Any](Outcome.UNKNOWN, code="no_answer", again=True)
DECLINED = Result[Any](Outcome.DECLINED, code="card_declined")
OK = done("an intent")


class Scripted:
    """A gateway whose captures end as written, and whose other calls nobody makes."""

    def __init__(self, *script: Result[Any] | Callable[[], Awaitable[Result[Any]]]) -> None:
        self.script: list[Any] = list(script)
        self.keys: list[str] = []

    async def intents_of(
        self, _payment_id: UUID, *, since: datetime, until: datetime, after: str | None
    ) -> Result[Any]:
        assert since < until
        return await self.capture_intent("", key=str(after))

    async def retrieve_intent(self, intent_id: str) -> Result[Any]:
        return await self.capture_intent(intent_id, key=intent_id)

    async def capture_intent(self, _intent_id: str, *, key: str) -> Result[Any]:
        self.keys.append(key)
        step = self.script.pop(0)
        return step if isinstance(step, Result) else await step()


class Watch:
    def __init__(self) -> None:
        self.calls: list[tuple[str, Outcome]] = []

    def called(self, operation: str, outcome: Outcome, _took_s: float) -> None:
        self.calls.append((operation, outcome))


class Bench:
    """A guarded gateway on a clock of its own; the waits are written down, not waited."""

    def __init__(
        self, *script: Any, retries: bool = True, patience: Patience | None = None, breaker: bool = False
    ) -> None:
        self.clock, self.gateway, self.watch = HandClock(), Scripted(*script), Watch()
        self.bounds: list[tuple[float, float]] = []
        self.breaker = a_breaker(self.clock, enabled=breaker)
        self.guarded = GuardedGateway(
            self.gateway,  # type: ignore[arg-type]
            patience or Patience(attempt_s=5, max_attempts=3, first_wait_s=1, max_wait_s=10),
            self.breaker,
            clock=self.clock,
            retries_enabled=lambda: retries,
            watch=self.watch,
            uniform=self._uniform,
        )

    def _uniform(self, low: float, high: float) -> float:
        self.bounds.append((low, high))
        return low

    async def find(self, budget_s: float = 9) -> Result[Any]:
        begin = datetime(2026, 11, 26, tzinfo=UTC)
        until, deadline = begin + timedelta(minutes=10), self.guarded.budget(budget_s)
        return await self.guarded.find_intent(uuid4(), since=begin, until=until, deadline=deadline)

    async def capture(self, budget_s: float = 9) -> Result[Any]:
        return await self.guarded.capture_intent("pi_1", key="k", deadline=self.guarded.budget(budget_s))


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let stamina wait no time at all, and return what it would have waited."""
    waited: list[float] = []

    async def sleep(delay_s: float) -> None:
        waited.append(delay_s)

    monkeypatch.setattr("stamina._core._smart_sleep", sleep)
    return waited


async def test_a_call_is_repeated_with_the_same_key(waits: list[float]) -> None:
    """Three attempts, two waits of 1 s to 2 s and 1 s to 4 s, one key, one line in the metrics."""
    bench = Bench(NOT_SENT, UNKNOWN, OK)
    assert await bench.capture() == OK
    assert bench.gateway.keys == ["k", "k", "k"]
    assert bench.bounds == [(1, 2), (1, 4)]
    assert waits == [1, 1]
    assert bench.watch.calls == [("capture_intent", Outcome.OK)]


async def test_three_attempts_are_all(waits: list[float]) -> None:
    """The fourth is the saga's or the queue's, later."""
    bench = Bench(NOT_SENT, NOT_SENT, NOT_SENT, OK)
    assert (await bench.capture()).outcome is Outcome.NOT_SENT
    assert len(waits) == 2


@pytest.mark.parametrize("final", [OK, DECLINED, Result(Outcome.UNKNOWN, code="stored"), Result(Outcome.NOT_SENT)])
async def test_what_is_final_is_not_repeated(final: Result[Any]) -> None:
    """A definite answer, or one that only would come back, ends the call."""
    bench = Bench(final, OK)
    assert await bench.capture() == final
    assert len(bench.gateway.keys) == 1


async def test_without_the_flag_there_is_one_attempt() -> None:
    """`payment_retries` off: the first result is the result."""
    bench = Bench(UNKNOWN, OK, retries=False)
    assert (await bench.capture()).outcome is Outcome.UNKNOWN


async def test_one_attempt_that_may_have_happened_makes_it_unknown() -> None:
    """The last attempt never left, but the first one may have arrived: never NOT_SENT."""
    bench = Bench(UNKNOWN, NOT_SENT, NOT_SENT)
    result = await bench.capture()
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "provider_unreachable")


async def test_a_definite_word_after_an_unknown_one_counts() -> None:
    """Under one key Stripe tells the same thing twice: a decline now means that nothing had been done before."""
    bench = Bench(UNKNOWN, DECLINED)
    assert (await bench.capture()).outcome is Outcome.DECLINED


async def test_a_wait_that_does_not_fit_is_not_begun(waits: list[float]) -> None:
    """Half a second is left: no second attempt."""
    bench = Bench(NOT_SENT, OK)
    assert (await bench.capture(budget_s=0.5)).outcome is Outcome.NOT_SENT
    assert waits == []


async def test_without_time_nothing_is_sent() -> None:
    """A deadline that has passed sends nothing, and says so."""
    bench = Bench(OK)
    result = await bench.capture(budget_s=0)
    assert (result.outcome, result.code, bench.gateway.keys) == (Outcome.NOT_SENT, "out_of_time", [])


async def test_stripes_own_wish_is_respected(waits: list[float]) -> None:
    """Retry-After makes the wait longer, never shorter; one that does not fit the budget ends the call."""
    busy = Result[Any](Outcome.NOT_SENT, code="rate_limited", again=True, retry_after_s=4.0)
    assert (await Bench(busy, OK).capture()) == OK
    assert waits == [4.0]
    assert (await Bench(busy, OK).capture(budget_s=3)).code == "rate_limited"


async def test_an_attempt_that_takes_too_long_is_unknown() -> None:
    """Nobody waits for ever: the attempt is given up, and what it did is not known."""

    async def hangs() -> Result[Any]:
        await asyncio.sleep(30)
        return OK

    patience = Patience(attempt_s=0.02, max_attempts=1, first_wait_s=1, max_wait_s=10)
    result = await Bench(hangs, patience=patience).capture()
    assert (result.outcome, result.code) == (Outcome.UNKNOWN, "timeout")


async def test_an_open_breaker_is_not_asked_again(waits: list[float]) -> None:
    """S17: the fourth attempt opens it; there is no fifth, and no wait for one: the caller hears when to come back."""
    patience = Patience(attempt_s=5, max_attempts=10, first_wait_s=1, max_wait_s=10)
    bench = Bench(*[SICK] * 4, OK, breaker=True, patience=patience)
    result = await bench.capture(budget_s=100)
    assert (result.outcome, result.retry_after_s, len(waits)) == (Outcome.UNKNOWN, POLICY.rest_s, 3)
    refused = await bench.capture()
    assert (refused.outcome, refused.code) == (Outcome.NOT_SENT, "breaker_open")
    assert len(bench.gateway.keys) == 4


async def rested(*script: Result[Any], **options: Any) -> Bench:
    """Return a bench whose breaker has opened and rested: the next call tries for everybody."""
    bench = Bench(*[SICK] * POLICY.min_calls, breaker=True, **options)
    while bench.breaker.state is BreakerState.CLOSED:
        await bench.capture()
    bench.clock.now_s += POLICY.rest_s
    bench.gateway.script, bench.gateway.keys = list(script), []
    return bench


async def test_a_probe_is_judged_by_its_last_attempt() -> None:
    """One bad answer, or two, of a provider that is back cut nobody off for another rest."""
    bench = await rested(SICK, SICK, OK)
    began_s = bench.clock.now_s
    assert await bench.capture() == OK
    assert (bench.breaker.state, bench.gateway.keys) == (BreakerState.CLOSED, ["k"] * 3)
    assert bench.clock.now_s - began_s == 2


@pytest.mark.parametrize(
    ("script", "options", "attempts"),
    [
        ((SICK, SICK, SICK, OK), {}, 3),
        ((SICK, OK), {"retries": False}, 1),
        ((replace(SICK, code="timeout"), OK), {}, 1),
        ((replace(SICK, again=False), OK), {}, 1),
    ],
)
async def test_a_probe_has_an_end(script: tuple[Result[Any], ...], options: dict[str, Any], attempts: int) -> None:
    """No more attempts than any call has, one with retries off, and none after a timeout: then all rest again."""
    bench = await rested(*script, **options)
    result = await bench.capture()
    assert (result.outcome, len(bench.gateway.keys)) == (Outcome.UNKNOWN, attempts)
    assert bench.breaker.state is BreakerState.OPEN
    assert (await bench.capture()).code == "breaker_open"


async def test_a_probe_that_may_have_happened_is_unknown() -> None:
    """The first attempt may have arrived, the last one surely did not: never NOT_SENT."""
    bench = await rested(SICK, replace(NOT_SENT, sick=True), replace(NOT_SENT, sick=True))
    assert (await bench.capture()).outcome is Outcome.UNKNOWN


async def test_what_may_have_happened_stays_unknown_when_the_breaker_opens_meanwhile() -> None:
    """S18: the first attempt may have arrived, the second one is refused: the call as a whole is UNKNOWN."""
    bench = Bench(breaker=True)

    async def opens_meanwhile() -> Result[Any]:
        bench.breaker.adopt(Agreed(forced=BreakerState.OPEN))
        return UNKNOWN

    bench.gateway.script = [opens_meanwhile, OK]
    result = await bench.capture()
    assert (result.outcome, bench.gateway.script) == (Outcome.UNKNOWN, [OK])


async def test_hanging_calls_open_the_breaker() -> None:
    """S05: a provider that takes the call and never answers is not well, although nothing was refused."""

    async def hangs() -> Result[Any]:
        await asyncio.sleep(30)
        return OK

    patience = Patience(attempt_s=0.01, max_attempts=1, first_wait_s=1, max_wait_s=10)
    bench = Bench(*[hangs] * POLICY.min_calls, breaker=True, patience=patience)
    for _ in range(POLICY.min_calls):
        assert (await bench.capture()).code == "timeout"
    assert bench.breaker.state is BreakerState.OPEN


async def test_a_cancelled_caller_is_not_mistaken_for_a_result() -> None:
    """Shutdown goes through: a cancelled call ends as cancelled."""

    async def cancelled() -> Result[Any]:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Bench(cancelled).capture()


async def test_retries_are_logged_without_arguments() -> None:
    """L3: stamina's own hook would print what was sent; ours names the operation only."""
    log_retries_without_arguments()
    with capture_logs() as lines:
        await Bench(NOT_SENT, OK).capture()
    assert [line["operation"] for line in lines if line["event"] == "provider_retry"] == ["capture_intent"]
    assert "pi_1" not in str(lines)


def pages(count: int) -> list[Result[Any]]:
    """Return so many pages of a hundred intents each, all of them somebody else's."""
    return [done(Page((), f"pi_{number}", has_more=number < count)) for number in range(1, count + 1)]


async def test_a_search_goes_on_to_the_last_page() -> None:
    """S24: behind five thousand intents it is found, and fetched as it is now; there is no number of pages to give up at."""
    found = done(Page(("pi_ours",), "pi_last", has_more=True))
    bench = Bench(*pages(51)[:50], found, OK)
    assert (await bench.find()).value == "an intent"
    assert bench.gateway.keys == ["None", *(f"pi_{number}" for number in range(1, 51)), "pi_ours"]
    nothing = Bench(*pages(51))
    assert await nothing.find() == Result(Outcome.OK, None)
    assert len(nothing.gateway.keys) == 51


async def test_a_search_that_has_no_time_left_proves_nothing() -> None:
    """S24: only its deadline ends a search early; then whether there is one is not known, and nothing is made anew."""

    async def takes_long() -> Result[Any]:
        bench.clock.now_s += 4
        return pages(9)[0]

    bench = Bench(*[takes_long] * 3)
    ended = await bench.find()
    assert (ended.outcome, ended.value) == (Outcome.NOT_SENT, None)
    unreadable = Bench(pages(2)[0], UNKNOWN, UNKNOWN, UNKNOWN)
    assert (await unreadable.find()).outcome is Outcome.UNKNOWN
