"""Two hundred clients that do not give up, and a provider that is down for a minute: it is not trampled when it rises."""

import asyncio
import heapq
import itertools
import random
from collections import Counter
from typing import Any

import pytest

from payment_service.gateway.guarded import GuardedGateway, Patience
from payment_service.gateway.results import Result
from shared.due_rows import backoff_s
from shared.payment_contract import Outcome
from tests.figures import tell
from tests.payment.breaker_bench import POLICY, WELL, HandClock, a_breaker
from tests.scenarios import fired

CLIENTS, DOWN_S, LATENCY_S = 200, 60.0, 0.05
AWAY = Result[Any](Outcome.NOT_SENT, code="provider_unreachable", again=True, sick=True)


class Timeline(HandClock):
    """Time that jumps to whoever wakes next, once nobody has anything left to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    async def sleep(self, delay_s: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleeping, (self.now_s + delay_s, next(self._order), woken))
        await woken

    async def run(self, *people: Any) -> None:
        """Let all of them come to their end."""
        tasks = [asyncio.create_task(one) for one in people]
        while not all(task.done() for task in tasks):
            for _ in range(8):
                await asyncio.sleep(0)
            if self._sleeping:
                self.now_s, _, woken = heapq.heappop(self._sleeping)
                woken.set_result(None)
        await asyncio.gather(*tasks)


class Provider:
    """Down for the first minute; writes down when it was called."""

    def __init__(self, clock: Timeline) -> None:
        self._clock = clock
        self.called_at_s: list[float] = []

    async def capture_intent(self, _intent_id: str, *, key: str) -> Result[Any]:
        self.called_at_s.append(self._clock.now_s)
        await self._clock.sleep(LATENCY_S)
        return AWAY if self.called_at_s[-1] < DOWN_S else WELL


class Nobody:
    def called(self, _operation: str, _outcome: Outcome, _took_s: float) -> None: ...


async def storm(clock: Timeline, *, breaker: bool, seed: int) -> list[float]:
    """Let everybody come at once and again until it went well; return when the provider was called."""
    chance = random.Random(seed)
    provider = Provider(clock)
    guarded = GuardedGateway(
        provider,  # type: ignore[arg-type]
        Patience(attempt_s=5, max_attempts=3, first_wait_s=1, max_wait_s=10),
        a_breaker(clock, enabled=breaker, uniform=chance.uniform),
        clock=clock,
        retries_enabled=lambda: True,
        watch=Nobody(),
        uniform=chance.uniform,
    )

    async def client(number: int) -> None:
        for attempt in itertools.count(1):
            result = await guarded.capture_intent(f"pi_{number}", key="k", deadline=guarded.budget(9))
            if result.outcome is Outcome.OK:
                return
            wait_s = backoff_s(attempt, cap_s=30, uniform=chance.uniform)
            await clock.sleep(max(wait_s, result.retry_after_s or 0.0))

    await clock.run(*(client(number) for number in range(CLIENTS)))
    return provider.called_at_s


def busiest_second(called_at_s: list[float]) -> int:
    return max(Counter(int(at_s) for at_s in called_at_s).values())


async def test_a_provider_that_was_down_is_not_trampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """S20: while it is down it gets its first calls and at most ten percent more; when it rises no wave comes."""
    clock = Timeline()
    monkeypatch.setattr("stamina._core._smart_sleep", clock.sleep)
    called_at_s = await storm(clock, breaker=True, seed=1)
    while_down = [at_s for at_s in called_at_s if at_s < DOWN_S]
    after = [at_s for at_s in called_at_s if at_s >= DOWN_S]
    assert len(while_down) <= 1.1 * CLIENTS
    assert len(after) == CLIENTS, "each client is served once"
    assert busiest_second(after) <= CLIENTS / 3
    assert max(after) < DOWN_S + POLICY.rest_s + 4 * POLICY.ramp_s

    clock = Timeline()
    monkeypatch.setattr("stamina._core._smart_sleep", clock.sleep)
    without = await storm(clock, breaker=False, seed=1)
    wasted = sum(at_s < DOWN_S for at_s in without)
    assert wasted > 2 * len(while_down)
    tell(
        f"{CLIENTS} clients, a provider down for {DOWN_S:.0f} s: {len(while_down)} calls in vain instead of {wasted}, "
        f"then at most {busiest_second(after)} calls a second, all served {max(after) - DOWN_S:.0f} s after"
    )
    fired("S20", len(while_down))
