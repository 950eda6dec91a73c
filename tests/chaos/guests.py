"""The guests of a day of chaos: each knows its own story and, whatever dies, simply makes the same call again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import httpx

from tests.builders import DECLINED_CARD, GOOD_CARD, Guest, Slot, a_customer
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System

_PATIENCE_S = 90.0


class Story(StrEnum):
    """What a guest is up to."""

    GOOD_CARD = "good card"
    DECLINED_FIRST = "declined first, then a good card"
    NEVER_PAYS = "converts and never pays"
    NEVER_CONVERTS = "holds and goes away"


_SHARES = {Story.GOOD_CARD: 70, Story.DECLINED_FIRST: 15, Story.NEVER_PAYS: 10, Story.NEVER_CONVERTS: 5}


@dataclass
class Booking:
    """What one guest has seen of the booking: the answers, not what a database says."""

    story: Story
    guest: Guest
    hold_id: str = ""
    last_seen: str = "no answer"

    @property
    def should_be_confirmed(self) -> bool:
        return self.story in {Story.GOOD_CARD, Story.DECLINED_FIRST}

    def status(self) -> str:
        """Ask how the booking stands now: as a reservation, or as the hold it has stayed."""
        if not self.hold_id:
            return "never held"
        seen = self.guest.see(self.hold_id)
        return str((seen if seen.is_success else self.guest.see_hold(self.hold_id)).json()["status"])


class Visitor:
    """Plays one story through the public API."""

    def __init__(self, system: System, stripe: Stripe, slot: Slot, number: int, seed: int) -> None:
        self._stripe = stripe
        self._slot = slot
        self._guest = a_customer(system)
        self._key = f"chaos-{seed}-{number}"
        story = random.Random(f"{seed}:{number}").choices(list(_SHARES), list(_SHARES.values()))[0]
        self.booking = Booking(story, self._guest)

    def play(self) -> Booking:
        """Go through the story; gives up when patience ends, and the audit then says whether anything was lost."""
        hold = self._insist(lambda: self._guest.hold(self._slot, key=self._key, ttl_seconds=120), _is_made)
        if hold is None:
            return self.booking
        self.booking.hold_id = hold.json()["id"]
        if self.booking.story is not Story.NEVER_CONVERTS:
            self._pay()
        return self.booking

    def _pay(self) -> None:
        pending = self._insist(self._convert, _is_decided)
        if pending is None or self.booking.story is Story.NEVER_PAYS:
            return
        secret = pending.json()["outcome"].get("client_secret")
        if secret and self.booking.story is Story.DECLINED_FIRST:
            self._insist(lambda: self._stripe.pay(secret, card=DECLINED_CARD), _is_final_for_stripe)
            self._insist(self._convert, _is_decided)
        if secret:
            self._insist(lambda: self._stripe.pay(secret, card=GOOD_CARD), _is_final_for_stripe)
        self._insist(lambda: self._guest.see(self.booking.hold_id), _is_over)

    def _convert(self) -> httpx.Response:
        return self._guest.convert(self.booking.hold_id)

    def _insist(
        self, call: Callable[[], httpx.Response], is_right: Callable[[httpx.Response], bool]
    ) -> httpx.Response | None:
        """Make the same call until its answer is right; no answer, 5xx and `processing` are all "again"."""
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            try:
                answer = call()
            except httpx.TransportError as error:
                self.booking.last_seen = type(error).__name__
            else:
                self.booking.last_seen = f"{answer.status_code} {answer.text[:120]}"
                if is_right(answer):
                    return answer
            time.sleep(0.15)
        return None


def _is_made(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.CREATED


def _is_decided(answer: httpx.Response) -> bool:
    """Convert has said what to do next; "processing" and a failed set-up only say: the same call again."""
    if not answer.is_success:
        return False
    return answer.json()["outcome"]["type"] not in {"processing", "payment_setup_failed"}


def _is_final_for_stripe(answer: httpx.Response) -> bool:
    return answer.status_code in {200, 400, 402}


def _is_over(answer: httpx.Response) -> bool:
    return answer.is_success and answer.json()["status"] != "pending"
