"""The Stripe sandbox as a test uses it: a guest's card on one side, Stripe's own books and its bad days on the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.answers import answered, eventually, seen
from tests.builders import GOOD_CARD, Guest, awaiting_payment
from tests.system import System


class Stripe:
    """The sandbox of the running system; `of` anything means "of the PaymentIntents that carry this reservation's id"."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._credentials = system.stack.credentials

    def pay(self, client_secret: str, *, card: str = GOOD_CARD) -> httpx.Response:
        """Confirm with the publishable key and the client secret, as Stripe.js does in a browser."""
        form = {
            "client_secret": client_secret,
            "payment_method_data[type]": "card",
            "payment_method_data[card][number]": card,
            "payment_method_data[card][exp_month]": "12",
            "payment_method_data[card][exp_year]": "2034",
            "payment_method_data[card][cvc]": "123",
        }
        path = f"/v1/payment_intents/{client_secret.partition('_secret_')[0]}/confirm"
        return self._system.call("sandbox", "POST", path, token=self._credentials.stripe_publishable_key, data=form)

    def pay_for(self, guest: Guest, hold_id: str, *, card: str = GOOD_CARD) -> httpx.Response:
        """Convert and pay in one go."""
        return self.pay(awaiting_payment(guest, hold_id), card=card)

    def pay_by_debit(self, client_secret: str) -> str:
        """Let somebody allow a bank debit for this one payment in Stripe's dashboard, and its guest pay with it.

        Returns Stripe's id of the payment, which is `processing` until `settle`.
        """
        intent = client_secret.partition("_secret_")[0]
        keys, path = self._credentials, f"/v1/payment_intents/{intent}"
        allowed = {"allowed_payment_method_types[0]": "sepa_debit", "allowed_payment_method_types[1]": "card"}
        answered(self._system.call("sandbox", "POST", path, token=keys.stripe_secret_key, data=allowed))
        form = {
            "client_secret": client_secret,
            "payment_method_data[type]": "sepa_debit",
            "payment_method_data[sepa_debit][iban]": "AT611904300234573201",
        }
        paid = self._system.call("sandbox", "POST", f"{path}/confirm", token=keys.stripe_publishable_key, data=form)
        assert answered(paid)["status"] == "processing"
        return intent

    def settle(self, intent: str, *, succeeded: bool) -> None:
        """Let a debit arrive, or come back."""
        self._control("POST", f"/payment_intents/{intent}/settle", json={"succeeded": succeeded})

    def intents_of(self, reservation_id: str) -> list[dict[str, Any]]:
        """Return the lines of Stripe's book about this reservation, oldest first."""
        book = self._control("GET", "/book")["payment_intents"]
        return [line for line in book if line["metadata"].get("reservation_id") == reservation_id]

    def statuses_of(self, reservation_id: str) -> list[str]:
        return [line["status"] for line in self.intents_of(reservation_id)]

    def money_of(self, reservation_id: str) -> list[int]:
        """Return what we have of each PaymentIntent in minor units: captured, less what was refunded."""
        return [line["net"] for line in self.intents_of(reservation_id)]

    def captures_of(self, reservation_id: str) -> int:
        """Count the captures that Stripe carried out, by the events it wrote: a replayed answer is none."""
        return sum(event["type"] == "payment_intent.succeeded" for event in self._events_of(reservation_id))

    def event_ids_of(self, reservation_id: str) -> set[str]:
        """Return the ids of all events about this reservation's PaymentIntents."""
        return {event["id"] for event in self._events_of(reservation_id)}

    def _events_of(self, reservation_id: str) -> list[dict[str, Any]]:
        events = answered(
            self._system.call("sandbox", "GET", "/v1/events?limit=100", token=self._credentials.stripe_secret_key)
        )
        objects = [(event, event["data"]["object"]) for event in events["data"]]
        return [
            event for event, about in objects if (about.get("metadata") or {}).get("reservation_id") == reservation_id
        ]

    def redeliver(self, event_id: str) -> None:
        """Send an event again, as the button in Stripe's dashboard does."""
        self._control("POST", "/webhooks", json={"redeliver": event_id})

    @contextmanager
    def fault(self, action: str, **members: Any) -> Iterator[None]:
        """Let the sandbox misbehave inside the block; the test fails if nothing met the fault."""
        (fault_id,) = self._control("POST", "/faults", json={"action": action, **members})["ids"]
        try:
            yield
            in_force = self._control("GET", "/faults")["faults"]
            assert next(one["fired"] for one in in_force if one["id"] == fault_id) > 0, "the fault met nobody"
        finally:
            self._control("DELETE", f"/faults/{fault_id}")

    def faults_met(self) -> int:
        """Return how often the faults in force have been met."""
        return sum(one["fired"] for one in self._control("GET", "/faults")["faults"])

    @contextmanager
    def webhooks_held_back(self) -> Iterator[None]:
        """Deliver nothing inside the block, and everything after it."""
        self._control("POST", "/webhooks", json={"hold": True})
        try:
            yield
        finally:
            self._control("POST", "/webhooks", json={"release": "in_order"})

    def assert_books_agree(self) -> None:
        """Compare Stripe's book with payment_service's, to the cent; what is on its way gets a few seconds to arrive."""
        eventually(self._disagreements, _nothing, within_s=10)

    def _disagreements(self) -> list[tuple[Any, Any]]:
        theirs = {
            line["payment_intent"]: (line["captured"], line["refunded"], line["canceled"])
            for line in self._control("GET", "/book")["payment_intents"]
        }
        ours = {
            row["stripe_payment_intent_id"]: (row["captured"], row["refunded"], row["status"] == "canceled")
            for row in self._system.every("payment", "/audit-export")
            if row["stripe_payment_intent_id"] is not None
        }
        return sorted(theirs.items() ^ ours.items())

    def _control(self, method: str, path: str, **options: Any) -> Any:
        answer = self._system.call("sandbox", method, f"/_sandbox{path}", **options)
        assert answer.status_code == 200, seen(answer)
        return answer.json()


def _nothing(found: list[tuple[Any, Any]]) -> bool:
    return not found
