"""The one way to payment_service: signed, keyed, timed, and honest about what is known of a call."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import httpx
import orjson
import structlog
from pydantic import BaseModel, ValidationError

from shared.internal_calls import InternalSeal
from shared.payment_contract import (
    CallError,
    CancelPayment,
    CapturePayment,
    CreatePayment,
    Outcome,
    PaymentAnswer,
    PaymentMoment,
    PaymentTimeline,
    RefundPayment,
)

log = structlog.get_logger()

# Raised before a byte of the request has left: the other side cannot have acted on it.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class PaymentsClient:
    """Speaks `shared.payment_contract`. Never raises for a call that failed: it returns what is known of it."""

    def __init__(self, http: httpx.AsyncClient, seal: InternalSeal, *, call_timeout_s: float) -> None:
        """`http` has the base URL and the timeouts of each read; a whole call takes no longer than `call_timeout_s`."""
        self._http = http
        self._seal = seal
        self._call_timeout_s = call_timeout_s

    async def create(self, body: CreatePayment) -> PaymentAnswer:
        return await self._post("/internal/v1/payments", body, key=f"{body.payment_id}:create")

    async def capture(self, payment_id: UUID) -> PaymentAnswer:
        path = f"/internal/v1/payments/{payment_id}/capture"
        return await self._post(path, CapturePayment(), key=f"{payment_id}:capture")

    async def cancel(self, payment_id: UUID, body: CancelPayment) -> PaymentAnswer:
        """Cancel a payment. Why is part of the key: who cancels for another reason must not hear an answer of before."""
        path = f"/internal/v1/payments/{payment_id}/cancel"
        return await self._post(path, body, key=f"{payment_id}:cancel:{body.reason}")

    async def refund(self, payment_id: UUID, body: RefundPayment) -> PaymentAnswer:
        path = f"/internal/v1/payments/{payment_id}/refunds"
        return await self._post(path, body, key=f"{body.refund_id}:refund")

    async def get(self, payment_id: UUID) -> PaymentAnswer:
        """Ask how a payment stands; payment_service asks the provider if its own answer is old."""
        return await self._send("GET", f"/internal/v1/payments/{payment_id}", b"", {})

    async def timeline(self, payment_id: UUID, *, within_s: float) -> Sequence[PaymentMoment] | None:
        """Return what happened to a payment; nothing of one that was never heard of, None when nobody tells in time."""
        path = f"/internal/v1/payments/{payment_id}/timeline"
        request = self._http.build_request("GET", path)
        self._seal.put_on(request.method, str(request.url), request.headers, b"")
        try:
            async with asyncio.timeout(within_s):
                response = await self._http.send(request)
            if response.status_code == httpx.codes.NOT_FOUND:
                return ()
            return PaymentTimeline.model_validate_json(response.raise_for_status().content).data
        except (TimeoutError, httpx.HTTPError, ValidationError):
            return None

    async def _post(self, path: str, body: BaseModel, *, key: str) -> PaymentAnswer:
        content = orjson.dumps(body.model_dump(mode="json"))
        return await self._send("POST", path, content, {"idempotency-key": key, "content-type": "application/json"})

    async def _send(self, method: str, path: str, content: bytes, headers: dict[str, str]) -> PaymentAnswer:
        request = self._http.build_request(method, path, content=content or None, headers=headers)
        self._seal.put_on(request.method, str(request.url), request.headers, content)
        try:
            async with asyncio.timeout(self._call_timeout_s):
                response = await self._http.send(request)
        except TimeoutError:  # an answer that trickles in byte by byte never meets the timeout of a single read
            return _trouble(Outcome.UNKNOWN, path, "no answer in time")
        except _NOT_SENT as error:
            return _trouble(Outcome.NOT_SENT, path, type(error).__name__)
        except httpx.HTTPError as error:
            return _trouble(Outcome.UNKNOWN, path, type(error).__name__)
        return _read(response, path)


def _trouble(outcome: Outcome, path: str, what: str, retry_after_ms: int | None = None) -> PaymentAnswer:
    log.warning("payment_service_trouble", path=path, outcome=str(outcome), what=what)
    detail = "The payment could not be set up right now." if outcome is Outcome.NOT_SENT else "Not known yet."
    error = CallError(code="PAYMENT_SERVICE_UNAVAILABLE", detail=detail, retry_after_ms=retry_after_ms)
    return PaymentAnswer(outcome=outcome, error=error)


def _read(response: httpx.Response, path: str) -> PaymentAnswer:
    if response.status_code == httpx.codes.OK:
        try:
            return PaymentAnswer.model_validate_json(response.content)
        except ValidationError:
            return _trouble(Outcome.UNKNOWN, path, "unreadable answer")
    code = _problem_code(response)
    if code == "IDEMPOTENCY_IN_PROGRESS" or response.is_server_error:
        return _trouble(Outcome.UNKNOWN, path, code)
    if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        log.error("payment_service_refuses_us", path=path, code=code)
        return _trouble(Outcome.NOT_SENT, path, code)
    return PaymentAnswer(outcome=Outcome.DECLINED, error=CallError(code=code, detail="The payment was refused."))


def _problem_code(response: httpx.Response) -> str:
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP_{response.status_code}"
