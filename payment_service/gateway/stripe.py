"""The only file that knows Stripe: its calls, and what each of its failures says about what has happened.

What was on the wire decides. A connection that never came about is NOT_SENT; an answer that never came, or that is
no answer, is UNKNOWN; a definite refusal is DECLINED. Traps of the SDK: it retries, waits 80 s and writes a telemetry
file unless told not to, and on strange answers it raises whatever its own parser raised.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import httpx
import stripe
import structlog
from pydantic import SecretStr

from payment_service.gateway import wire_errors
from payment_service.gateway import wire_objects as wire
from payment_service.gateway.results import DisputeSeen, EndpointSeen, EventSeen, IntentSeen, Page, RefundSeen, Result
from payment_service.states import Book
from shared.payment_contract import Outcome

log = structlog.get_logger()

T = TypeVar("T")

_ANSWER_LIMIT_BYTES = 1024 * 1024
_NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

stripe.enable_telemetry = False


class _AnswerTooLarge(Exception):
    """More bytes came than any object of Stripe has, or packed ones, whose number nobody knows before."""


class _Transport(stripe.HTTPXClient):
    """The SDK's httpx transport on a client of ours, reading no more than a bounded answer."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        stripe.HTTPClient.__init__(self)
        self.httpx = httpx
        self._client_async = client
        self._client = None
        self._timeout = None

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        content = bytearray()
        try:
            async with self._client_async.stream(method, url, headers=headers, content=post_data) as response:
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise _AnswerTooLarge
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > _ANSWER_LIMIT_BYTES:
                        raise _AnswerTooLarge
        except (httpx.HTTPError, httpx.InvalidURL, _AnswerTooLarge) as error:
            raise stripe.APIConnectionError("no answer") from error  # type: ignore[no-untyped-call]
        return bytes(content), response.status_code, response.headers


class StripeGateway:
    """Calls Stripe once per method call; `guarded` adds patience. Every method returns a Result and never raises."""

    def __init__(self, client: stripe.StripeClient, http: httpx.AsyncClient, *, system: str) -> None:
        self._events = client.v1.events
        self._intents = client.v1.payment_intents
        self._refunds = client.v1.refunds
        self._endpoints = client.v1.webhook_endpoints
        self._disputes = client.v1.disputes
        self._http = http
        self._system = system

    @classmethod
    def connect(
        cls,
        secret_key: SecretStr,
        *,
        api_base: str,
        timeout_s: float,
        connect_timeout_s: float,
        system: str = "holdfast",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> "StripeGateway":
        """Make the client; no connection is opened yet.

        `api_base` empty means Stripe's own; `system` marks what we make there, for accounts that others use too.
        """
        http = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(timeout_s, connect=connect_timeout_s, pool=connect_timeout_s),
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=16),
            verify=ssl.create_default_context() if not api_base.startswith("http://") else False,
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
        )
        client = stripe.StripeClient(
            secret_key.get_secret_value(),
            base_addresses={"api": api_base.rstrip("/")} if api_base else None,
            max_network_retries=0,
            http_client=_Transport(http),
        )
        return cls(client, http, system=system)

    async def close(self) -> None:
        await self._http.aclose()

    async def create_intent(
        self,
        *,
        amount: int,
        currency: str,
        capture_method: str,
        metadata: dict[str, str],
        key: str,
    ) -> Result[IntentSeen]:
        params: Any = {
            "amount": amount,
            "currency": currency.lower(),
            "capture_method": capture_method,
            "allowed_payment_method_types": ["card"],  # asynchronous methods would hold seats for days
            "metadata": metadata | {"system": self._system},
            "expand": ["latest_charge"],
        }
        return await _ask(wire.read_intent, lambda: self._intents.create_async(params, {"idempotency_key": key}))

    async def retrieve_intent(self, intent_id: str) -> Result[IntentSeen]:
        return await _ask(
            wire.read_intent, lambda: self._intents.retrieve_async(intent_id, {"expand": ["latest_charge"]})
        )

    async def capture_intent(self, intent_id: str, *, key: str) -> Result[IntentSeen]:
        """Take the full amount that was authorised."""
        return await _ask(
            wire.read_intent,
            lambda: self._intents.capture_async(intent_id, {"expand": ["latest_charge"]}, {"idempotency_key": key}),
        )

    async def cancel_intent(self, intent_id: str, *, key: str) -> Result[IntentSeen]:
        return await _ask(
            wire.read_intent,
            lambda: self._intents.cancel_async(
                intent_id, {"cancellation_reason": "abandoned"}, {"idempotency_key": key}
            ),
        )

    async def intents_of(
        self, payment_id: UUID, *, since: datetime, until: datetime, after: str | None
    ) -> Result[Page[str]]:
        """Return the ids of those on a page of all intents of a stretch of time that carry our id, whoever made them."""
        params: Any = _window(since, until, after)
        read = partial(wire.read_page, partial(wire.read_id_of, payment_id))
        return await _ask(read, lambda: self._intents.list_async(params))

    async def create_refund(
        self, *, intent_id: str, amount: int, metadata: dict[str, str], key: str
    ) -> Result[RefundSeen]:
        marked = metadata | {"system": self._system}
        params: Any = {"payment_intent": intent_id, "amount": amount, "metadata": marked}
        return await _ask(wire.read_refund, lambda: self._refunds.create_async(params, {"idempotency_key": key}))

    async def retrieve_refund(self, stripe_refund_id: str) -> Result[RefundSeen]:
        return await _ask(wire.read_refund, lambda: self._refunds.retrieve_async(stripe_refund_id))

    async def retrieve_dispute(self, dispute_id: str) -> Result[DisputeSeen]:
        return await _ask(wire.read_dispute, lambda: self._disputes.retrieve_async(dispute_id))

    async def list_refunds(self, intent_id: str) -> Result[Sequence[RefundSeen]]:
        """Return the refunds of one payment, newest first; a hundred are more than any payment has."""
        return await _ask(
            lambda document: [wire.read_refund(item) for item in wire.read_list(document)[0]],
            lambda: self._refunds.list_async({"payment_intent": intent_id, "limit": 100}),
        )

    async def list_webhook_endpoints(self) -> Result[Sequence[EndpointSeen]]:
        """Return the account's webhook endpoints; Stripe allows sixteen."""
        return await _ask(
            lambda document: [wire.read_endpoint(item) for item in wire.read_list(document)[0]],
            lambda: self._endpoints.list_async({"limit": 100}),
        )

    async def list_events(
        self, types: Sequence[str], *, since: datetime, until: datetime, after: str | None
    ) -> Result[Page[EventSeen]]:
        """Return a page of events of these types (at most 20), newest first; Stripe keeps thirty days of them."""
        params: Any = _window(since, until, after) | {"types": list(types)}
        return await _ask(partial(wire.read_page, wire.read_event), lambda: self._events.list_async(params))

    async def list_intents(self, *, since: datetime, until: datetime, after: str | None) -> Result[Page[IntentSeen]]:
        """Return a page of PaymentIntents that this system made, newest first; those of others are left out."""
        params: Any = _window(since, until, after)
        page = await _ask(partial(wire.read_page, wire.read_intent), lambda: self._intents.list_async(params))
        return self._ours(page)

    async def export_page(self, book: Book, *, after: str | None) -> Result[Page[Any]]:
        """Return a page of all intents that this system made, or of all refunds or disputes there are; newest first."""
        params: Any = {"limit": 100} | ({"starting_after": after} if after else {})
        match book:
            case Book.INTENTS:
                read = partial(wire.read_page, wire.read_intent)
                return self._ours(await _ask(read, lambda: self._intents.list_async(params)))
            case Book.REFUNDS:
                return await _ask(partial(wire.read_page, wire.read_refund), lambda: self._refunds.list_async(params))
            case Book.DISPUTES:
                return await _ask(partial(wire.read_page, wire.read_dispute), lambda: self._disputes.list_async(params))

    def _ours(self, page: Result[Page[IntentSeen]]) -> Result[Page[IntentSeen]]:
        if page.value is None:
            return page
        ours = tuple(seen for seen in page.value.items if seen.payment_id and seen.system == self._system)
        return replace(page, value=replace(page.value, items=ours))


def _window(since: datetime, until: datetime, after: str | None) -> dict[str, Any]:
    created = {"gte": int(since.timestamp()), "lte": int(until.timestamp())}
    return {"limit": 100, "created": created} | ({"starting_after": after} if after else {})


async def _ask(read: Callable[[Any], T], send: Callable[[], Awaitable[Any]]) -> Result[T]:
    """Make one call and translate whatever comes of it."""
    try:
        answer = await send()
        return Result(Outcome.OK, read(answer.last_response.data))
    except stripe.StripeError as error:
        return _translated(error)
    except Exception as error:  # noqa: BLE001  what a strange answer does to a parser is not worth a list
        log.error("stripe_answer_malformed", error=type(error).__name__)  # noqa: TRY400  a stack may hold the answer
        return Result(Outcome.UNKNOWN, code="malformed_answer", again=True, sick=True)


def _translated(error: stripe.StripeError) -> Result[Any]:
    status = error.http_status
    if status is None:
        return _without_answer(error)
    headers = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
    advice = headers.get("stripe-should-retry")
    replayed = headers.get("idempotent-replayed") == "true"
    wait_s = wire_errors.seconds(headers.get("retry-after"))
    if status == 429:
        return Result(Outcome.NOT_SENT, code="rate_limited", retry_after_s=wait_s, again=True)
    if status in {401, 403}:
        log.error("stripe_refuses_our_key", http_status=status)
        return Result(Outcome.NOT_SENT, code="provider_misconfigured")
    if status >= 500 or status in {408, 409} or status < 400:
        # A stored 500 comes back for as long as the key lives; a 409 is a race with ourselves.
        again = advice != "false" and not replayed
        code, sick = wire_errors.code(error.json_body) or f"http_{status}", status != 409 and not replayed
        return Result(Outcome.UNKNOWN, code=code, retry_after_s=wait_s, again=again, key_is_spent=replayed, sick=sick)
    if isinstance(error, stripe.IdempotencyError):
        log.error("stripe_key_reused_with_other_parameters")
        return Result(Outcome.UNKNOWN, code="idempotency_key_mismatch")
    if not wire_errors.code(error.json_body) and not isinstance(error, stripe.CardError | stripe.InvalidRequestError):
        # Some proxy's page, not Stripe's word.
        return Result(Outcome.UNKNOWN, code=f"http_{status}", again=True, sick=True)
    return _declined(error, again=advice == "true")


def _without_answer(error: stripe.StripeError) -> Result[Any]:
    """Tell a call that never left from one whose answer never came."""
    cause = error.__cause__
    if isinstance(cause, _NEVER_CONNECTED):
        return Result(Outcome.NOT_SENT, code="provider_unreachable", again=True, sick=True)
    if isinstance(error, stripe.AuthenticationError):  # raised by the SDK itself when there is no key at all
        return Result(Outcome.NOT_SENT, code="provider_misconfigured")
    too_large = isinstance(cause, _AnswerTooLarge)
    code = "malformed_answer" if too_large else "no_answer"
    return Result(Outcome.UNKNOWN, code=code, again=not too_large, sick=True)


def _declined(error: stripe.StripeError, *, again: bool) -> Result[Any]:
    if again:
        return Result(Outcome.NOT_SENT, code=wire_errors.code(error.json_body) or "refused_for_now", again=True)
    if isinstance(error, stripe.CardError):
        said = wire_errors.said(error.json_body)
        return Result(
            Outcome.DECLINED,
            code=wire_errors.code(error.json_body) or "card_declined",
            decline_class=wire.decline_class(*wire_errors.decline_codes(said)),
        )
    return Result(Outcome.DECLINED, code=wire_errors.code(error.json_body) or "refused")
