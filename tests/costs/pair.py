"""Both services and Stripe's sandbox in this process, each service behind a wire that counts, and nothing that runs by itself.

What is nudged still runs: those are the costs of a booking. What only looks round every few seconds sleeps.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import orjson
import pytest

import payment_service.background
import reservation_service.background
import reservation_service.booking.catalogue
from deploy.embedded.postgres import Postgres
from deploy.stripe_sandbox.app import create_app as create_sandbox_app
from deploy.stripe_sandbox.sandbox import Sandbox
from deploy.stripe_sandbox.settings import Settings as SandboxSettings
from payment_service.app import create_app as create_payment_app
from payment_service.webhooks.handlers import HANDLERS
from reservation_service.app import create_app as create_reservation_app
from shared.database import Database
from tests.answers import answered
from tests.costs.postgres_wire import CountingWire, Passed
from tests.payment import till
from tests.reservation import box_office
from tests.reservation.box_office import BoxOffice, Customer, Offer

_ASLEEP = 3600.0
_QUIET_RESERVATION: dict[str, Any] = {
    "api_keys_refresh_seconds": _ASLEEP,
    "invariants_check_seconds": _ASLEEP,
    "forget_keys_poll_seconds": _ASLEEP,
}
_QUIET_PAYMENT: dict[str, Any] = dict.fromkeys(
    (
        "webhook_poll_seconds",
        "outbox_poll_seconds",
        "outbox_answered_wait_s",  # what an answer has said is never told: the next booking's receipt says it is known
        "breaker_share_seconds",
        "webhook_replay_poll_seconds",
        "webhook_types_check_seconds",
        "reconcile_interval_seconds",
        "flags_refresh_seconds",
        "gauges_refresh_seconds",
        "invariants_check_seconds",
    ),
    _ASLEEP,
)
# What looks round by a clock of its own, or reads a price list again, does so for no booking in particular.
_CLOCKS = (
    (payment_service.background, "_WATCH_S"),
    (payment_service.background, "_POST_INTERVAL_S"),
    (reservation_service.background, "_WATCH_S"),
    (reservation_service.booking.catalogue, "_OFFER_LIFE_S"),
)
_GIVE_UP_S = 90.0
_QUIET_LOOKS = 3
# On a starved machine nothing may give up and wait for a poller that sleeps.
_PATIENT_RESERVATION: dict[str, Any] = {
    "convert_budget_s": 90.0,
    "internal_call_timeout_s": 60.0,
    "saga_lease_seconds": 300.0,
}
_PATIENT_PAYMENT: dict[str, Any] = {
    "reservation_timeout_s": 60.0,
    "stripe_timeout_s": 60.0,
    "gateway_budget_s": 60.0,
    "background_budget_s": 60.0,
    "idempotency_lease_s": 300.0,
    "webhook_lease_seconds": 300.0,
    "outbox_lease_seconds": 300.0,
}
_RUNNING = {
    "reservation": "SELECT count(*) FROM sagas WHERE lease_until IS NOT NULL"
    " OR due_at BETWEEN clock_timestamp() - interval '2 seconds' AND clock_timestamp()",
    "payment": "SELECT (SELECT count(*) FROM outbox WHERE due_at <= clock_timestamp())"
    " + (SELECT count(*) FROM webhook_events WHERE due_at IS NOT NULL)",
}
# What has just fallen due is about to be claimed by whoever was nudged; the poller would only come second.
_DUE = "SELECT count(*) FROM sagas WHERE due_at < clock_timestamp() - interval '2 seconds' AND lease_until IS NULL"


class Calls(httpx.AsyncBaseTransport):
    """The way from one service to another, which counts who goes it, and lets them wait as long as it is not free."""

    def __init__(self) -> None:
        self.there: httpx.AsyncBaseTransport | None = None
        self.is_free: Callable[[], bool] = lambda: True
        self.made: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert self.there is not None
        self.made[f"{request.method} {request.url.host}"] += 1
        while not self.is_free():  # noqa: ASYNC110  what it waits for has no event
            await asyncio.sleep(0.005)
        return await self.there.handle_async_request(request)


@dataclass(frozen=True)
class Cost:
    """What something has cost on every wire; internal calls go both ways, those to Stripe count apart."""

    reservation: Passed
    payment: Passed
    internal_calls: int
    stripe_calls: int
    wal_bytes: int

    def __sub__(self, before: "Cost") -> "Cost":
        return Cost(
            self.reservation - before.reservation,
            self.payment - before.payment,
            self.internal_calls - before.internal_calls,
            self.stripe_calls - before.stripe_calls,
            self.wal_bytes - before.wal_bytes,
        )

    def __str__(self) -> str:
        return (
            f"reservation {self.reservation}; payment {self.payment}; {self.internal_calls} internal calls,"
            f" {self.stripe_calls} calls to Stripe, {self.wal_bytes} bytes of WAL"
        )


class Pair:
    """The two services, their people, and the meters."""

    def __init__(
        self,
        office: BoxOffice,
        payment_database: Database,
        payment_http: httpx.AsyncClient,
        stripe_http: httpx.AsyncClient,
        meters: "Meters",
    ) -> None:
        self.office = office
        self.payment_database = payment_database
        self._payment_http = payment_http
        self._stripe_http = stripe_http
        self.meters = meters
        self._delivered: set[str] = set()

    async def spent(self) -> Cost:
        return await self.meters.read()

    async def book(self, customer: Customer, offer: Offer) -> str:
        """Hold, convert, pay, and come to rest: confirmed, captured, and everybody told, one thing after the other."""
        held = answered(await customer.hold(offer), 201)
        converted = answered(await customer.convert(held["id"]), 201)
        assert converted["outcome"]["type"] == "action_required", converted
        await self._rest()
        await self._pay(converted["outcome"]["client_secret"])
        while await self._deliver_next():
            await self._rest()
        question = "SELECT status FROM reservations WHERE id = $1"
        assert await self.meters.direct["reservation"].fetchval(question, held["id"]) == "confirmed"
        return str(held["id"])

    async def _rest(self) -> None:
        """Wait until nothing runs, doing what the poller of sagas would do when only that is left.

        Both services are looked at one after the other, so work may slip by between them once, but not three times.
        """
        give_up, quiet = monotonic() + _GIVE_UP_S, 0
        while quiet < _QUIET_LOOKS:
            assert monotonic() < give_up, await self.meters.unfinished()
            running, due = await self.meters.left_to_do()
            quiet = 0 if running or due else quiet + 1
            if due and not running:
                await self.office.parts.engine.run_due()
            await asyncio.sleep(0.01)

    async def _pay(self, client_secret: str) -> None:
        """Do what Stripe.js does in a browser."""
        path = f"/v1/payment_intents/{client_secret.partition('_secret_')[0]}/confirm"
        form = {"key": till.PUBLISHABLE_KEY, "client_secret": client_secret, "payment_method": till.GOOD_CARD}
        assert (await self._stripe_http.post(path, data=form)).status_code == 200

    async def _deliver_next(self) -> bool:
        """Deliver the oldest event that Stripe has not told yet; False when there is none."""
        authorization = {"Authorization": f"Bearer {till.SECRET_KEY}"}
        listed = (await self._stripe_http.get("/v1/events", params={"limit": 20}, headers=authorization)).json()["data"]
        news = [one for one in reversed(listed) if one["type"] in HANDLERS and one["id"] not in self._delivered]
        for event in news[:1]:
            self._delivered.add(event["id"])
            body = orjson.dumps(event)
            headers = {"Stripe-Signature": till.signature(body, till.WEBHOOK_SECRETS[0], time())}
            answered(await self._payment_http.post("/webhooks/stripe", content=body, headers=headers))
        return bool(news)


class Meters:
    """Reads every counter; the two connections of its own go past the wires."""

    def __init__(self, wires: dict[str, CountingWire], calls: dict[str, Calls], direct: dict[str, Any]) -> None:
        self._wires = wires
        self._calls = calls
        self.direct = direct

    async def read(self) -> Cost:
        lsn = await self.direct["reservation"].fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        internal = sum(self._calls[way].made.total() for way in ("payment", "reservation"))
        return Cost(
            self._wires["reservation"].passed,
            self._wires["payment"].passed,
            internal,
            self._calls["stripe"].made.total(),
            int(lsn),
        )

    async def unfinished(self) -> list[dict[str, Any]]:
        """Return the rows that are not done, to be shown."""
        questions = (
            ("payment", "SELECT to_jsonb(o) AS row FROM outbox AS o WHERE due_at IS NOT NULL"),
            ("payment", "SELECT to_jsonb(e) AS row FROM webhook_events AS e WHERE due_at IS NOT NULL"),
            ("reservation", "SELECT to_jsonb(s) AS row FROM sagas AS s WHERE lease_until IS NOT NULL"),
        )
        return [row["row"] for name, sql in questions for row in await self.direct[name].fetch(sql)]

    async def left_to_do(self) -> tuple[int, int]:
        """Return how much is being done, and how many sagas are due that nobody has in hand."""
        running = sum([int(await self.direct[name].fetchval(_RUNNING[name])) for name in self.direct])
        return running, int(await self.direct["reservation"].fetchval(_DUE))


@asynccontextmanager
async def open_pair(postgres: Postgres, databases: dict[str, str], folder: Path) -> AsyncIterator[Pair]:
    """Wire the two services to each other, with their lifespans, on two migrated databases."""
    async with AsyncExitStack() as house:
        patch = house.enter_context(pytest.MonkeyPatch.context())
        for module, name in _CLOCKS:
            patch.setattr(module, name, _ASLEEP)
        wires = {service: house.enter_context(CountingWire(postgres.port)) for service in databases}
        urls = {
            service: postgres.url(name).replace(f":{postgres.port}/", f":{wires[service].port}/")
            for service, name in databases.items()
        }
        calls = {way: Calls() for way in ("payment", "reservation", "stripe")}
        stripe = await _open_sandbox(house, folder)
        calls["stripe"].there = stripe
        payment = create_payment_app(
            till.settings_for(
                urls["payment"], internal_signing_keys=box_office.KEYS, **_QUIET_PAYMENT, **_PATIENT_PAYMENT
            ),
            stripe_transport=calls["stripe"],
            reservations_transport=calls["reservation"],
            environment={},
        )
        reservation = create_reservation_app(
            box_office.settings_for(urls["reservation"], **_QUIET_RESERVATION, **_PATIENT_RESERVATION),
            payments_transport=calls["payment"],
            environment={},
        )
        calls["payment"].there, calls["reservation"].there = map(httpx.ASGITransport, (payment, reservation))
        # News comes when no saga is at work, always: an exact figure needs an order of events.
        calls["reservation"].is_free = lambda: not reservation.state.parts.engine._running
        for app in (payment, reservation):
            await house.enter_async_context(app.router.lifespan_context(app))
        clients = [
            await house.enter_async_context(httpx.AsyncClient(transport=there, base_url=base_url, timeout=30))
            for there, base_url in (
                (httpx.ASGITransport(reservation), "http://test"),
                (httpx.ASGITransport(payment), "http://payments"),
                (stripe, "http://stripe"),
            )
        ]
        direct = {service: await asyncpg.connect(postgres.dsn(name)) for service, name in databases.items()}
        for connection in direct.values():
            house.push_async_callback(connection.close)
        office = BoxOffice(reservation, clients[0], None)  # type: ignore[arg-type]  # nobody's script: the real one
        yield Pair(office, payment.state.parts.database, clients[1], clients[2], Meters(wires, calls, direct))


async def _open_sandbox(house: AsyncExitStack, folder: Path) -> httpx.ASGITransport:
    settings = SandboxSettings(
        port=0,
        state_path=folder / f"sandbox-{uuid4().hex}.sqlite",
        secret_key=till.SECRET_KEY,
        publishable_key=till.PUBLISHABLE_KEY,
    )
    app = create_sandbox_app(Sandbox.open(settings))
    await house.enter_async_context(app.router.lifespan_context(app))
    return httpx.ASGITransport(app)
