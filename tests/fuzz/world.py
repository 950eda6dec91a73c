"""The world that fuzzed requests meet: real objects for their ids, and the signatures that open the guarded doors."""

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
from pydantic import SecretStr

from shared.clock import SystemClock
from shared.identifiers import derived_id
from shared.payment_contract import TO_PAYMENT_SERVICE, TO_RESERVATION_SERVICE
from shared.signing import InternalSigner
from tests.answers import answered, eventually
from tests.builders import CUSTOMER, Guest, a_key, a_slot
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System

Body = dict[str, Any]
_TICKETS = [{"code": "adult", "title": "Adult", "price": {"amount": 900, "currency": "EUR"}, "seats": 1}]
_EXPERIENCE = {
    "currency": "EUR",
    "time_zone": "Europe/Lisbon",
    "ticket_types": _TICKETS,
    "cancellation_policy": {"type": "none"},
}
_INTERNAL = "/internal/v1/payments"


class World:
    """Everything an operation may need to succeed, made when it is first asked for."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.operator = system.stack.operator_token()
        self.guest = Guest(system, system.token(f"fuzz-{uuid4()}", scope="bookings:external"))
        self.slot = a_slot(system, capacity=1_000_000)
        self.other_slot = a_slot(system, capacity=10)
        keys = system.setting_of("payment", "INTERNAL_SIGNING_KEYS").split(",")
        pairs = tuple((key_id, SecretStr(secret)) for key_id, _, secret in (key.partition(":") for key in keys))
        self._signers = {
            "payment": InternalSigner(pairs, tag=TO_PAYMENT_SERVICE, clock=SystemClock()),
            "reservation": InternalSigner(pairs, tag=TO_RESERVATION_SERVICE, clock=SystemClock()),
        }
        self._webhook_secret = system.setting_of("payment", "STRIPE_WEBHOOK_SECRETS").split(",")[0]
        self._captured = ""

    # signatures

    def signed(self, service: str, method: str, target: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
        """Return the headers with a signature of the other service."""
        found = httpx.Headers(headers)
        self._signers[service].sign(method, f"http://x{target}", found, body)
        return dict(found)

    def stripes(self, body: bytes) -> dict[str, str]:
        """Return Stripe's signature."""
        now = int(time.time())
        digest = hmac.new(self._webhook_secret.encode(), b"%d.%b" % (now, body), hashlib.sha256).hexdigest()
        return {"Stripe-Signature": f"t={now},v1={digest}"}

    # things with ids

    def experience_id(self) -> str:
        return self.other_slot.experience_id

    def time_slot_id(self) -> str:
        return self.other_slot.id

    def ticket_type_id(self) -> str:
        return self.other_slot.ticket_type_id

    def hold_id(self) -> str:
        self._make_room()
        return str(answered(self.guest.hold(self.slot), 201)["id"])

    def reservation_id(self) -> str:
        hold_id = self.hold_id()
        answered(self.guest.convert(hold_id, mode="external"), 200, 201)
        return hold_id

    def lookup(self) -> Body:
        """Return what stands on a booking's confirmation."""
        booking_id = self.reservation_id()  # a new guest's, so before anybody is asked
        shown = answered(self.guest.see(booking_id))
        return {"reference": shown["reference"], "email": CUSTOMER["email"]}

    def saga_id(self) -> str:
        """Return the saga of a booking that waits for its card."""
        hold_id = self.hold_id()
        answered(self.guest.convert(hold_id), 200, 201)
        sagas = self._admin("reservation", "GET", "/sagas?status=waiting&limit=1")["data"]
        return str(sagas[0]["id"]) if sagas else str(uuid4())

    def troubled_saga_id(self) -> str:
        """Return a saga that needs a person: its booking was cancelled, and the bank has sent the refund back."""
        hold_id = self.hold_id()
        answered(self.guest.convert(hold_id), 200, 201)
        over = eventually(lambda: self.guest.cancel(hold_id), lambda seen: seen.status_code == 200)
        assert over.json()["status"] == "cancelled"
        about = {"reservation_id": hold_id, "payment_id": str(derived_id(UUID(hold_id), "payment:1")), "generation": 1}
        money = {"amount": 900, "captured": 900, "currency": "EUR", "status": "refund_failed", "version": 1000}
        content = orjson.dumps({**about, **money, "occurred_at": "2040-01-01T10:00:00Z"})
        path, headers = "/internal/v1/payment-events", {"content-type": "application/json", "idempotency-key": a_key()}
        signed = self.signed("reservation", "POST", path, headers, content)
        answered(self.system.call("reservation", "POST", path, content=content, headers=signed))
        sagas = self._admin("reservation", "GET", "/sagas?status=needs_attention&limit=1")["data"]
        return str(sagas[0]["id"]) if sagas else str(uuid4())

    def cancelled_slot_id(self) -> str:
        slot = a_slot(self.system, capacity=10)
        path, storm = f"/time-slots/{slot.id}", {"status": "cancelled", "reason": "storm"}
        self._admin("reservation", "PATCH", path, json=storm)
        return slot.id

    def discount_id(self) -> str:
        body = {"code": f"F{uuid4().hex[:10]}", "off": {"type": "percentage", "basis_points": 100}}
        return str(self._admin("reservation", "POST", "/discounts", json=body)["id"])

    def api_key_id(self) -> str:
        body = {"name": "fuzz", "scopes": ["bookings:read"]}
        return str(self._admin("reservation", "POST", "/api-keys", json=body)["id"])

    def new_id(self) -> str:
        return str(uuid4())

    def payment_id(self) -> str:
        return str(self._payment()["id"])

    def captured_payment_id(self) -> str:
        """Return a payment whose money has come, all of it to be given back a cent at a time."""
        if not self._captured:
            payment = self._payment(amount=900_000)
            assert Stripe(self.system).pay(payment["client_secret"]).status_code == 200
            answered(self._post(f"{_INTERNAL}/{payment['id']}/capture", {}))
            self._captured = str(payment["id"])
        return self._captured

    def event_id(self) -> str:
        """Return an event of Stripe's that was ignored, which may be sent round again."""
        body = self.event()
        answered(self.system.call("payment", "POST", "/webhooks/stripe", content=body, headers=self.stripes(body)))
        events = self._admin("payment", "GET", "/webhook-events?status=ignored&limit=1")["data"]
        return str(events[0]["id"]) if events else str(uuid4())

    def replay_id(self) -> str:
        return str(self._admin("payment", "POST", "/webhook-replays", json={"status": "ignored"})["id"])

    def event(self) -> bytes:
        """Return an event of a type that we do not know, as Stripe writes it."""
        data = {"object": {"id": "x", "object": "plan"}}
        return orjson.dumps({"id": f"evt_{uuid4().hex}", "object": "event", "type": "plan.created", "data": data})

    def _payment(self, amount: int = 4500) -> Any:
        return answered(self._post(_INTERNAL, self.new_payment() | {"amount": amount}))["payment"]

    def new_payment(self) -> Body:
        ids = {"payment_id": str(uuid4()), "reservation_id": str(uuid4())}
        return {**ids, "generation": 1, "amount": 4500, "currency": "EUR", "capture_method": "manual"}

    def _post(self, path: str, body: Body) -> httpx.Response:
        content, headers = orjson.dumps(body), {"content-type": "application/json", "idempotency-key": a_key()}
        signed = self.signed("payment", "POST", path, headers, content)
        return self.system.call("payment", "POST", path, content=content, headers=signed)

    def _admin(self, service: Any, method: str, path: str, **options: Any) -> Any:
        return self.system.admin(service, method, path, **options)

    def order(self) -> Body:
        """Return an order of somebody who has no holds yet."""
        self._make_room()
        return self.slot.order()

    def _make_room(self) -> None:
        """Be somebody else from time to time: one customer has few active holds."""
        self.guest = Guest(self.system, self.system.token(f"fuzz-{uuid4()}", scope="bookings:external"))


# What the generator cannot know of an operation: parts of its body, its query, or which object its path needs.
BODIES: dict[str, Callable[[World, Body], Body]] = {
    "createHold": lambda world, body: body | world.order() | {"discount_code": None},
    "convertHold": lambda _, _body: {"customer": CUSTOMER, "payment": {"mode": "external"}},
    "lookUpReservation": lambda world, _body: world.lookup(),
    "addExperience": lambda _, body: body | _EXPERIENCE,
    "changeExperience": lambda _, body: {"max_party": body.get("max_party"), "title": "Fuzz", "reason": "fuzz"},
    "addTicketType": lambda _, body: body | {"code": f"t{uuid4().hex[:12]}", "price": _TICKETS[0]["price"]},
    "changeTicketType": lambda _, body: body | {"price": _TICKETS[0]["price"]},
    "addTimeSlot": lambda world, body: (
        body
        | {
            "experience_id": world.experience_id(),
            "starts_at": "2040-01-01T10:00:00Z",
            "ends_at": "2040-01-01T12:00:00Z",
        }
    ),
    "changeTimeSlot": lambda _, body: {"capacity": 1000 + (body.get("capacity") or 0) % 1000, "reason": "fuzz"},
    "addDiscount": lambda _, body: (
        body
        | {"code": f"F{uuid4().hex[:10]}", "off": {"type": "percentage", "basis_points": 100}}
        | {"experience_id": None, "valid_from": None, "valid_until": None}
    ),
    "changeDiscount": lambda _, body: body | {"valid_from": None, "valid_until": None},
    "setFlag": lambda _, body: body | {"enabled": True, "percentage": 100},
    "resolveSaga": lambda _, _body: {"outcome": "cancelled", "reason": "fuzz"},
    "turnBreaker": lambda _, body: body | {"action": "auto"},
    "createPayment": lambda world, _: world.new_payment(),
    "refundPayment": lambda _, _body: {"refund_id": str(uuid4()), "amount": 1, "reason": "fuzz"},
    "cancelPayment": lambda _, _body: {"reservation_id": str(uuid4()), "generation": 1},
    "planWebhookReplay": lambda _, _body: {"status": "ignored"},
}
QUERIES: dict[str, Callable[[World], dict[str, str]]] = {
    "getCalendar": lambda _: {"from": "2040-01-01", "to": "2040-01-31"},
    "listTimeSlots": lambda world: {"experience_id": world.slot.experience_id},
    "streamAvailability": lambda world: {"experience_id": world.slot.experience_id},
}
NAMES = {
    "setFlag": {"reservation": "hold_cleanup", "payment": "payment_retries"},
    "turnBreaker": {"payment": "background"},
}
PATHS = {
    "resolveSaga": "troubled_saga_id",
    "getSlotCancellation": "cancelled_slot_id",
    "refundPayment": "captured_payment_id",
    "capturePayment": "captured_payment_id",
    "cancelPayment": "new_id",
}
