"""One caller, two processes, a thousand calls at once: the limits are counted together, and headers do not evade them."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.answers import refused
from tests.builders import a_key, a_slot, free_seats
from tests.figures import tell
from tests.races.crowd import CLIENTS, RUSH_S, a_crowd
from tests.system import System

pytestmark = pytest.mark.steady_redis
CALLS = 1000
HOLDS_PER_MINUTE = 10
SESSIONS_PER_MINUTE = 5


@pytest.fixture(scope="module")
def doors(stack_system: System, redis_url: str) -> Iterator[list[str]]:
    """Two processes with limits as in production, and a Redis that is given time on a busy machine."""
    if not redis_url:
        pytest.skip("there is no Valkey on this machine")
    env = {
        "RATE_LIMIT_HOLDS_PER_MINUTE": str(HOLDS_PER_MINUTE),
        "RATE_LIMIT_GUEST_SESSIONS_PER_MINUTE": str(SESSIONS_PER_MINUTE),
        "MAX_ACTIVE_HOLDS": "50",
        "REDIS_BUDGET_MS": "20000",
    }
    names = [stack_system.stack.add_replica("reservation", env=env) for _ in range(2)]
    yield names
    for name in names:
        stack_system.stack.stop(name)


def counted_alone(system: System, doors: list[str]) -> float:
    """Return how many requests a process has counted without Redis, though there is one."""
    lines = [line for door in doors for line in system.call(door, "GET", "/metrics").text.splitlines()]
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if 'rate_limit_counts_total{counted_by="fallback"' in line
    )


async def test_exactly_ten_holds_of_a_thousand_in_two_processes(system: System, doors: list[str]) -> None:
    """1,000 concurrent calls of one customer at two real processes: ten holds, 990 refusals, ten seats gone."""
    slot, sub = a_slot(system, capacity=50), f"rush-{uuid4()}"
    token = system.token(sub)

    async def one(number: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": a_key()}
        return await clients[number % CLIENTS].post("/v1/holds", json=slot.order(), headers=headers)

    async with a_crowd([system.stack.url(door) for door in doors]) as clients, asyncio.timeout(RUSH_S):
        answers = await asyncio.gather(*map(one, range(CALLS)))
    told = Counter(answer.status_code for answer in answers)
    tell(f"limit in two processes: attempts={CALLS} winners={told[201]} counted alone={counted_alone(system, doors):g}")
    assert told == {201: HOLDS_PER_MINUTE, 429: CALLS - HOLDS_PER_MINUTE}
    assert free_seats(system, slot) == 50 - HOLDS_PER_MINUTE
    assert counted_alone(system, doors) == 0
    last = refused(next(answer for answer in answers if answer.status_code == 429), 429, "RATE_LIMITED")
    assert (last["policy"], last["retry_after_ms"] <= 60_000) == ("user-holds", True)


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "X_FORWARDED_FOR", "Forwarded", "X-Real-IP", "X-Forwarded-Host", "True-Client-IP"]
)
def test_no_header_is_another_address(system: System, doors: list[str], name: str) -> None:
    """X08: the server in front of the app believes no header either: from one socket address, five sessions a minute."""
    told = Counter(
        system.call(
            doors[number % 2],
            "POST",
            "/v1/guest-sessions",
            headers={name: f"for=198.51.100.{number}" if name == "Forwarded" else f"198.51.100.{number}"},
        ).status_code
        for number in range(SESSIONS_PER_MINUTE + 5)
    )
    assert told.total() == SESSIONS_PER_MINUTE + 5
    assert told[201] <= SESSIONS_PER_MINUTE
    assert told[429] >= 5
