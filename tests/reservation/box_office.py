"""reservation_service in this process, over ASGI: its clients, its operator, and hands to move its clock.

Time is moved in the database, which is the only clock that seats obey; nobody sleeps.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from deploy.embedded.tokens import mint_token
from reservation_service.api.dependencies import Parts
from reservation_service.app import create_app
from reservation_service.booking.expiry import release_expired
from reservation_service.settings import ReservationSettings
from reservation_service.store.audit import INVARIANTS
from shared.clock import Clock, SystemClock
from shared.invariants import check_all
from shared.payment_contract import TO_PAYMENT_SERVICE, TO_RESERVATION_SERVICE, PaymentEvent
from shared.signing import InternalSigner
from tests.answers import answered
from tests.doubles.scripted_payments import ScriptedPayments

JWT_SECRET = "a-secret-of-the-identity-provider-of-these-tests"
GUEST_SECRET = "a-secret-for-the-tokens-of-guests-in-these-tests"
BEARER = "a-bearer-secret-for-when-signatures-are-off"
KEYS = (("k1", SecretStr("first-internal-key")), ("k2", SecretStr("second-internal-key")))
CUSTOMER = {"name": "Ada Example", "email": "ada@example.org"}
# The tickers sleep through every test; what they would do is done by name.
_ASLEEP = {
    "saga_poll_seconds": 600.0,
    "saga_count_seconds": 600.0,
    "sweep_interval_seconds": 600.0,
    "slot_cancellation_poll_seconds": 600.0,
    "flags_refresh_seconds": 600.0,
}
DRAIN_S = 30.0
"""Draining ends as soon as nothing runs. What still runs then is cut off and keeps its lease, so a busy machine gets time."""

# A busy machine may take its time; the deadline itself has a test that sets it.
_PATIENT = {"admission_price_s": 20.0}


def settings_for(database_url: str, **changed: Any) -> ReservationSettings:
    """Return settings as in production but for secrets, short waits and sleeping tickers."""
    values: dict[str, Any] = {
        "reservation_database_url": SecretStr(database_url),
        "auth_jwt_secret": SecretStr(JWT_SECRET),
        "guest_token_secret": SecretStr(GUEST_SECRET),
        "internal_signing_keys": KEYS,
        "internal_bearer_secret": SecretStr(BEARER),
        "database_pool_timeout_s": 15.0,
        "convert_budget_s": 2.0,
        "shutdown_grace_s": 2,
        "unknown_grace_seconds": 1,
        "saga_attempts_max": 4,
        **_ASLEEP,
        **_PATIENT,
    }
    return ReservationSettings(**(values | changed))


@dataclass(frozen=True)
class Offer:
    """A slot that is for sale, with its ticket types by code."""

    slot_id: str
    experience_id: str
    tickets: dict[str, str]

    def order(self, seats: int = 1, *, ticket: str = "adult", **more: Any) -> dict[str, Any]:
        items = [{"ticket_type_id": self.tickets[ticket], "quantity": seats}]
        return {"time_slot_id": self.slot_id, "items": items, **more}


@dataclass(frozen=True)
class Customer:
    """Somebody with a token; every method returns the raw answer."""

    http: httpx.AsyncClient
    token: str = field(repr=False)

    async def ask(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.http.request(method, path, headers=headers, **options)

    async def hold(self, offer: Offer, seats: int = 1, *, key: str | None = None, **more: Any) -> httpx.Response:
        return await self.ask("POST", "/v1/holds", key=key or f"key-{uuid4()}", json=offer.order(seats, **more))

    async def see_hold(self, hold_id: str, **options: Any) -> httpx.Response:
        return await self.ask("GET", f"/v1/holds/{hold_id}", **options)

    async def extend(self, hold_id: str, seconds: int | None = None) -> httpx.Response:
        return await self.ask("POST", f"/v1/holds/{hold_id}/extend", json={"seconds": seconds})

    async def release(self, hold_id: str) -> httpx.Response:
        return await self.ask("DELETE", f"/v1/holds/{hold_id}")

    async def convert(
        self, hold_id: str, *, key: str | None = None, mode: str = "stripe", customer: dict[str, str] | None = None
    ) -> httpx.Response:
        body = {"customer": customer or CUSTOMER, "payment": {"mode": mode}}
        return await self.ask("POST", f"/v1/holds/{hold_id}/convert", key=key or f"c-{hold_id}", json=body)

    async def see(self, reservation_id: str, **options: Any) -> httpx.Response:
        return await self.ask("GET", f"/v1/reservations/{reservation_id}", **options)


class BoxOffice:
    """The service, its people and its database."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient, payments: ScriptedPayments) -> None:
        self.app = app
        self.http = http
        self.payments = payments
        self.parts: Parts = app.state.parts
        self._signer = InternalSigner(KEYS, tag=TO_RESERVATION_SERVICE, clock=SystemClock())

    def customer(self, sub: str | None = None, *, roles: Sequence[str] = (), scope: str = "") -> Customer:
        token = mint_token(JWT_SECRET, sub=sub or f"customer-{uuid4()}", now_s=time(), roles=roles, scope=scope)
        return Customer(self.http, token)

    def operator(self) -> Customer:
        return self.customer("olga", roles=["operator"])

    async def offer(
        self, *, capacity: int = 10, prices: dict[str, tuple[int, int]] | None = None, **more: Any
    ) -> Offer:
        """Put something on sale; `prices` maps a ticket code to (minor units, seats), one adult for 45.00 unless said."""
        currency = more.setdefault("currency", "EUR")
        tickets = [
            {"code": code, "title": code.title(), "price": {"amount": amount, "currency": currency}, "seats": seats}
            for code, (amount, seats) in (prices or {"adult": (4500, 1)}).items()
        ]
        body = {"title": "Dawn kayak tour", "time_zone": "Europe/Lisbon", "ticket_types": tickets, **more}
        sold = answered(await self.operator().ask("POST", "/admin/v1/experiences", json=body), 201)
        slot_id = await self.slot(sold["id"], capacity=capacity)
        return Offer(slot_id, sold["id"], {ticket["code"]: ticket["id"] for ticket in sold["ticket_types"]})

    async def slot(self, experience_id: str, *, capacity: int = 10, in_s: float = 7 * 86_400) -> str:
        """Add a departure of an experience, `in_s` seconds from now."""
        starts_at = datetime.now(UTC) + timedelta(seconds=in_s)
        body = {
            "experience_id": experience_id,
            "starts_at": starts_at.isoformat(),
            "ends_at": (starts_at + timedelta(hours=2)).isoformat(),
            "capacity": capacity,
        }
        added = answered(await self.operator().ask("POST", "/admin/v1/time-slots", json=body), 201)
        return str(added["id"])

    async def discount(self, **terms: Any) -> dict[str, Any]:
        """Add a discount code, 10 % off unless said."""
        body = {"code": f"C{uuid4().hex[:12]}", "off": {"type": "percentage", "basis_points": 1000}, **terms}
        added: dict[str, Any] = answered(await self.operator().ask("POST", "/admin/v1/discounts", json=body), 201)
        return added

    async def change_discount(self, discount: dict[str, Any], **changes: Any) -> dict[str, Any]:
        path = f"/admin/v1/discounts/{discount['id']}"
        changed: dict[str, Any] = answered(await self.operator().ask("PATCH", path, json=changes))
        return changed

    async def used(self, discount: dict[str, Any]) -> int:
        """Return how often an operator is told that a discount is used."""
        path = f"/admin/v1/discounts/{discount['id']}"
        return int(answered(await self.operator().ask("GET", path))["used"])

    async def free(self, offer: Offer) -> int:
        """Return what the public page says is available."""
        return int(answered(await self.http.get(f"/v1/time-slots/{offer.slot_id}"))["available"])

    async def tell(self, event: PaymentEvent) -> httpx.Response:
        """Send a payment event as payment_service sends it."""
        return await self.tell_raw(event.model_dump(mode="json"))

    async def tell_raw(self, message: dict[str, Any]) -> httpx.Response:
        """Send any body, signed as payment_service signs it."""
        request = self.http.build_request(
            "POST", "/internal/v1/payment-events", json=message, headers={"idempotency-key": f"e-{uuid4()}"}
        )
        self._signer.sign("POST", str(request.url), request.headers, request.content)
        return await self.http.send(request)

    async def sql(self, statement: str, **values: Any) -> Sequence[Any]:
        """Run a statement beside the service, in a transaction of its own; return its rows, if it has any."""
        async with self.parts.database.transaction("test") as tx:
            result = await tx.execute(text(statement), values)
            return result.mappings().all() if result.returns_rows else ()

    async def let_expire(self, hold_id: str) -> None:
        """Let a hold's time be over."""
        await self.sql(
            "UPDATE reservations SET expires_at = clock_timestamp() - interval '1 second' WHERE id = :id",
            id=UUID(hold_id),
        )

    async def let_payment_time_run_out(self, booking_id: str) -> None:
        """Let a pending booking's window be long over, and its saga act on that."""
        await self.sql(
            "UPDATE reservations SET pay_until = clock_timestamp() - interval '1 hour' WHERE id = :id",
            id=UUID(booking_id),
        )
        await self.sql(
            "UPDATE sagas SET due_at = clock_timestamp(), lease_until = NULL WHERE reservation_id = :id",
            id=UUID(booking_id),
        )
        await self.parts.engine.run_due()
        await self.parts.engine.drain(DRAIN_S)

    async def pay(self, booking_id: str) -> httpx.Response:
        """Let the guest's card be authorised and payment_service tell so; return when the saga has acted on it."""
        (entry,) = self.payments.of(UUID(booking_id))
        answer = await self.tell(self.payments.pay(entry.id))
        await self.parts.engine.drain(DRAIN_S)
        return answer

    async def sweep(self, *, batch: int = 100) -> int:
        """Do what the sweeper does, once."""
        return await release_expired(self.parts.database, self.parts.metrics, batch=batch)

    async def status(self, booking_id: str) -> str:
        (row,) = await self.sql("SELECT status FROM reservations WHERE id = :id", id=UUID(booking_id))
        return str(row["status"])

    async def assert_consistent(self) -> None:
        """Let the running sagas come to rest and ask the service's own audit."""
        await self.parts.engine.drain(DRAIN_S)
        async with self.parts.database.snapshot() as connection:
            found = [found for found in await check_all(connection, INVARIANTS) if found.violations]
        assert not found, found


@asynccontextmanager
async def open_box_office(database_url: str, *, clock: Clock | None = None, **changed: Any) -> AsyncIterator[BoxOffice]:
    """Run the service with its lifespan, as uvicorn would, on a scripted payment_service that checks signatures."""
    payments = ScriptedPayments(InternalSigner(KEYS, tag=TO_PAYMENT_SERVICE, clock=SystemClock()))
    settings = settings_for(database_url, **changed)
    app = create_app(settings, clock=clock, payments_transport=payments.transport, environment={})
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as http:
            yield BoxOffice(app, http, payments)
