"""One service that dies once, at a named place, and the guest who simply makes the same call again."""

import time
from collections.abc import Callable

import httpx
import pytest

from tests.answers import seen
from tests.system import Service, System


class PlantedCrash:
    """A crash point armed in one service. `through` makes calls in spite of it, and brings the service back once."""

    def __init__(self, system: System, service: Service, point: str) -> None:
        self._system = system
        self._service = service
        self._point = point
        self.recovered_at: float | None = None
        system.crash_at(service, point)

    def recover(self) -> None:
        """Bring the service back if it has died; it must have been the planted SIGKILL, and only once."""
        if self._system.exit_code(self._service) is None:
            return
        assert self.recovered_at is None, f"died again: {self._system.stack.log_tail(self._service)}"
        self._system.assert_crashed(self._service)
        self._system.heal(self._service)
        self.recovered_at = time.monotonic()

    def through(
        self, call: Callable[[], httpx.Response], is_right: Callable[[httpx.Response], bool], *, within_s: float
    ) -> httpx.Response:
        """Repeat the same call until the answer is right, whatever dies meanwhile."""
        end, last = time.monotonic() + within_s, "no answer at all"
        while time.monotonic() < end:
            self.recover()
            try:
                answer = call()
            except httpx.TransportError as error:
                last = repr(error)
            else:
                if is_right(answer):
                    return answer
                last = seen(answer)
            time.sleep(0.1)
        pytest.fail(f"{self._service} at {self._point}: not within {within_s:g} s; last: {last}")

    def assert_fired(self, *, within_s: float = 30.0) -> None:
        """Fail unless the planted crash has happened and was recovered from."""
        end = time.monotonic() + within_s
        while self.recovered_at is None and time.monotonic() < end:
            self.recover()
            time.sleep(0.1)
        assert self.recovered_at is not None, f"{self._service} never reached {self._point}"
