"""One booking as a guest's browser makes it, step by step over HTTP: what `make run` shows and `holdfast demo` repeats."""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.embedded.money import spoken
from deploy.embedded.wiring import Cashier

_SEATS = 2
_CONFIRMED_WITHIN_S = 20.0
_POLL_S = 0.05
# Stripe's own name for a card that always succeeds in test mode; the sandbox knows it too.
_GOOD_CARD = "pm_card_visa"


class DemoFailed(RuntimeError):
    """The booking did not come about; the message says at which step and what was answered."""


@dataclass(frozen=True)
class Step:
    """One thing the guest did, what came of it, and how long it took."""

    title: str
    detail: str
    took_ms: float


Timer = Callable[[], float]


class Booking:
    """Walks one booking; `steps()` yields each step when it is done. Raises DemoFailed."""

    def __init__(self, base_url: str, cashier: Cashier, *, timer: Timer = time.perf_counter) -> None:
        self.base_url = base_url
        self.reservation: dict[str, Any] = {}
        self._cashier = cashier
        self._timer = timer
        self._client = httpx.Client(base_url=base_url, timeout=15)

    def steps(self) -> Iterator[Step]:
        with self._client:
            yield from self._timed("guest session", self._enter)
            yield from self._timed("time slots", self._find_slot)
            yield from self._timed("hold", self._hold)
            yield from self._timed("convert", self._convert)
            if not self._cashier.may_pay:
                return
            yield from self._timed("pay", self._pay)
            yield from self._timed("confirmed", self._await_confirmation)

    def _timed(self, title: str, act: Callable[[], str]) -> Iterator[Step]:
        began = self._timer()
        try:
            detail = act()
        except (httpx.HTTPError, KeyError) as error:
            raise DemoFailed(f"{title}: {error!r}") from error
        yield Step(title, detail, (self._timer() - began) * 1000)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._client.request(method, path, **options)
        if answer.is_error:
            raise DemoFailed(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def _enter(self) -> str:
        self._client.headers["Authorization"] = f"Bearer {self._call('POST', '/v1/guest-sessions')['token']}"
        return "an anonymous customer, good for 30 days"

    def _find_slot(self) -> str:
        for experience in self._call("GET", "/v1/experiences")["data"]:
            for slot in self._call("GET", "/v1/time-slots", params={"experience_id": experience["id"]})["data"]:
                if slot["status"] == "open" and slot["available"] >= _SEATS:
                    self._experience, self._slot = experience, slot
                    return f"{experience['title']}, {slot['local_start']}, {slot['available']} seats free"
        raise DemoFailed("no time slot with free seats in the coming days: run `make run` to top up the catalogue")

    def _hold(self) -> str:
        ticket = self._experience["ticket_types"][0]
        body = {
            "time_slot_id": self._slot["id"],
            "items": [{"ticket_type_id": ticket["id"], "quantity": _SEATS}],
        }
        self._held = self._call("POST", "/v1/holds", json=body, headers=_key())
        price = self._held["price"]
        return f"{_SEATS} x {ticket['title']}, {_total(price)}, until {self._held['expires_at']}"

    def _convert(self) -> str:
        body = {
            "customer": {"name": "Ada Demo", "email": "ada@example.com"},
            "payment": {"mode": "stripe"},
        }
        headers, end = _key(), self._timer() + _CONFIRMED_WITHIN_S
        while True:  # the same call again is the only retry a storefront needs
            self.reservation = self._call("POST", f"/v1/holds/{self._held['id']}/convert", json=body, headers=headers)
            outcome = self.reservation["outcome"]
            wait_ms = outcome.get("poll_after_ms") or outcome.get("retry_after_ms")
            if wait_ms is None or self._timer() > end:
                break
            time.sleep(wait_ms / 1000)
        if outcome["type"] != "action_required":
            raise DemoFailed(f"convert: expected to be asked for the payment, was answered {outcome}")
        return f"reference {self.reservation['reference']}, payment {self.reservation['payment']['status']}"

    def _pay(self) -> str:
        """Confirm the intent as Stripe.js does in a browser: publishable key and client secret, nothing else."""
        outcome = self.reservation["outcome"]
        secret: str = outcome["client_secret"]
        intent_id = secret.partition("_secret_")[0]
        form = {"key": outcome["publishable_key"], "client_secret": secret, "payment_method": _GOOD_CARD}
        address = f"{self._cashier.api_base}/v1/payment_intents/{intent_id}/confirm"
        answer = httpx.post(address, data=form, timeout=15)
        if answer.is_error:
            raise DemoFailed(f"pay: {self._cashier.api_base} answered {answer.status_code}: {answer.text[:500]}")
        return f"{intent_id} is {answer.json()['status']}"

    def _await_confirmation(self) -> str:
        end = self._timer() + _CONFIRMED_WITHIN_S
        path = f"/v1/reservations/{self.reservation['id']}"
        while self.reservation["status"] != "confirmed":
            if self.reservation["status"] != "pending" or self._timer() > end:
                raise DemoFailed(f"the reservation is {self.reservation['status']}, not confirmed")
            time.sleep(_POLL_S)
            self.reservation = self._call("GET", path)
        paid = self.reservation["payment"]
        return f"{self.reservation['reference']}: payment {paid['status']}, {_total(self.reservation['price'])}"


def _key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def _total(price: dict[str, Any]) -> str:
    return spoken(price["total"]["amount"], price["total"]["currency"])
