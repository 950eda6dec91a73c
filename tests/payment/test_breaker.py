"""The breaker of one process: when it opens, who may try, what callers are told, and how it heals."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from payment_service.gateway.breaker import Agreed, Breaker
from payment_service.gateway.results import Result
from payment_service.states import BreakerName, BreakerState
from shared.payment_contract import Outcome
from tests.payment.breaker_bench import POLICY, SICK, WELL, HandClock, Notes, a_breaker
from tests.scenarios import fired

DECLINED = Result[Any](Outcome.DECLINED, code="card_declined")
BUSY = Result[Any](Outcome.NOT_SENT, code="rate_limited", again=True, retry_after_s=2.0)
OPEN, HALF_OPEN, CLOSED = BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED


class Stand:
    """A breaker, its clock, and a provider that counts who comes."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.notes, self.calls = HandClock(), Notes(), 0
        self.breaker: Breaker = a_breaker(self.clock, notes=self.notes, **options)

    async def call(self, result: Result[Any] = WELL) -> Result[Any]:
        async def attempt() -> Result[Any]:
            self.calls += 1
            return result

        return await self.breaker.call(attempt)

    async def opened(self) -> "Stand":
        for _ in range(POLICY.min_calls):
            await self.call(SICK)
        assert self.breaker.state is OPEN
        return self

    async def rested(self) -> "Stand":
        await self.opened()
        self.clock.now_s += POLICY.rest_s
        return self


def hanging(begun: asyncio.Event, result: Result[Any]) -> tuple[asyncio.Event, Callable[[], Awaitable[Result[Any]]]]:
    """Return a call that ends when its event is set."""
    go_on = asyncio.Event()

    async def attempt() -> Result[Any]:
        begun.set()
        await go_on.wait()
        return result

    return go_on, attempt


async def test_half_of_enough_calls_open_it() -> None:
    """S17: 50 % of the minimum volume opens; what was made is told as it ended, what is refused was never sent."""
    stand = Stand()
    ends = [await stand.call(result) for result in (WELL, SICK, WELL)]
    assert ends == [WELL, SICK, WELL]
    tripping = await stand.call(SICK)
    assert (tripping.outcome, tripping.code) == (Outcome.UNKNOWN, "http_500")
    refused = await stand.call()
    assert (refused.outcome, refused.code, refused.again) == (Outcome.NOT_SENT, "breaker_open", False)
    assert refused.retry_after_s == POLICY.rest_s
    assert (stand.calls, stand.notes.refused) == (4, 1)
    fired("S17", stand.notes.refused)


async def test_a_success_now_and_then_does_not_keep_it_closed() -> None:
    """L1: every fourth call works, so there are never more than three failures in a row; it opens all the same."""
    stand = Stand(policy=replace(POLICY, min_calls=20))
    for number in range(1, 22):
        await stand.call(WELL if number % 4 == 0 else SICK)
    assert stand.breaker.state is OPEN


async def test_few_calls_say_nothing() -> None:
    """Below the minimum volume even a hundred percent opens nothing; neither does a rate below the half."""
    few, mixed = Stand(), Stand()
    for _ in range(POLICY.min_calls - 1):
        await few.call(SICK)
    for _ in range(40):
        for result in (WELL, WELL, SICK):
            await mixed.call(result)
    assert (few.breaker.state, mixed.breaker.state) == (CLOSED, CLOSED)


async def test_the_window_moves() -> None:
    """Failures of long ago do not count: three now and three after the window are never four."""
    stand = Stand()
    for _ in range(3):
        for _ in range(3):
            await stand.call(SICK)
        stand.clock.now_s += POLICY.window_s
    assert stand.breaker.state is CLOSED
    assert stand.breaker.seen().calls == 0


@pytest.mark.parametrize("result", [DECLINED, BUSY, Result(Outcome.NOT_SENT, code="provider_misconfigured")])
async def test_an_answer_is_a_sign_of_life(result: Result[Any]) -> None:
    """S08, S11, S16: declines, 429 and our own faults never open it; nobody is told to wait for the breaker."""
    stand = Stand()
    ends = [await stand.call(result) for _ in range(50)]
    assert ends == [result] * 50
    fired("S08", stand.calls)


async def test_the_call_that_trips_it_was_made() -> None:
    """S18, L3: it trips on a call that may have had its effect; that call is UNKNOWN, only with a time to come back."""
    stand = Stand()
    results = [await stand.call(SICK) for _ in range(POLICY.min_calls)]
    assert {result.outcome for result in results} == {Outcome.UNKNOWN}
    assert [result.again for result in results] == [True, True, True, False]
    assert results[-1].retry_after_s == POLICY.rest_s
    fired("S18", stand.notes.changes.count(("interactive", "open")))


async def test_a_call_under_way_when_it_opens_ends_as_it_ends() -> None:
    """S18, L3: opening cuts nothing off: a success comes through as OK, a late failure opens nothing anew."""
    stand, begun = Stand(), asyncio.Event()
    go_well, well = hanging(begun, WELL)
    go_ill, ill = hanging(begun, SICK)
    under_way = [asyncio.create_task(stand.breaker.call(attempt)) for attempt in (well, ill)]
    await begun.wait()
    await stand.opened()
    stand.clock.now_s += 10
    go_well.set(), go_ill.set()
    ends = await asyncio.gather(*under_way)
    assert [end.outcome for end in ends] == [Outcome.OK, Outcome.UNKNOWN]
    assert stand.notes.changes == [("interactive", "open")]
    assert (await stand.call()).retry_after_s == POLICY.rest_s - 10


async def test_one_probe_decides() -> None:
    """S19: two hundred callers wait until the rest is over; one is sent, and when it is well the others may come."""
    stand, begun = await Stand().rested(), asyncio.Event()
    stand.calls = 0
    go_on, probe = hanging(begun, WELL)
    trying = asyncio.create_task(stand.breaker.call(probe))
    await begun.wait()
    ends = await asyncio.gather(*(stand.call() for _ in range(199)))
    assert {end.code for end in ends} == {"breaker_open"}
    assert (stand.calls, stand.breaker.state) == (0, HALF_OPEN)
    go_on.set()
    assert (await trying).outcome is Outcome.OK
    assert stand.breaker.state is CLOSED
    fired("S19", len(ends))


async def test_a_bad_probe_means_another_rest() -> None:
    """It tells its caller how it ended, and everybody else to wait for as long as before."""
    stand = await Stand().rested()
    probe = await stand.call(SICK)
    assert (probe.outcome, probe.code) == (Outcome.UNKNOWN, "http_500")
    assert (await stand.call()).retry_after_s == POLICY.rest_s
    assert [state for _, state in stand.notes.changes] == ["open", "half_open", "open"]


@pytest.mark.parametrize("result", [DECLINED, BUSY])
async def test_a_refusal_is_a_good_probe(result: Result[Any]) -> None:
    """Stripe is there and says no: that is what the probe was to find out."""
    stand = await Stand().rested()
    assert await stand.call(result) == result
    assert stand.breaker.state is CLOSED


async def test_a_cancelled_probe_is_replaced() -> None:
    """Its caller went away: nobody tries before the lease is over, then the next one does."""
    stand, begun = await Stand().rested(), asyncio.Event()
    _, probe = hanging(begun, WELL)
    trying = asyncio.create_task(stand.breaker.call(probe))
    await begun.wait()
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)
    assert trying.cancelled()
    assert (await stand.call()).code == "breaker_open"
    stand.clock.now_s += POLICY.probe_lease_s
    assert (await stand.call()) == WELL
    assert stand.breaker.state is CLOSED


async def test_who_does_not_get_the_probe_waits() -> None:
    """S19: another process has it: here nobody is sent, and the database is not asked again for half a second."""
    asked: list[UUID] = []

    async def taken(_name: BreakerName, probe: UUID) -> bool:
        asked.append(probe)
        return False

    stand = await Stand(claim_probe=taken).rested()
    stand.calls = 0
    ends = await asyncio.gather(*(stand.call() for _ in range(200)))
    assert (stand.calls, len(asked)) == (0, 1)
    assert {end.outcome for end in ends} == {Outcome.NOT_SENT}
    stand.clock.now_s += 0.6
    await stand.call()
    assert len(asked) == 2


async def test_after_healing_calls_come_back_little_by_little() -> None:
    """S20: a tenth at first, half after half of the time, then all; who is not let in has not been sent."""
    draws = [0.05, 0.2, 0.4, 0.6]
    stand = await Stand(uniform=lambda low, high: draws[0] if high == 1 else low).rested()
    await stand.call()

    async def passing() -> list[bool]:
        ends = []
        for _ in range(len(draws)):
            ends.append((await stand.call()).outcome is Outcome.OK)
            draws.append(draws.pop(0))
        return ends

    assert await passing() == [True, False, False, False]
    stand.clock.now_s += POLICY.ramp_s / 2
    assert await passing() == [True, True, True, False]
    stand.clock.now_s += POLICY.ramp_s / 2
    assert await passing() == [True, True, True, True]


async def test_nobody_is_told_to_come_back_with_all_others() -> None:
    """S20: the told wait is the rest and a little more, drawn for each; never less than a second."""
    bounds: list[tuple[float, float]] = []
    stand = await Stand(uniform=lambda low, high: bounds.append((low, high)) or high).opened()  # type: ignore[func-returns-value]
    bounds.clear()
    assert (await stand.call()).retry_after_s == POLICY.rest_s + POLICY.ramp_s
    assert bounds == [(0, POLICY.ramp_s)]


async def test_each_change_is_told_once() -> None:
    """One line and one count for each change, with the reason; a dozen late failures add none."""
    stand = Stand()
    with capture_logs() as lines:
        await stand.rested()
        await stand.call()
    told = [(line["name"], line["from"], line["to"], line["reason"]) for line in lines]
    assert told == [
        ("interactive", "closed", "open", "4 of 4 calls failed, the last one: http_500"),
        ("interactive", "open", "half_open", "one call may try"),
        ("interactive", "half_open", "closed", "the probe went well"),
    ]
    assert [state for _, state in stand.notes.changes] == ["open", "half_open", "closed"]
    assert stand.notes.nudges == 2


async def test_with_the_flag_off_it_is_not_there() -> None:
    """`circuit_breaker` off: every call is made, and nothing is counted."""
    stand = Stand(enabled=False)
    ends = [await stand.call(SICK) for _ in range(50)]
    assert ends == [SICK] * 50
    assert (stand.breaker.state, stand.breaker.seen().calls) == (CLOSED, 0)


async def test_an_operator_holds_it_open_or_closed() -> None:
    """Held open nobody is sent, not even a probe; held closed everybody is; let go it counts anew, and slowly."""
    stand = Stand(uniform=lambda _low, high: high)
    stand.breaker.adopt(Agreed(forced=OPEN, forced_by="olga", reason="drill"))
    stand.clock.now_s += 10 * POLICY.rest_s
    assert (await stand.call()).code == "breaker_open"
    seen = stand.breaker.seen()
    assert (seen.state, seen.forced_by, seen.reason) == (OPEN, "olga", "drill")

    stand.breaker.adopt(Agreed(forced=CLOSED, forced_by="olga", reason="we know better"))
    assert [await stand.call(SICK) for _ in range(20)] == [SICK] * 20

    stand.breaker.adopt(Agreed(forced=OPEN))
    stand.breaker.adopt(Agreed())
    assert (await stand.call()).code == "breaker_open", "all who waited would come at once"
    stand.clock.now_s += POLICY.ramp_s
    assert await stand.call() == WELL


async def test_it_follows_the_others() -> None:
    """Opened elsewhere: closed to nobody here for as long as there; closed elsewhere: the same here, at once."""
    stand = Stand()
    stand.breaker.adopt(Agreed(state=OPEN, rest_left_s=12, reason="7 of 10 calls failed"))
    assert (await stand.call()).retry_after_s == 12
    assert stand.breaker.seen().reason == "7 of 10 calls failed"
    stand.breaker.adopt(Agreed(state=OPEN, rest_left_s=0, probe_left_s=15))
    assert stand.breaker.state is HALF_OPEN
    assert (await stand.call()).code == "breaker_open"
    stand.breaker.adopt(Agreed(reason="the probe went well"))
    stand.clock.now_s += POLICY.ramp_s
    assert await stand.call() == WELL
    assert stand.breaker.news is None, "what others know is no news"


async def test_what_happened_here_is_newer() -> None:
    """It has just opened and nobody knows: what was read before does not close it again."""
    stand = await Stand().opened()
    stand.breaker.adopt(Agreed())
    assert stand.breaker.state is OPEN
    stand.breaker.news = None
    stand.breaker.adopt(Agreed())
    assert stand.breaker.state is CLOSED
