"""payment_service in this process: Stripe's sandbox behind a line that we can cut, its neighbour a recorder.

No ticker runs: what happens without a request is done by name, so a test decides when.
"""

import hashlib
import hmac
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from pydantic import BaseModel, SecretStr
from sqlalchemy import text

from deploy.embedded.tokens import mint_token
from deploy.stripe_sandbox.app import create_app as create_sandbox_app
from deploy.stripe_sandbox.sandbox import Sandbox
from deploy.stripe_sandbox.settings import Settings as SandboxSettings
from payment_service import app as payment_app
from payment_service.api.dependencies import Parts
from payment_service.settings import PaymentSettings
from payment_service.store import audit
from payment_service.store.tables import metadata
from shared.clock import SystemClock
from shared.invariants import check_all
from shared.payment_contract import (
    TO_PAYMENT_SERVICE,
    TO_RESERVATION_SERVICE,
    CancelPayment,
    CapturePayment,
    CreatePayment,
    KnownVersion,
    PaymentAnswer,
    PaymentEvent,
    PaymentEventReceipt,
    PaymentView,
    RefundPayment,
)
from shared.signing import InternalSigner
from shared.ticker import Job
from tests.answers import answered
from tests.payment.line_to_stripe import Line

JWT_SECRET = "a-secret-of-the-identity-provider-of-these-tests"
WEBHOOK_SECRETS = ("whsec_the_old_one", "whsec_the_new_one")
BEARER = "a-bearer-secret-for-when-signatures-are-off"
KEYS = (("k1", SecretStr("an-internal-key-of-these-tests")),)
SECRET_KEY, PUBLISHABLE_KEY = "sk_test_till", "pk_test_till"
GOOD_CARD, DECLINED_CARD = "pm_card_visa", "pm_card_visa_chargeDeclinedInsufficientFunds"


def settings_for(database_url: str, **changed: Any) -> PaymentSettings:
    """Return settings as in production but for secrets, one attempt a call, no waiting, and breakers that seldom open."""
    values: dict[str, Any] = {
        "payment_database_url": SecretStr(database_url),
        "auth_jwt_secret": SecretStr(JWT_SECRET),
        "internal_signing_keys": KEYS,
        "internal_bearer_secret": SecretStr(BEARER),
        "stripe_api_base": "http://stripe",
        "stripe_secret_key": SecretStr(SECRET_KEY),
        "stripe_publishable_key": PUBLISHABLE_KEY,
        "stripe_webhook_secrets": tuple(SecretStr(secret) for secret in WEBHOOK_SECRETS),
        "retry_max_attempts": 1,
        "retry_first_wait_s": 0.0,
        "retry_max_wait_s": 0.0,
        "breaker_min_calls": 1000,
        "refresh_interval_s": 0.001,
        "webhook_looks_per_s": 1000.0,
        "database_pool_timeout_s": 10.0,
        "outbox_answered_wait_s": 0.0,
    }
    return PaymentSettings(**(values | changed))


class Neighbour:
    """reservation_service as a recorder of what it is told; it checks signatures like the real one."""

    def __init__(self) -> None:
        self.told: list[PaymentEvent] = []
        self.keys: list[str] = []
        self.trouble: deque[int | Exception] = deque()
        self.authorization: list[str | None] = []
        self.known: list[KnownVersion] = []
        self._signer = InternalSigner(KEYS, tag=TO_RESERVATION_SERVICE, clock=SystemClock())

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.trouble:
            trouble = self.trouble.popleft()
            if isinstance(trouble, Exception):
                raise trouble
            return httpx.Response(trouble)
        self.authorization.append(request.headers.get("authorization"))
        if "signature" in request.headers:
            self._signer.verify(request.method, str(request.url), dict(request.headers), request.content)
        self.told.append(PaymentEvent.model_validate_json(request.content))
        self.keys.append(request.headers["idempotency-key"])
        receipt = PaymentEventReceipt(result="applied", known=tuple(self.known))
        # Without anything to add it is what an older release says.
        return httpx.Response(200, content=receipt.model_dump_json(exclude_defaults=True))


class Client:
    """reservation_service's side of the conversation, with keys as its saga makes them."""

    def __init__(self, till: "Till") -> None:
        self._till = till

    async def create(self, order: CreatePayment) -> PaymentAnswer:
        return await self._act("", order, key=f"{order.payment_id}:create")

    async def capture(self, payment_id: UUID) -> PaymentAnswer:
        return await self._act(f"/{payment_id}/capture", CapturePayment(), key=f"{payment_id}:capture")

    async def cancel(self, payment_id: UUID, order: CancelPayment) -> PaymentAnswer:
        return await self._act(f"/{payment_id}/cancel", order, key=f"{payment_id}:cancel")

    async def refund(self, payment_id: UUID, order: RefundPayment) -> PaymentAnswer:
        return await self._act(f"/{payment_id}/refunds", order, key=f"{order.refund_id}:refund")

    async def _act(self, path: str, body: BaseModel, *, key: str) -> PaymentAnswer:
        response = await self._till.post(f"/internal/v1/payments{path}", body.model_dump(mode="json"), key=key)
        return PaymentAnswer.model_validate(answered(response))

    async def get(self, payment_id: UUID) -> PaymentAnswer:
        return PaymentAnswer.model_validate(
            answered(await self._till.signed_get(f"/internal/v1/payments/{payment_id}"))
        )


class Till:
    """The service, its neighbours on both sides, and its jobs."""

    def __init__(
        self, parts: Parts, http: httpx.AsyncClient, line: Line, neighbour: Neighbour, jobs: Sequence[Job]
    ) -> None:
        self.parts = parts
        self.http = http
        self.line = line
        self.neighbour = neighbour
        self.signer = InternalSigner(KEYS, tag=TO_PAYMENT_SERVICE, clock=SystemClock())
        self.client = Client(self)
        self._jobs = {job.name: job for job in jobs}
        self._stripe = httpx.AsyncClient(transport=line.sandbox, base_url="http://stripe", timeout=30)

    # the saga's side

    def order(self, **changed: Any) -> CreatePayment:
        values = {"payment_id": uuid4(), "reservation_id": uuid4(), "generation": 1, "amount": 4500, "currency": "EUR"}
        return CreatePayment.model_validate(values | changed)

    async def created(self, order: CreatePayment | None = None) -> PaymentView:
        """Set a payment up; it waits for a card."""
        return view(await self.client.create(order or self.order()))

    async def authorized(self, **changed: Any) -> PaymentView:
        """Set a payment up and let the guest's bank reserve the money."""
        payment = await self.created(self.order(**changed))
        await self.pay(payment)
        return await self.seen(payment.id)

    async def captured(self, **changed: Any) -> PaymentView:
        payment = await self.authorized(**changed)
        return view(await self.client.capture(payment.id))

    async def cancel(self, payment: PaymentView | CreatePayment) -> PaymentAnswer:
        payment_id = payment.id if isinstance(payment, PaymentView) else payment.payment_id
        body = CancelPayment(reservation_id=payment.reservation_id, generation=payment.generation)
        return await self.client.cancel(payment_id, body)

    async def refund(self, payment: PaymentView, amount: int, refund_id: UUID | None = None) -> PaymentAnswer:
        return await self.client.refund(payment.id, RefundPayment(refund_id=refund_id or uuid4(), amount=amount))

    async def seen(self, payment_id: UUID) -> PaymentView:
        return view(await self.client.get(payment_id))

    async def post(self, path: str, body: Any, *, key: str | None = None, **headers: str) -> httpx.Response:
        """Send a signed POST as reservation_service would."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"idempotency-key": key} if key else {}
        request = self.http.build_request(
            "POST", path, content=content, headers={"content-type": "application/json", **named, **headers}
        )
        self.signer.sign("POST", str(request.url), request.headers, content)
        return await self.http.send(request)

    async def signed_get(self, path: str) -> httpx.Response:
        request = self.http.build_request("GET", path)
        self.signer.sign("GET", str(request.url), request.headers, b"")
        return await self.http.send(request)

    # the guest's and Stripe's side

    async def pay(self, payment: PaymentView, card: str = GOOD_CARD) -> httpx.Response:
        """Confirm as Stripe.js does in the guest's browser."""
        assert payment.client_secret
        form = {"key": payment.publishable_key, "client_secret": payment.client_secret, "payment_method": card}
        return await self._stripe.post(f"/v1/payment_intents/{intent_id(payment)}/confirm", data=form)

    async def pay_with_number(self, payment: PaymentView, number: str) -> httpx.Response:
        """Confirm with a card typed in, which decides what becomes of it later."""
        card = {"number": number, "exp_month": "12", "exp_year": "2040", "cvc": "123"}
        form = {"key": payment.publishable_key, "client_secret": payment.client_secret}
        form |= {"payment_method_data[type]": "card"} | {f"payment_method_data[card][{k}]": v for k, v in card.items()}
        return await self._stripe.post(f"/v1/payment_intents/{intent_id(payment)}/confirm", data=form)

    async def at_stripe(self, method: str, path: str, **form: Any) -> Any:
        """Do something with Stripe's secret key, as a person in its dashboard does."""
        options = {"data": form} if method == "POST" else {"params": form}
        return answered_by_stripe(
            await self._stripe.request(method, path, headers={"Authorization": f"Bearer {SECRET_KEY}"}, **options)
        )

    async def sandbox(self, method: str, path: str, **body: Any) -> Any:
        """Look into the sandbox, or steer it."""
        options = {"json": body} if method == "POST" else {}
        return answered_by_stripe(await self._stripe.request(method, f"/_sandbox{path}", **options))

    async def intents_of(self, reservation_id: UUID) -> list[dict[str, Any]]:
        """Return the lines of Stripe's book about a booking."""
        book = (await self.sandbox("GET", "/book"))["payment_intents"]
        return [line for line in book if line["metadata"].get("reservation_id") == str(reservation_id)]

    async def stripe_events(self, *types: str) -> list[dict[str, Any]]:
        """Return what Stripe has to tell, oldest first."""
        listed = (await self.at_stripe("GET", "/v1/events", limit=100))["data"]
        return [event for event in reversed(listed) if not types or event["type"] in types]

    async def deliver(
        self, event: Any, *, secret: str = WEBHOOK_SECRETS[0], at_s: float | None = None
    ) -> httpx.Response:
        """Deliver an event as Stripe signs it; bytes are delivered as they are."""
        body = event if isinstance(event, bytes) else orjson.dumps(event)
        headers = {"Stripe-Signature": signature(body, secret, time() if at_s is None else at_s)}
        return await self.http.post("/webhooks/stripe", content=body, headers=headers)

    async def deliver_all(self, *types: str) -> None:
        for event in await self.stripe_events(*types):
            answered(await self.deliver(event))

    # what happens without a request

    async def run(self, job: str) -> int:
        """Do one batch of a job, by its name in background.py."""
        return await self._jobs[job].run_once()

    async def process(self) -> int:
        return await self.run("process_webhooks")

    async def tell_news(self) -> int:
        return await self.run("deliver_news")

    # operators

    async def admin(
        self, method: str, path: str, *, roles: Sequence[str] = ("operator",), **more: Any
    ) -> httpx.Response:
        token = mint_token(JWT_SECRET, sub="olga", roles=roles, now_s=time())
        return await self.http.request(method, f"/admin/v1{path}", headers={"Authorization": f"Bearer {token}"}, **more)

    async def event_rows(self) -> list[dict[str, Any]]:
        """Return stored events as operators see them, oldest first."""
        rows: list[dict[str, Any]] = answered(await self.admin("GET", "/webhook-events?limit=100"))["data"]
        return rows[::-1]

    async def sql(self, statement: str, **values: Any) -> Sequence[Any]:
        """Run a statement beside the service; return its rows, if it has any."""
        async with self.parts.database.transaction("test") as tx:
            result = await tx.execute(text(statement), values)
            return result.mappings().all() if result.returns_rows else ()

    async def forge(self, *statements: str, **values: Any) -> None:
        """Run statements that history refuses: its triggers are asleep, and so are foreign keys."""
        async with self.parts.database.transaction("forge") as tx:
            await tx.execute(text("SET LOCAL session_replication_role = replica"))
            for statement in statements:
                await tx.execute(text(statement), values)

    async def sweep(self) -> None:
        """Empty every table."""
        await self.forge(f"TRUNCATE {', '.join(table.name for table in metadata.sorted_tables)}")

    async def make_all_due(self) -> None:
        """Let every wait be over, as if time had passed."""
        await self.sql("UPDATE webhook_events SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
        await self.sql("UPDATE outbox SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")

    async def violated(self) -> dict[str, int]:
        """Return the invariants that do not hold, with the number of violations."""
        async with self.parts.database.snapshot() as connection:
            found = {found.id: found.violations for found in await check_all(connection, audit.INVARIANTS)}
        return {name: count for name, count in found.items() if count}

    async def close(self) -> None:
        await self._stripe.aclose()
        await self.parts.database.close()


def view(answer: PaymentAnswer) -> PaymentView:
    assert answer.payment is not None, answer
    return answer.payment


def intent_id(payment: PaymentView) -> str:
    """Return Stripe's id, which the client secret begins with."""
    assert payment.client_secret
    return payment.client_secret.partition("_secret_")[0]


async def given_back_by_hand(till: Till, payment: PaymentView, amount: int) -> dict[str, Any]:
    """Let a person refund so much in Stripe's dashboard, and let us hear of it; return Stripe's refund."""
    refund: dict[str, Any] = await till.at_stripe(
        "POST", "/v1/refunds", payment_intent=intent_id(payment), amount=amount
    )
    await till.deliver_all("refund.created")
    await till.process()
    return refund


def signature(body: bytes, secret: str, at_s: float) -> str:
    digest = hmac.new(secret.encode(), b"%d.%b" % (at_s, body), hashlib.sha256).hexdigest()
    return f"t={int(at_s)},v1={digest}"


def answered_by_stripe(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


@asynccontextmanager
async def open_till(
    database_url: str, folder: Path, patch: pytest.MonkeyPatch, *, settles_at_the_door: bool = False, **changed: Any
) -> AsyncIterator[Till]:
    """Wire the service as `create_app` does, start none of its tickers, and keep their table of jobs.

    Unless a test is about the door, Stripe is asked about every event: most tests are about that.
    """
    sandbox = create_sandbox_app(
        Sandbox.open(
            SandboxSettings(
                port=0, state_path=folder / "sandbox.sqlite", secret_key=SECRET_KEY, publishable_key=PUBLISHABLE_KEY
            )
        )
    )
    line, neighbour, kept = Line(httpx.ASGITransport(sandbox)), Neighbour(), []
    make_jobs = payment_app.jobs

    def keep(*parts: Any) -> tuple[Job, ...]:
        kept.extend(make_jobs(*parts))
        return tuple(kept)

    patch.setattr(payment_app, "jobs", keep)
    app = payment_app.create_app(
        settings_for(database_url, **changed),
        stripe_transport=line,
        reservations_transport=httpx.MockTransport(neighbour),
        environment={"FLAG_SETTLE_AT_THE_DOOR": str(settles_at_the_door)},
    )
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://payments", timeout=30)
    async with sandbox.router.lifespan_context(sandbox), http:
        till = Till(app.state.parts, http, line, neighbour, kept)
        try:
            yield till
        finally:
            await till.close()
