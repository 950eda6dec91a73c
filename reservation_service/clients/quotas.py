"""The two ways in which a limit counts, in the memory of one process: a bucket for bursts, a window for promises.

A bucket (GCRA, "the leaky bucket as a meter") refills evenly, so nearly two quotas may pass in the time in which one
comes back: right for a burst, wrong for "10 a minute". A window remembers when each request came and never lets more
than its amount pass in any stretch of its length. `clients/rate_script` does the same in Redis, line by line.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple, Protocol

# Up to so many requests a window remembers each; of more, those of a two-hundredth of it share one mark.
_MARKS_MAX = 200


class Left(NamedTuple):
    """What is left of a quota: how many more would pass now, and how long until it is whole again."""

    requests: int
    full_again_us: int


class Count(Protocol):
    """What is known of one key. `now_us` never goes back."""

    def wait_us(self, now_us: int) -> int:
        """Return how long until one more request would pass; 0 or less: it would now."""

    def add(self, now_us: int) -> None:
        """Count one request that passes."""

    def take_back(self, at_us: int) -> None:
        """Forget again the request that was counted at that moment."""

    def left(self, now_us: int) -> Left: ...

    def is_idle(self, now_us: int) -> bool:
        """Tell whether this is as good as never counted."""


class Bucket(NamedTuple):
    """So many requests of one key at once, and one more every `interval_us`."""

    key: str
    amount: int
    interval_us: int

    @property
    def name_in_redis(self) -> str:
        return self.key

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Return amount, interval and no grain, by which the script knows a bucket."""
        return self.amount, self.interval_us, 0

    def start(self) -> Count:
        return _Level(self)


class Window(NamedTuple):
    """Never more than `amount` requests of one key in any `span_us`."""

    key: str
    amount: int
    span_us: int

    @property
    def name_in_redis(self) -> str:
        return f"window:{self.key}"

    @property
    def grain_us(self) -> int:
        """Return how close together requests share a mark: all of them leave the window with the last one."""
        return 1 if self.amount <= _MARKS_MAX else max(1, self.span_us // _MARKS_MAX)

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self.amount, self.span_us, self.grain_us

    def start(self) -> Count:
        return _Marks(self)


Quota = Bucket | Window


class _Level:
    """The count of a bucket is one number: when it will be empty again."""

    __slots__ = ("_empty_at_us", "_interval_us", "_spare_us")

    def __init__(self, bucket: Bucket) -> None:
        self._interval_us = bucket.interval_us
        self._spare_us = bucket.interval_us * bucket.amount
        self._empty_at_us = 0

    def wait_us(self, now_us: int) -> int:
        return max(self._empty_at_us, now_us) + self._interval_us - now_us - self._spare_us

    def add(self, now_us: int) -> None:
        self._empty_at_us = max(self._empty_at_us, now_us) + self._interval_us

    def take_back(self, at_us: int) -> None:  # noqa: ARG002  a level does not know who raised it
        self._empty_at_us -= self._interval_us

    def left(self, now_us: int) -> Left:
        full_again_us = max(0, self._empty_at_us - now_us)
        return Left((self._spare_us - full_again_us) // self._interval_us, full_again_us)

    def is_idle(self, now_us: int) -> bool:
        return self._empty_at_us <= now_us


class _Marks:
    """The count of a window is a row of marks, oldest first: when a request came, and the how manieth it was."""

    __slots__ = ("_amount", "_counts", "_gone", "_grain_us", "_span_us", "_times_us")

    def __init__(self, window: Window) -> None:
        self._amount = window.amount
        self._span_us = window.span_us
        self._grain_us = window.grain_us
        self._times_us = array("q")
        self._counts = array("q")
        self._gone = 0  # how many have left the window

    def wait_us(self, now_us: int) -> int:
        self._let_go(now_us)
        return 0 if self._used < self._amount else self._times_us[0] + self._span_us - now_us

    def add(self, now_us: int) -> None:
        if self._times_us and self._is_one_mark(self._times_us[-1], now_us):
            self._times_us[-1] = now_us
            self._counts[-1] += 1
        else:
            self._times_us.append(now_us)
            self._counts.append(self._gone + self._used + 1)

    def take_back(self, at_us: int) -> None:
        place = bisect_left(self._times_us, at_us)
        if place == len(self._times_us) or not self._is_one_mark(self._times_us[place], at_us):
            return  # it has left the window meanwhile
        for later in range(place, len(self._counts)):
            self._counts[later] -= 1
        if self._counts[place] == (self._counts[place - 1] if place else self._gone):
            del self._times_us[place], self._counts[place]

    def left(self, now_us: int) -> Left:
        if not self._times_us:
            return Left(self._amount, 0)
        return Left(max(0, self._amount - self._used), self._times_us[-1] + self._span_us - now_us)

    def is_idle(self, now_us: int) -> bool:
        return not self._times_us or self._times_us[-1] + self._span_us <= now_us

    @property
    def _used(self) -> int:
        return self._counts[-1] - self._gone if self._counts else 0

    def _is_one_mark(self, one_us: int, other_us: int) -> bool:
        return one_us // self._grain_us == other_us // self._grain_us

    def _let_go(self, now_us: int) -> None:
        leaving = bisect_right(self._times_us, now_us - self._span_us)
        if leaving:
            self._gone = self._counts[leaving - 1]
            del self._times_us[:leaving], self._counts[:leaving]
