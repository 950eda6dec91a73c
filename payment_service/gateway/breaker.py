"""Leaves a provider that is not well alone for a while, and lets one call find out whether it is back.

aiobreaker is the state machine. It counts failures in a row: `window` counts a rate in its place. It lets everybody
through when half open: the right to try is a lease that is claimed before it is asked, because all processes share it and
its listeners cannot wait. And the call that trips it was made, yet comes back as the same error as one that never was: so
each call is judged inside, what it came to is remembered there, and aiobreaker's errors are never read.
"""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid4

import structlog
from aiobreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerListener
from aiobreaker.state import CircuitBreakerState

from payment_service.gateway.results import Result
from payment_service.gateway.window import Policy, RollingWindow
from payment_service.states import BreakerName, BreakerState
from shared.clock import Clock
from shared.payment_contract import Outcome

log = structlog.get_logger()

T = TypeVar("T")

_LOOK_AGAIN_S = 0.5  # somebody else has the probe: by then the shared state has been read again
_WAIT_MIN_S = 1.0
_FIRST_SHARE = 0.1  # of the calls, right after healing
_DEFINITE = frozenset({Outcome.OK, Outcome.DECLINED})
_STATES = {
    CircuitBreakerState.CLOSED: BreakerState.CLOSED,
    CircuitBreakerState.HALF_OPEN: BreakerState.HALF_OPEN,
    CircuitBreakerState.OPEN: BreakerState.OPEN,
}


class BreakerWatch(Protocol):
    """Who wants to know what breakers do (metrics)."""

    def breaker_changed(self, name: str, state: str) -> None: ...

    def breaker_refused(self, name: str) -> None: ...


@dataclass(frozen=True)
class Agreed:
    """What all processes share of a breaker; times are as far away as they were when it was read."""

    state: BreakerState = BreakerState.CLOSED
    since: datetime | None = None
    rest_left_s: float = 0.0
    probe_left_s: float = 0.0
    reason: str = ""
    forced: BreakerState | None = None
    forced_by: str | None = None


@dataclass(frozen=True)
class News:
    """A change made here that the others have to learn; `probe` is the token of the probe that made it."""

    state: BreakerState
    reason: str
    probe: UUID | None = None


@dataclass(frozen=True)
class BreakerSeen:
    """A breaker as an operator is shown it; the counts are those of this process."""

    name: BreakerName
    state: BreakerState
    since: datetime
    retry_after_ms: int | None
    calls: int
    failures: int
    reason: str
    forced: BreakerState | None
    forced_by: str | None


class _Sick(Exception):
    """Tells aiobreaker that a call counts as a failure."""


class _Listener(CircuitBreakerListener):  # type: ignore[misc]  # aiobreaker has no types
    """Tells of each change in our words."""

    def __init__(self, changed: Callable[[BreakerState, BreakerState], None]) -> None:
        self._changed = changed

    def state_change(self, _breaker: CircuitBreaker, old: Any, new: Any) -> None:
        self._changed(_STATES[old.state], _STATES[new.state])


class Breaker:
    """One breaker of one process. `claim_probe` asks all processes for the right to try; `nudge` says there is news."""

    def __init__(
        self,
        name: BreakerName,
        policy: Policy,
        *,
        clock: Clock,
        enabled: Callable[[], bool],
        claim_probe: Callable[[BreakerName, UUID], Awaitable[bool]],
        nudge: Callable[[], None],
        watch: BreakerWatch,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self.news: News | None = None
        self._policy = policy
        self._clock = clock
        self._enabled = enabled
        self._claim_probe = claim_probe
        self._nudge = nudge
        self._watch = watch
        self._uniform = uniform
        self._agreed = Agreed(since=clock.now())
        self._adopting: str | None = None
        self._last_code = ""
        self._reason = ""
        self._since = clock.now()
        self._probe: UUID | None = None
        self._probe_until_s = 0.0
        self._ramp_until_s = 0.0
        self._window = RollingWindow(name, policy, clock.monotonic)
        self._machine = CircuitBreaker(
            fail_max=1, state_storage=self._window, listeners=[_Listener(self._changed)], name=str(name)
        )

    async def call(
        self,
        attempt: Callable[[], Awaitable[Result[T]]],
        *,
        as_probe: Callable[[], Awaitable[Result[T]]] | None = None,
    ) -> Result[T]:
        """Make the call, or answer NOT_SENT with the time to wait. What was made is told as it ended, never otherwise.

        `as_probe` is how it is made when it is the one that tries for everybody.
        """
        if not self._enabled() or self._agreed.forced is BreakerState.CLOSED:
            return await attempt()
        made: list[Result[T]] = []

        async def judged() -> None:
            make = as_probe if as_probe and self._probe is token else attempt
            result = await make()
            made.append(result)
            if result.sick:
                self._last_code = result.code
                raise _Sick

        token = await self._lets_in()
        if token:
            try:
                with suppress(_Sick, CircuitBreakerError):
                    await self._machine.call_async(judged)
            finally:
                if self._probe is token:
                    self._probe = None
        return self._told(made[0]) if made else self._refusal()

    def adopt(self, agreed: Agreed) -> None:
        """Take over what all processes share, unless something has happened here that they do not know yet."""
        if self._agreed.forced is BreakerState.OPEN and agreed.forced is None:
            self._ramp_until_s = self._now_s() + self._policy.ramp_s
        self._agreed = agreed
        if self.news or self._probe:
            return
        self._adopting = agreed.reason
        here = self._window.state
        if agreed.state is BreakerState.OPEN:
            if here is not CircuitBreakerState.OPEN:
                self._machine.open()
            self._window.rested_at_s = self._now_s() + agreed.rest_left_s
            self._probe_until_s = self._now_s() + agreed.probe_left_s
        elif here is not CircuitBreakerState.CLOSED:
            self._machine.close()
        self._adopting = None
        self._reason, self._since = agreed.reason, agreed.since or self._since

    def seen(self) -> BreakerSeen:
        state, (calls, failures) = self.state, self._window.counts()
        shut = state is not BreakerState.CLOSED
        return BreakerSeen(
            name=self.name,
            state=state,
            since=self._since,
            retry_after_ms=int(self._left_s() * 1000) if shut else None,
            calls=calls,
            failures=failures,
            reason=self._reason,
            forced=self._agreed.forced,
            forced_by=self._agreed.forced_by,
        )

    @property
    def state(self) -> BreakerState:
        """Return the state that calls meet; with the flag off they meet none."""
        if not self._enabled():
            return BreakerState.CLOSED
        here = _STATES[self._window.state]
        trying = here is BreakerState.OPEN and self._now_s() < self._probe_until_s
        return self._agreed.forced or (BreakerState.HALF_OPEN if trying else here)

    @property
    def level(self) -> float:
        """Return the state as a number that can be drawn: 0 closed, 1 half open, 2 open."""
        return float(list(BreakerState).index(self.state))

    def _now_s(self) -> float:
        return self._clock.monotonic()

    # who may call

    async def _lets_in(self) -> UUID | None:
        """Return what lets a call in: any token while closed, that of the one probe after a rest."""
        if self._agreed.forced is BreakerState.OPEN:
            return None
        if self._window.state is CircuitBreakerState.CLOSED:
            return uuid4() if self._is_up_to_speed() else None
        waiting = self._window.is_resting or self._now_s() < self._probe_until_s
        return None if waiting else await self._take_probe()

    def _is_up_to_speed(self) -> bool:
        """Right after healing let a growing share through: all who waited would come at once."""
        left_s = self._ramp_until_s - self._now_s()
        return left_s <= 0 or self._uniform(0, 1) < max(_FIRST_SHARE, 1 - left_s / self._policy.ramp_s)

    async def _take_probe(self) -> UUID | None:
        """Become the one caller that tries, first of this process and then of all; who dies of it loses the lease."""
        token = uuid4()
        self._probe_until_s = self._now_s() + self._policy.probe_lease_s
        if not await self._claim_probe(self.name, token):
            self._probe_until_s = self._now_s() + _LOOK_AGAIN_S
            return None
        self._probe = token
        return token

    # what callers are told

    def _told(self, result: Result[T]) -> Result[T]:
        """Say when to come back if the breaker is open now: the same call at once would only be refused."""
        if result.outcome in _DEFINITE or self.state is BreakerState.CLOSED:
            return result
        return replace(result, again=False, retry_after_s=max(self._wait_s(), result.retry_after_s or 0.0))

    def _refusal(self) -> Result[Any]:
        self._watch.breaker_refused(self.name)
        return Result(Outcome.NOT_SENT, code="breaker_open", retry_after_s=self._wait_s())

    def _left_s(self) -> float:
        if self._agreed.forced is BreakerState.OPEN:
            return self._policy.rest_s
        return max(0.0, self._window.rested_at_s - self._now_s())

    def _wait_s(self) -> float:
        """Return the wait until the next try, and a little more, different for each, so that nobody comes together."""
        return max(self._left_s(), _WAIT_MIN_S) + self._uniform(0, self._policy.ramp_s)

    # what happens

    def _changed(self, before: BreakerState, after: BreakerState) -> None:
        reason = self._adopting if self._adopting is not None else self._own_reason(before, after)
        if self._adopting is None and after is not BreakerState.HALF_OPEN:
            self.news = News(after, reason, self._probe)
            self._nudge()
        if after is BreakerState.CLOSED:
            self._ramp_until_s = self._now_s() + self._policy.ramp_s
        if after is not BreakerState.HALF_OPEN:
            self._probe_until_s = 0.0
            self._reason = reason
        self._since = self._clock.now()
        self._watch.breaker_changed(self.name, after)
        log.warning("breaker_changed", name=str(self.name), to=str(after), reason=reason, **{"from": str(before)})

    def _own_reason(self, before: BreakerState, after: BreakerState) -> str:
        if after is BreakerState.CLOSED:
            return "the probe went well"
        if after is BreakerState.HALF_OPEN:
            return "one call may try"
        if before is BreakerState.HALF_OPEN:
            return f"the probe failed: {self._last_code}"
        calls, failures = self._window.counts()
        return f"{failures} of {calls} calls failed, the last one: {self._last_code}"
