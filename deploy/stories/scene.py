"""What a story is played on: the running system, a guest with a browser, and Stripe with its book and its bad days."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from deploy.embedded.demo import DemoFailed
from deploy.embedded.money import spoken
from deploy.embedded.stack import Stack

T = TypeVar("T")

WITHIN_S = 30.0
_POLL_S = 0.05
_ANSWER_S = 15.0
_CUSTOMER = {"name": "Ada Demo", "email": "ada@example.com"}


def expect(true: bool, told: str) -> None:
    """Go on only when a story is as it should be. Raises DemoFailed."""
    if not true:
        raise DemoFailed(told)


def until(ask: Callable[[], T], is_right: Callable[[T], bool], what: str) -> T:
    """Ask until the answer is right. Raises DemoFailed with the last answer after `WITHIN_S` seconds."""
    end = time.monotonic() + WITHIN_S
    while not is_right(answer := ask()):
        expect(time.monotonic() < end, f"{what}: not within {WITHIN_S:g} s; last seen: {answer}")
        time.sleep(_POLL_S)
    return answer


def total(booking: Mapping[str, Any]) -> str:
    price = booking["price"]["total"]
    return spoken(price["amount"], price["currency"])


class Guest:
    """An anonymous customer of the storefront. Methods that end in a refusal or an error raise DemoFailed."""

    def __init__(self, base_url: str, cashier_url: str) -> None:
        self._client = httpx.Client(base_url=base_url, timeout=_ANSWER_S, trust_env=False)
        self._cashier_url = cashier_url
        token = self._call("POST", "/v1/guest-sessions").json()["token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = self._client.request(method, path, headers=headers, **options)
        expect(not answer.is_error, f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer

    def find_slot(self, seats: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return an experience and a departure of it that has so many seats free."""
        for experience in self._call("GET", "/v1/experiences").json()["data"]:
            path = "/v1/time-slots"
            for slot in self._call("GET", path, params={"experience_id": experience["id"]}).json()["data"]:
                if slot["status"] == "open" and slot["available"] >= seats:
                    return experience, slot
        raise DemoFailed("no time slot with free seats in the coming days")

    def free(self, slot: Mapping[str, Any]) -> int:
        """Return how many seats the public page shows as free."""
        return int(self._call("GET", f"/v1/time-slots/{slot['id']}").json()["available"])

    def hold(
        self, experience: Mapping[str, Any], slot: Mapping[str, Any], *, key: str, ttl_seconds: int | None = None
    ) -> httpx.Response:
        items = [{"ticket_type_id": experience["ticket_types"][0]["id"], "quantity": 1}]
        body: dict[str, Any] = {"time_slot_id": slot["id"], "items": items}
        if ttl_seconds is not None:
            body["ttl_seconds"] = ttl_seconds
        return self._call("POST", "/v1/holds", key=key, json=body)

    def hold_status(self, hold: Mapping[str, Any]) -> str:
        return str(self._call("GET", f"/v1/holds/{hold['id']}").json()["status"])

    def convert(self, hold: Mapping[str, Any]) -> Any:
        """Make the one call that a storefront ever repeats; return how the booking stands."""
        body = {"customer": _CUSTOMER, "payment": {"mode": "stripe"}}
        return self._call("POST", f"/v1/holds/{hold['id']}/convert", key=f"convert-{hold['id']}", json=body).json()

    def convert_until(self, hold: Mapping[str, Any], outcome: str) -> Any:
        """Repeat the same convert call until its outcome is the one wanted."""
        return until(lambda: self.convert(hold), lambda seen: seen["outcome"]["type"] == outcome, f"convert {outcome}")

    def pay(self, outcome: Mapping[str, Any], card: str) -> tuple[int, str]:
        """Confirm the intent as Stripe.js does in a browser; return the HTTP status, and what became of it in a word."""
        secret: str = outcome["client_secret"]
        form = {"key": outcome["publishable_key"], "client_secret": secret, "payment_method": card}
        intent_id = secret.partition("_secret_")[0]
        address = f"{self._cashier_url}/v1/payment_intents/{intent_id}/confirm"
        answer = httpx.post(address, data=form, timeout=_ANSWER_S, trust_env=False)
        told = answer.json()
        return answer.status_code, str(told["error"]["code"] if answer.is_error else told["status"])

    def await_confirmation(self, hold: Mapping[str, Any]) -> Any:
        """Look at the reservation until it is confirmed."""
        path = f"/v1/reservations/{hold['id']}"
        return until(
            lambda: self._call("GET", path).json(), lambda seen: seen["status"] == "confirmed", "the confirmation"
        )


class Stripe:
    """The sandbox from its other side: what its book says, and how it can be made to fail."""

    def __init__(self, base_url: str) -> None:
        self._control = f"{base_url}/_sandbox"

    def lines_of(self, reservation: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the PaymentIntents that were made for a booking."""
        answer = httpx.get(f"{self._control}/book", timeout=_ANSWER_S, trust_env=False).raise_for_status()
        lines: list[dict[str, Any]] = answer.json()["payment_intents"]
        return [line for line in lines if line["metadata"].get("reservation_id") == reservation["id"]]

    @contextmanager
    def away(self) -> Iterator[None]:
        """Answer every call with 500 inside the block."""
        fault = {"operation": "*", "action": "status", "status": 500}
        httpx.post(f"{self._control}/faults", json=fault, timeout=_ANSWER_S, trust_env=False).raise_for_status()
        try:
            yield
        finally:
            httpx.delete(f"{self._control}/faults", timeout=_ANSWER_S, trust_env=False).raise_for_status()


class Scene:
    """Everything a story may touch."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.cashier = stack.wiring.cashier()
        self.stripe = Stripe(stack.url("sandbox"))

    @contextmanager
    def guest(self) -> Iterator[Guest]:
        """Let somebody new come in."""
        guest = Guest(self.stack.url("reservation"), self.cashier.api_base)
        try:
            yield guest
        finally:
            guest.close()

    def paid_once(self, reservation: Mapping[str, Any]) -> str:
        """Return a sentence on the money if we and Stripe agree that it was taken exactly once. Raises DemoFailed."""
        lines, wanted = self.stripe.lines_of(reservation), reservation["price"]["total"]["amount"]
        expect([line["net"] for line in lines] == [wanted], f"Stripe's book has {lines} instead of one payment")
        captured = reservation["payment"]["captured"]["amount"]
        expect(captured == wanted, f"we say {captured} was captured, it should be {wanted}")
        return f"{reservation['reference']}: one payment in Stripe's book, {total(reservation)}"

    def violations(self) -> list[str]:
        """Return the invariants that either service finds broken."""
        headers = {"Authorization": f"Bearer {self.stack.operator_token()}"}
        found = []
        for service in ("reservation", "payment"):
            address = f"{self.stack.url(service)}/admin/v1/invariants"
            audit = httpx.get(address, headers=headers, timeout=_ANSWER_S, trust_env=False).raise_for_status().json()
            found += [f"{service} {check['id']} {check['title']}" for check in audit["checks"] if check["violations"]]
        return found


def a_key() -> str:
    return str(uuid.uuid4())
