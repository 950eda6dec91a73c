"""An optional standing limit, so that a client can be seen living with 429 without a scripted fault."""

from collections.abc import Callable


class RateLimit:
    """A bucket of one second's worth of calls; a rate of 0 lets everything pass."""

    def __init__(self, per_s: float, monotonic: Callable[[], float]) -> None:
        self._per_s = per_s
        self._monotonic = monotonic
        self._left = max(per_s, 1.0)
        self._counted_at = monotonic()

    def passes(self) -> bool:
        if self._per_s <= 0:
            return True
        now = self._monotonic()
        self._left = min(max(self._per_s, 1.0), self._left + (now - self._counted_at) * self._per_s)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
