"""The outermost layer of each app: request id, size limits, timing, security headers, and one metric.

Pure ASGI, because a `BaseHTTPMiddleware` costs more than a whole route.
"""

import contextlib
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from shared.problems import HeadersTooLarge, PayloadTooLarge, Problem, UriTooLong, problem_response
from shared.telemetry import QUIET_PATHS, InItsTrace, route_of

API_BODY_LIMIT_BYTES = 64 * 1024
ARRIVED_AT = "holdfast.arrived_at"  # where a request's scope says when it came, in seconds of `time.perf_counter`
_BUCKETS = (0.005, 0.01, 0.015, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# Counted in place of an answer that nobody waited for: whatever it was, it is not what callers have met (nginx' word).
GONE = 499
# Longer than anything that a client of ours sends, tokens of large identity providers included.
_ADDRESS_LIMIT_BYTES = 4 * 1024
_HEADERS_LIMIT_BYTES = 16 * 1024
_HEADERS_MAX = 100
_STREAM = b"text/event-stream"
# What structlog's own `bind_contextvars` would make for it, which looks at all others too, with each request.
_REQUEST_ID: ContextVar[str] = ContextVar(f"{STRUCTLOG_KEY_PREFIX}request_id")
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
    (b"strict-transport-security", b"max-age=31536000"),
    # An answer of the API is data: whatever somebody gets a browser to show of it loads and runs nothing.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class BodyTooLarge(Exception):
    """More bytes came than this path takes."""


def request_metric(registry: CollectorRegistry) -> Histogram:
    """Declare the request histogram, named as OpenTelemetry's semantic conventions name it."""
    return Histogram(
        "http_server_request_duration_seconds",
        "How long do answers take, and how many of which kind are there? 499: nobody waited for it.",
        ["http_request_method", "http_route", "http_response_status_code"],
        buckets=_BUCKETS,
        registry=registry,
    )


class HttpEdge:
    """Wraps an app. `body_limits` maps exact paths to their limit in bytes; all others take 64 KiB."""

    def __init__(
        self,
        app: ASGIApp,
        metric: Histogram,
        body_limits: dict[str, int] | None = None,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._metric = metric
        self._body_limits = body_limits or {}
        self._monotonic = monotonic
        self._kinds: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in QUIET_PATHS:
            await self._app(scope, receive, send)
            return
        limit_bytes = self._body_limits.get(scope["path"], API_BODY_LIMIT_BYTES)
        exchange = _Exchange(scope, receive, send, limit_bytes, self._monotonic)
        scope["request_id"] = exchange.request_id
        token = _REQUEST_ID.set(exchange.request_id)
        try:
            with InItsTrace(scope):
                await self._answer(exchange)
        finally:
            _REQUEST_ID.reset(token)
            status = GONE if exchange.gone_before else exchange.status
            self._counted(scope["method"], route_of(scope), status).observe(exchange.elapsed_s())

    def _counted(self, method: str, route: str, status: int) -> Histogram:
        """Return where such an answer is counted; there are as many as routes have statuses."""
        known = self._kinds.get((method, route, status))
        if known is None:
            known = self._kinds[method, route, status] = self._metric.labels(method, route, str(status))
        return known

    async def _answer(self, exchange: "_Exchange") -> None:
        refusal = exchange.refusal()
        if refusal is not None:
            await exchange.refuse(refusal)
            return
        with contextlib.suppress(BodyTooLarge):
            await self._app(exchange.scope, exchange.receive, exchange.send)
        if exchange.exceeded and not exchange.started:
            await exchange.refuse(PayloadTooLarge())


class _Exchange:
    """One request on its way through: counts the bytes that come in, dresses the answer that goes out."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, limit_bytes: int, monotonic: Callable[[], float]
    ) -> None:
        self.scope = scope
        self.request_id = secrets.token_hex(16)
        self.started = False
        self.exceeded = False
        self.gone_before = False  # the caller, before our answer began
        self._refusing = False
        self.status = 500
        self._receive = receive
        self._send = send
        self._limit_bytes = limit_bytes
        self._received_bytes = 0
        self._monotonic = monotonic
        self._arrived_at: float = scope.get(ARRIVED_AT) or monotonic()
        self._took_s: float | None = None

    def elapsed_s(self) -> float:
        """Return how long the answer has taken so far; that of a stream, how long until it began."""
        return self._monotonic() - self._arrived_at if self._took_s is None else self._took_s

    def refusal(self) -> Problem | None:
        """Say what is wrong with the head of the request, before a byte of its body is read."""
        if len(self.scope.get("raw_path") or b"") + len(self.scope["query_string"]) > _ADDRESS_LIMIT_BYTES:
            return UriTooLong()
        headers = self.scope["headers"]
        size_bytes = sum(len(name) + len(value) for name, value in headers)
        if size_bytes > _HEADERS_LIMIT_BYTES or len(headers) > _HEADERS_MAX:
            return HeadersTooLarge()
        return PayloadTooLarge() if self._announced_too_much() else None

    def _announced_too_much(self) -> bool:
        for name, value in self.scope["headers"]:
            if name == b"content-length":
                return not value.isdigit() or int(value) > self._limit_bytes
        return False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.started:
            self.gone_before = True
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > self._limit_bytes:
            self.exceeded = True
            raise BodyTooLarge
        return message

    async def send(self, message: Message) -> None:
        if self.exceeded and not self.started and not self._refusing:
            return  # the framework calls an unreadable body malformed; that is not what is wrong with this one
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            timing = f"app;dur={self.elapsed_s() * 1000:.1f}".encode()
            headers: list[Any] = list(message.get("headers", ()))
            said = dict(headers)  # names are in lower case, as ASGI wants them
            if said.get(b"content-type", b"").startswith(_STREAM):
                self._took_s = self.elapsed_s()  # a stream has answered when it begins; staying open is no latency
            headers += [header for header in _SECURITY_HEADERS if header[0] not in said]
            headers += [(b"request-id", self.request_id.encode()), (b"server-timing", timing)]
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        self._refusing = True
        instance = f"urn:request:{self.request_id}"
        response = problem_response(problem, request_id=self.request_id, instance=instance)
        await response(self.scope, self._receive, self.send)
