"""Counts how calls of the last while ended, on our own clock, in the place where aiobreaker keeps its numbers.

aiobreaker counts failures in a row, so a provider that fails three calls of four would never be cut off; and it works
with two clocks in two time zones. Both live in its storage, and a storage is ours to write.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from aiobreaker.state import CircuitBreakerState
from aiobreaker.storage.base import CircuitBreakerStorage

_PARTS = 10
# aiobreaker compares `opened_at` with a naive clock of its own, so it is shown one of two instants that fit any clock.
_RESTING = datetime(9000, 1, 1)  # noqa: DTZ001
_RESTED = datetime(1970, 1, 1)  # noqa: DTZ001


@dataclass(frozen=True)
class Policy:
    """When a breaker opens and how it heals."""

    error_rate: float
    min_calls: int
    window_s: float
    rest_s: float
    probe_lease_s: float
    ramp_s: float


@dataclass
class _Part:
    """A tenth of the window."""

    began_s: float
    calls: int = 0
    failures: int = 0


class RollingWindow(CircuitBreakerStorage):  # type: ignore[misc]  # aiobreaker has no types
    """Says 1 where aiobreaker asks for the number of failures, once too many of enough calls have failed; else 0.

    It begins empty whenever the breaker closes: what was before has no say any more.
    """

    def __init__(self, name: str, policy: Policy, monotonic: Callable[[], float]) -> None:
        super().__init__(name)
        self.rested_at_s = 0.0
        self._policy = policy
        self._monotonic = monotonic
        self._state = CircuitBreakerState.CLOSED
        self._parts: deque[_Part] = deque()

    @property
    def state(self) -> CircuitBreakerState:
        return self._state

    @state.setter
    def state(self, state: CircuitBreakerState) -> None:
        self._state = state
        if state is CircuitBreakerState.CLOSED:
            self._parts.clear()
            self.rested_at_s = 0.0

    def increment_counter(self) -> None:
        self._count(failures=1)

    def reset_counter(self) -> None:
        """Take a success in: aiobreaker calls this after each one."""
        self._count(failures=0)

    @property
    def counter(self) -> int:
        """Return 1 when it is time to open; a call that fails late finds it open already, and must not begin a new rest."""
        calls, failures = self.counts()
        too_many = calls >= self._policy.min_calls and failures >= calls * self._policy.error_rate
        return int(too_many and self._state is CircuitBreakerState.CLOSED)

    @property
    def opened_at(self) -> datetime:
        return _RESTING if self.is_resting else _RESTED

    @opened_at.setter
    def opened_at(self, _at: datetime) -> None:
        """Begin a rest, whatever the instant: aiobreaker's clock is not ours."""
        self.rested_at_s = self._monotonic() + self._policy.rest_s

    @property
    def is_resting(self) -> bool:
        return self._monotonic() < self.rested_at_s

    def counts(self) -> tuple[int, int]:
        """Return how many calls ended within the window, and how many of them failed."""
        oldest_s = self._monotonic() - self._policy.window_s
        while self._parts and self._parts[0].began_s <= oldest_s:
            self._parts.popleft()
        return sum(part.calls for part in self._parts), sum(part.failures for part in self._parts)

    def _count(self, *, failures: int) -> None:
        now_s = self._monotonic()
        if not self._parts or now_s >= self._parts[-1].began_s + self._policy.window_s / _PARTS:
            self._parts.append(_Part(now_s))
        self._parts[-1].calls += 1
        self._parts[-1].failures += failures
