"""Guests who are all in the middle of a booking at the same moment, because Stripe stands still."""

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import httpx

from tests.answers import answered, eventually
from tests.builders import Slot, a_customer, a_hold
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System

_AT_A_TIME = 8
_IN_HAND = re.compile(r"^reservation_sagas_live (\d+)", re.MULTILINE)


class CrowdInFlight:
    """So many guests with a hold each, who convert at one process of reservation_service, its own door."""

    def __init__(self, system: System, slot: Slot, *, count: int, process: str) -> None:
        self._system = system
        self._process = process
        self._door = System(system.stack, system.http)
        self.guests = [replace(a_customer(system), door=process) for _ in range(count)]
        with ThreadPoolExecutor(_AT_A_TIME) as hands:
            self.hold_ids: list[str] = list(hands.map(lambda guest: a_hold(guest, slot)["id"], self.guests))
        self._secrets: list[str] = []

    @contextmanager
    def converting(self) -> Iterator[None]:
        """Let all of them convert. Inside the block none has an answer; after it each has the one that they asked for."""
        at_the_door = [replace(guest, system=self._door) for guest in self.guests]
        with ThreadPoolExecutor(len(self.guests)) as people:
            with self._stripe_stands_still():
                calls = [
                    people.submit(guest.convert, hold_id)
                    for guest, hold_id in zip(at_the_door, self.hold_ids, strict=True)
                ]
                eventually(self.in_hand, lambda sagas: sagas >= len(calls), within_s=20)
                yield
                assert not any(call.done() for call in calls), "somebody was answered while Stripe stood still"
            outcomes = [answered(call.result(), 201)["outcome"] for call in calls]
        others = [outcome for outcome in outcomes if outcome["type"] != "action_required"]
        assert not others, f"{len(others)} others, the first is {others[0]}"
        self._secrets = [outcome["client_secret"] for outcome in outcomes]

    def in_hand(self) -> int:
        """Return how many sagas the process says that it is at work on."""
        found = _IN_HAND.search(self._door.call(self._process, "GET", "/metrics").text)
        return int(found[1]) if found else 0

    def is_shut_out(self) -> bool:
        """Tell whether the process takes no more calls."""
        try:
            self._door.call(self._process, "GET", "/livez")
        except httpx.TransportError:
            return True
        return False

    def all_pay(self, stripe: Stripe) -> None:
        """Let all of them pay; whoever serves now brings each booking to its end."""
        with ThreadPoolExecutor(_AT_A_TIME) as hands:
            assert {paid.status_code for paid in hands.map(stripe.pay, self._secrets)} == {200}
        for guest, hold_id in zip(self.guests, self.hold_ids, strict=True):
            guest.wait_for(hold_id, "confirmed", within_s=30)

    @contextmanager
    def _stripe_stands_still(self) -> Iterator[None]:
        pid, _mark = self._system.stack.children()["sandbox"]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
