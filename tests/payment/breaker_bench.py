"""A breaker on a clock that moves when told to, and somebody who writes down what it does."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from payment_service.gateway.breaker import Breaker
from payment_service.gateway.results import Result, done
from payment_service.gateway.window import Policy
from payment_service.states import BreakerName
from shared.clock import Clock
from shared.payment_contract import Outcome

POLICY = Policy(error_rate=0.5, min_calls=4, window_s=30, rest_s=30, probe_lease_s=15, ramp_s=5)
WELL = done("an intent")
SICK = Result[Any](Outcome.UNKNOWN, code="http_500", again=True, sick=True)


class HandClock:
    """Time that moves when somebody waits, or turns it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s


class Notes:
    """What a breaker told, in order."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.refused = 0
        self.nudges = 0
        self.levels: dict[str, Callable[[], float]] = {}

    def breaker_changed(self, name: str, state: str) -> None:
        self.changes.append((name, state))

    def breaker_refused(self, _name: str) -> None:
        self.refused += 1

    def watch_breaker(self, name: str, level: Callable[[], float]) -> None:
        self.levels[name] = level

    def nudge(self) -> None:
        self.nudges += 1


async def granted(_name: BreakerName, _probe: UUID) -> bool:
    """Let everybody try who asks: nobody else is there."""
    return True


def a_breaker(
    clock: Clock,
    *,
    enabled: bool = True,
    claim_probe: Callable[[BreakerName, UUID], Awaitable[bool]] = granted,
    notes: Notes | None = None,
    uniform: Callable[[float, float], float] = lambda low, _high: low,
    policy: Policy = POLICY,
) -> Breaker:
    notes = notes or Notes()
    return Breaker(
        BreakerName.INTERACTIVE,
        policy,
        clock=clock,
        enabled=lambda: enabled,
        claim_probe=claim_probe,
        nudge=notes.nudge,
        watch=notes,
        uniform=uniform,
    )
