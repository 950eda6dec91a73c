"""The people and things of a story (a guest, an experience, a slot, a hold, a card), made the way a client makes them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from tests.answers import answered, eventually
from tests.system import System

GOOD_CARD = "4242424242424242"
DECLINED_CARD = "4000000000000002"

CUSTOMER = {"name": "Ada Example", "email": "ada@example.org"}
EXTERNAL_SCOPE = "bookings:external"


@dataclass(frozen=True)
class Slot:
    """A departure that is for sale, with the one ticket type it is sold as."""

    id: str
    experience_id: str
    ticket_type_id: str
    capacity: int

    def order(self, seats: int = 1, **more: Any) -> dict[str, Any]:
        """Return the body of POST /v1/holds for so many seats."""
        items = [{"ticket_type_id": self.ticket_type_id, "quantity": seats}]
        return {"time_slot_id": self.id, "items": items, **more}


@dataclass(frozen=True)
class Guest:
    """A customer with a token. Its methods return the raw answer, so that a story can look at all of it."""

    system: System
    token: str = field(repr=False)
    door: str = "reservation"  # which process of reservation_service is asked

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.system.call(self.door, method, path, token=self.token, **options)

    def hold(self, slot: Slot, seats: int = 1, *, key: str | None = None, **more: Any) -> httpx.Response:
        return self.ask("POST", "/v1/holds", key=key or a_key(), json=slot.order(seats, **more))

    def see_hold(self, hold_id: str) -> httpx.Response:
        return self.ask("GET", f"/v1/holds/{hold_id}")

    def release(self, hold_id: str) -> httpx.Response:
        return self.ask("DELETE", f"/v1/holds/{hold_id}")

    def convert(
        self, hold_id: str, *, key: str = "convert", mode: str = "stripe", name: str = "Ada Example"
    ) -> httpx.Response:
        body = {"customer": CUSTOMER | {"name": name}, "payment": {"mode": mode}}
        return self.ask("POST", f"/v1/holds/{hold_id}/convert", key=f"{key}-{hold_id}", json=body)

    def convert_within(self, hold_id: str, patience_s: float) -> httpx.Response | None:
        """Convert, but hang up after `patience_s`; None when no answer came."""
        body = {"customer": CUSTOMER | {"name": "Ada Example"}, "payment": {"mode": "stripe"}}
        path = f"/v1/holds/{hold_id}/convert"
        try:
            return self.ask("POST", path, key=f"convert-{hold_id}", json=body, timeout=patience_s)
        except httpx.TransportError:
            return None

    def see(self, reservation_id: str) -> httpx.Response:
        return self.ask("GET", f"/v1/reservations/{reservation_id}")

    def quote(self, reservation_id: str) -> httpx.Response:
        return self.ask("GET", f"/v1/reservations/{reservation_id}/cancellation-quote")

    def cancel(self, reservation_id: str, *, key: str = "cancel", if_match: str | None = None) -> httpx.Response:
        headers = {} if if_match is None else {"If-Match": if_match}
        path = f"/v1/reservations/{reservation_id}/cancel"
        return self.ask("POST", path, key=f"{key}-{reservation_id}", headers=headers)

    def wait_for(self, reservation_id: str, status: str, *, within_s: float = 10.0) -> Any:
        """Return the reservation once it has this status; fails with what was last seen."""
        answer = eventually(
            lambda: self.see(reservation_id), lambda seen: seen.json().get("status") == status, within_s=within_s
        )
        return answered(answer)


def a_key() -> str:
    return f"key-{uuid4()}"


def a_guest(system: System) -> Guest:
    """Open an anonymous session, as a storefront does for a new visitor."""
    session = answered(system.call("reservation", "POST", "/v1/guest-sessions"), 201)
    return Guest(system, session["token"])


def a_customer(system: System, *, scope: str = "") -> Guest:
    """Return somebody who signed in with the identity provider."""
    return Guest(system, system.token(f"customer-{uuid4()}", scope=scope))


def a_reseller(system: System) -> Guest:
    """Return a caller who may book what was paid elsewhere."""
    return Guest(system, system.token(f"reseller-{uuid4()}", roles=["operator"], scope=EXTERNAL_SCOPE))


def a_slot(system: System, *, capacity: int = 10, price_minor: int = 4500, currency: str = "EUR", **more: Any) -> Slot:
    """Put an experience with one ticket type, and one departure of it a week from now, on sale."""
    experience = system.admin(
        "reservation",
        "POST",
        "/experiences",
        json={
            "title": "Dawn kayak tour",
            "time_zone": "Europe/Lisbon",
            "currency": currency,
            "ticket_types": [
                {
                    "code": "adult",
                    "title": "Adult",
                    "price": {"amount": price_minor, "currency": currency},
                    "seats": 1,
                }
            ],
            **more,
        },
    )
    starts_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    slot = system.admin(
        "reservation",
        "POST",
        "/time-slots",
        json={
            "experience_id": experience["id"],
            "starts_at": starts_at.isoformat().replace("+00:00", "Z"),
            "ends_at": (starts_at + timedelta(hours=2)).isoformat().replace("+00:00", "Z"),
            "capacity": capacity,
        },
    )
    return Slot(slot["id"], experience["id"], experience["ticket_types"][0]["id"], capacity)


def free_seats(system: System, slot: Slot) -> int:
    """Return what the public page of the slot says is available."""
    shown = answered(system.call("reservation", "GET", f"/v1/time-slots/{slot.id}"))
    assert shown["capacity"] == slot.capacity
    return int(shown["available"])


def a_hold(guest: Guest, slot: Slot, seats: int = 1, **more: Any) -> Any:
    return answered(guest.hold(slot, seats, **more), 201)


def awaiting_payment(guest: Guest, hold_id: str, *, within_s: float = 10.0) -> str:
    """Convert, with the same call again while the answer is `processing`; return the secret to pay with."""
    answer = eventually(
        lambda: answered(guest.convert(hold_id), 200, 201),
        lambda seen: seen["outcome"]["type"] == "action_required",
        within_s=within_s,
    )
    secret: str = answer["outcome"]["client_secret"]
    return secret
