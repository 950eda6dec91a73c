"""Guests who keep coming while the house is rebuilt around them, and whose only remedy is the same call again."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from tests.answers import seen
from tests.builders import Slot, a_customer, a_key
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System

_PATIENCE_S = 45.0
_PAUSE_S = 0.1


class SentAway(Exception):
    """An answer that says that the same call will not do, or none that was right for too long."""


class SteadyGuests:
    """A few guests who hold, convert, pay, see that they are confirmed, and begin anew, for as long as the door is open."""

    def __init__(self, system: System, stripe: Stripe, slot: Slot, *, count: int = 3) -> None:
        self._system = system
        self._stripe = stripe
        self._slot = slot
        self._count = count
        self._closed = threading.Event()
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.confirmed: list[str] = []

    @contextmanager
    def coming(self) -> Iterator["SteadyGuests"]:
        """Let them in; when the block is left, whoever is in the middle of a booking finishes it."""
        threads = [threading.Thread(target=self._come) for _ in range(self._count)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._closed.set()
            for thread in threads:
                thread.join()

    def wait_for(self, more: int, *, within_s: float = 60.0) -> None:
        """Wait until so many more bookings are confirmed: then what was changed has met guests."""
        enough, end = len(self.confirmed) + more, time.monotonic() + within_s
        while len(self.confirmed) < enough and time.monotonic() < end and not self.errors:
            time.sleep(_PAUSE_S)

    def _come(self) -> None:
        while not self._closed.is_set():
            try:
                self.confirmed.append(self._book())
            except (SentAway, KeyError, ValueError) as error:
                self.errors.append(f"{type(error).__name__}: {error}"[:1500])

    def _book(self) -> str:
        guest, key = a_customer(self._system), a_key()
        hold_id: str = self._insist(lambda: guest.hold(self._slot, key=key)).json()["id"]
        waiting = self._insist(lambda: guest.convert(hold_id), _has_a_secret)
        secret = waiting.json()["outcome"]["client_secret"]
        self._insist(lambda: self._stripe.pay(secret))
        self._insist(lambda: guest.see(hold_id), _is_over)
        shown = self._insist(lambda: guest.see(hold_id)).json()
        if shown["status"] != "confirmed":
            raise SentAway(f"{hold_id} is {shown['status']}")
        return hold_id

    def _insist(
        self, call: Callable[[], httpx.Response], is_right: Callable[[httpx.Response], bool] = lambda _answer: True
    ) -> httpx.Response:
        """Make the same call until its answer is right. Raises SentAway for one that does not say "again"."""
        end, last = time.monotonic() + _PATIENCE_S, "no answer"
        while time.monotonic() < end:
            try:
                answer = call()
            except httpx.TransportError as error:
                last = type(error).__name__
                self.counts["nobody picked up"] += 1
            else:
                last = seen(answer)
                if answer.is_success and is_right(answer):
                    return answer
                if not answer.is_success:
                    self._must_say_again(answer)
            time.sleep(_PAUSE_S)
        raise SentAway(f"for {_PATIENCE_S:g} s: {last}")

    def _must_say_again(self, answer: httpx.Response) -> None:
        self.counts[f"{answer.status_code}, come again"] += 1
        if not answer.json().get("retryable"):
            raise SentAway(seen(answer))


def _has_a_secret(answer: httpx.Response) -> bool:
    return bool(answer.json()["outcome"]["type"] == "action_required")


def _is_over(answer: httpx.Response) -> bool:
    return bool(answer.json()["status"] != "pending")
