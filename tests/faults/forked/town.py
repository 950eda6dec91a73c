"""Both services in one process, on real databases and a real sandbox: the place where stories happen and end abruptly.

The services speak to each other over ASGI, the sandbox's webhooks come in through a real socket. Everybody who lives
here makes the same call again until its answer is right, as the contract tells clients to.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import orjson
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from deploy.embedded.tokens import mint_token
from deploy.stripe_sandbox.deliveries import signature_header
from payment_service.app import create_app as create_payment_app
from reservation_service.app import create_app as create_reservation_app
from shared.clock import SystemClock
from shared.database import Database
from shared.payment_contract import TO_PAYMENT_SERVICE, RefundPayment
from shared.signing import InternalSigner
from tests.answers import seen
from tests.faults.forked.ground import JWT_SECRET, KEYS, WEBHOOK_SECRET, Ground
from tests.reservation.box_office import Customer

_PATIENCE_S = 90.0
_PAUSE_S = 0.05
# What only the clock drives, and no guest's story needs, would die at random moments of every story; and an event that
# is settled at the door in one story and waits for a worker in the next would pass other points each time.
_QUIET = {"FLAG_RECONCILIATION": "off", "FLAG_SETTLE_AT_THE_DOOR": "off"}

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one reads a file of certificates in every life


class Stuck(Exception):
    """A call that was repeated all the time never brought the right answer; the text is what came last."""


class Wire(httpx.AsyncBaseTransport):
    """The line from one app to the other. The first `dead_calls` calls find nobody at home."""

    def __init__(self, dead_calls: int = 0) -> None:
        self.dead_calls = dead_calls
        self.app: FastAPI | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert self.app is not None
        if self.dead_calls > 0:
            self.dead_calls -= 1
            raise httpx.ConnectError("nobody is at home", request=request)
        return await httpx.ASGITransport(self.app, raise_app_exceptions=False).handle_async_request(request)


@dataclass(frozen=True)
class Apps:
    """Both services, wired to each other and not yet started."""

    reservation: FastAPI
    payment: FastAPI


def build_apps(ground: Ground, *, flags: Mapping[str, str] | None = None, dead_calls: int = 0) -> Apps:
    """Wire both services as in production; `dead_calls` is how many payment events find reservation_service away."""
    reservation_settings, payment_settings = ground.settings()
    to_payment, to_reservation = Wire(), Wire(dead_calls)
    flags = _QUIET | (flags or {})
    reservation = create_reservation_app(reservation_settings, payments_transport=to_payment, environment=flags)
    payment = create_payment_app(payment_settings, reservations_transport=to_reservation, environment=flags)
    to_payment.app, to_reservation.app = payment, reservation
    return Apps(reservation, payment)


class Town:
    """The running services and everybody's way to them."""

    def __init__(self, apps: Apps, ground: Ground, clients: tuple[httpx.AsyncClient, ...]) -> None:
        """`clients` are those of reservation_service, payment_service and the sandbox."""
        self.reservation, self.payment, self._sandbox = clients
        self.reservation_database: Database = apps.reservation.state.parts.database
        self.payment_database: Database = apps.payment.state.parts.database
        self._publishable_key = ground.publishable_key
        self._signer = InternalSigner(KEYS, tag=TO_PAYMENT_SERVICE, clock=SystemClock())

    def customer(self, subject: str) -> Customer:
        return Customer(self.reservation, mint_token(JWT_SECRET, sub=subject, now_s=time.time()))

    def operator(self, door: httpx.AsyncClient | None = None) -> Customer:
        """Return an operator at reservation_service, or at another door."""
        token = mint_token(JWT_SECRET, sub="operator:crash", roles=["operator"], now_s=time.time())
        return Customer(door or self.reservation, token)

    async def insist(
        self, call: Callable[[], Awaitable[httpx.Response]], is_right: Callable[[httpx.Response], bool]
    ) -> Any:
        """Make the same call until its answer is right, and return its JSON. Raises Stuck."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            answer = await call()
            if is_right(answer):
                return answer.json()
            if time.monotonic() > end:
                raise Stuck(seen(answer))
            await asyncio.sleep(_PAUSE_S)

    async def wait_until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something that nobody answers for. Raises Stuck."""
        end = time.monotonic() + _PATIENCE_S
        while not await is_so():
            if time.monotonic() > end:
                raise Stuck(is_so.__qualname__)
            await asyncio.sleep(_PAUSE_S)

    async def pay(self, client_secret: str, card: str) -> httpx.Response:
        """Confirm with the publishable key and the client secret, as Stripe.js does in a browser."""
        intent_id = client_secret.partition("_secret_")[0]
        form = {"key": self._publishable_key, "client_secret": client_secret, "payment_method": card}
        return await self._sandbox.post(f"/v1/payment_intents/{intent_id}/confirm", data=form)

    async def order_refund(self, payment_id: UUID, order: RefundPayment) -> httpx.Response:
        """Order a refund at payment_service's door, signed as reservation_service signs: any amount, under any id."""
        path = f"/internal/v1/payments/{payment_id}/refunds"
        headers = {"idempotency-key": f"{order.refund_id}:refund", "content-type": "application/json"}
        body = order.model_dump_json().encode()
        request = self.payment.build_request("POST", path, content=body, headers=headers)
        self._signer.sign("POST", str(request.url), request.headers, body)
        return await self.payment.send(request)

    async def tell(self, event_id: str, event_type: str, intent_id: str) -> httpx.Response:
        """Deliver a signed event that the sandbox itself would never write."""
        subject = {"object": "payment_intent", "id": intent_id}
        event = {"id": event_id, "object": "event", "type": event_type, "livemode": False, "data": {"object": subject}}
        payload = orjson.dumps(event)
        headers = {"Stripe-Signature": signature_header(payload, WEBHOOK_SECRET, int(time.time()))}
        return await self.payment.post("/webhooks/stripe", content=payload, headers=headers)

    async def dispute(self, intent_id: str) -> None:
        """Let the guest's bank take the money of a payment back."""
        (await self._sandbox.post(f"/_sandbox/payment_intents/{intent_id}/dispute", json={})).raise_for_status()

    async def forgive_stripe(self) -> None:
        """End all of the sandbox's faults."""
        (await self._sandbox.delete("/_sandbox/faults")).raise_for_status()

    async def look_at_stripe(self, page: str) -> Any:
        """GET a page of the sandbox's control door."""
        return (await self._sandbox.get(f"/_sandbox/{page}")).raise_for_status().json()

    async def sql(self, database: Database, statement: str, **values: Any) -> Sequence[Any]:
        """Run a statement beside the services, past every crash point; return its rows, if it has any."""
        async with database.reading() as connection:
            result = await connection.execute(text(statement), values)
            return result.mappings().all() if result.returns_rows else ()


@asynccontextmanager
async def open_town(apps: Apps, ground: Ground) -> AsyncIterator[Town]:
    """Start both services with their background work, and the door for webhooks."""
    async with (
        apps.reservation.router.lifespan_context(apps.reservation),
        apps.payment.router.lifespan_context(apps.payment),
        _client(apps.reservation) as reservation,
        _client(apps.payment) as payment,
        httpx.AsyncClient(base_url=ground.sandbox_url, timeout=10, trust_env=False, verify=_NO_TLS) as sandbox,
        _webhook_door(apps.payment, ground),
    ):
        yield Town(apps, ground, (reservation, payment, sandbox))


def _client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://town", timeout=60)


@asynccontextmanager
async def _webhook_door(payment: FastAPI, ground: Ground) -> AsyncIterator[None]:
    config = uvicorn.Config(payment, lifespan="off", http="httptools", ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[ground.door.dup()]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
