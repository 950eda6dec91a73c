"""Every refusal leaves the house in one shape: RFC 9457 problem details with a stable code.

Exception
├── Problem            a refusal: the caller can do something about it (4xx)
│   └── ...            each service draws its own tree in `errors.py`
├── Weather            the surroundings fail for a while: 503, try again
└── anything else      a bug: 500 INTERNAL, logged with its stack, shown without it
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from opentelemetry import trace
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

log = structlog.get_logger()


class Problem(Exception):
    """A refusal. Subclasses set `status`, `code` and `title`; `detail` is for people, `extra` for programs."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "BAD_REQUEST"
    title: ClassVar[str] = "The request was refused"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after_ms: int | None = None,
        next_calls: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after_ms = retry_after_ms
        self.next_calls = next_calls
        self.extra = extra

    def document(self, *, request_id: str = "", instance: str = "") -> dict[str, Any]:
        """Return the problem document of RFC 9457, with our members."""
        document: dict[str, Any] = {
            "type": f"/problems/{self.code.lower().replace('_', '-')}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
            "trace_id": current_trace_id(),
            "retryable": self.retryable,
        }
        if self.retry_after_ms is not None:
            document["retry_after_ms"] = self.retry_after_ms
        if self.next_calls:
            document["next"] = dict(self.next_calls)
        return document | self.extra


class Weather(Exception):
    """Something around us is away for a while (database, pool, peer); nothing was done, or it is safe to ask again."""


class ValidationFailed(Problem):
    status, code, title = 422, "VALIDATION_FAILED", "The request does not have the documented form"


def invalid_member(pointer: str, detail: str) -> ValidationFailed:
    """Return the refusal of one member of a body that has its documented form, but means something impossible."""
    return ValidationFailed(errors=[{"in": "body", "pointer": pointer, "detail": detail, "type": "value_error"}])


class MalformedJson(Problem):
    status, code, title = 400, "MALFORMED_JSON", "The body is not JSON"


class PayloadTooLarge(Problem):
    status, code, title = 413, "PAYLOAD_TOO_LARGE", "The body is larger than this endpoint takes"


class RequestTimeout(Problem):
    status, code, title = 408, "REQUEST_TIMEOUT", "The request did not arrive in time"
    retryable = True


class UriTooLong(Problem):
    status, code, title = 414, "URI_TOO_LONG", "The address is longer than any of ours"


class HeadersTooLarge(Problem):
    status, code, title = 431, "HEADERS_TOO_LARGE", "The headers are larger, or more, than we read"


class MalformedRequest(Problem):
    status, code, title = 400, "MALFORMED_REQUEST", "This is not a well-formed HTTP request"


class UnsupportedMediaType(Problem):
    status, code, title = 415, "UNSUPPORTED_MEDIA_TYPE", "Send the body as application/json"


class Unauthenticated(Problem):
    status, code, title = 401, "UNAUTHENTICATED", "A valid bearer token is needed"


class Forbidden(Problem):
    status, code, title = 403, "FORBIDDEN", "This token may not do that"


class NotFound(Problem):
    status, code, title = 404, "NOT_FOUND", "There is nothing here"


class MethodNotAllowed(Problem):
    status, code, title = 405, "METHOD_NOT_ALLOWED", "This path does not take that method"


class IdempotencyKeyMissing(Problem):
    status, code, title = 400, "IDEMPOTENCY_KEY_MISSING", "Send an Idempotency-Key header"


class IdempotencyKeyInvalid(Problem):
    status, code, title = 400, "IDEMPOTENCY_KEY_INVALID", "An Idempotency-Key is 1 to 255 visible ASCII characters"


class IdempotencyKeyReused(Problem):
    status, code, title = 422, "IDEMPOTENCY_KEY_REUSED", "This Idempotency-Key came with another request before"


class IdempotencyInProgress(Problem):
    status, code, title = 409, "IDEMPOTENCY_IN_PROGRESS", "The first request with this key is still running"
    retryable = True


class InternalSignatureInvalid(Problem):
    status, code, title = 401, "INTERNAL_SIGNATURE_INVALID", "Internal calls are signed"


class ServiceUnavailable(Problem):
    status, code, title = 503, "SERVICE_UNAVAILABLE", "Not possible right now; the same call again is safe"
    retryable = True


class Internal(Problem):
    status, code, title = 500, "INTERNAL", "Something broke on our side; the same call with the same key is safe"
    retryable = True


_BY_STATUS: dict[int, type[Problem]] = {
    400: MalformedJson,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
    503: ServiceUnavailable,
}


def current_trace_id() -> str:
    """Return the trace id of the running request, or an empty string outside one."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else ""


def problem_response(problem: Problem, *, request_id: str = "", instance: str = "") -> Response:
    """Render a problem; 503 and 429 always say when to come back, in whole seconds and in milliseconds."""
    if problem.status in {429, 503} and problem.retry_after_ms is None:
        problem.retry_after_ms = 1000
    headers = {}
    if problem.retry_after_ms is not None:
        headers["Retry-After"] = str(max(1, -(-problem.retry_after_ms // 1000)))
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = orjson.dumps(problem.document(request_id=request_id, instance=instance))
    return Response(body, problem.status, headers, media_type="application/problem+json")


def _render(request: Request, problem: Problem) -> Response:
    request_id = request.scope.get("request_id", "")
    return problem_response(problem, request_id=request_id, instance=f"urn:request:{request_id}")


async def _on_problem(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Problem)  # noqa: S101  registered for this class only
    return _render(request, exc)


async def _on_weather(request: Request, exc: Exception) -> Response:
    log.warning("weather", error=type(exc).__name__, detail=str(exc))
    return _render(request, ServiceUnavailable(retry_after_ms=1000))


async def refused(request: Request, refusal: "Problem | Weather") -> Response:
    """Return the answer to a refusal, for whoever stands outside of the framework's handlers."""
    return await (_on_problem if isinstance(refusal, Problem) else _on_weather)(request, refusal)


async def _on_hang_up(request: Request, exc: Exception) -> Response:  # noqa: ARG001  the framework's signature
    """Whoever left in the middle of the body reads no answer, and is no bug of ours."""
    return _render(request, RequestTimeout())


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101  registered for this class only
    response = _render(request, _BY_STATUS.get(exc.status_code, Internal)())
    for name, value in (exc.headers or {}).items():
        response.headers.setdefault(name, value)
    return response


async def _on_validation_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)  # noqa: S101  registered for this class only
    errors = exc.errors()
    if any(error["type"] == "json_invalid" for error in errors):
        return _render(request, MalformedJson())
    if _sent_something_else_than_json(request, errors):
        return _render(request, UnsupportedMediaType())
    return _render(request, ValidationFailed(errors=[_pointer(error) for error in errors[:20]]))


async def _on_bug(request: Request, exc: Exception) -> Response:
    log.error("unhandled", error=type(exc).__name__, exc_info=exc)
    response = _render(request, Internal())
    # The framework answers a bug outside of our edge, which gives every other answer its id.
    response.headers["Request-Id"] = request.scope.get("request_id", "")
    return response


def _sent_something_else_than_json(request: Request, errors: Sequence[Any]) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    wants_body = any(error["loc"][:1] == ("body",) for error in errors)
    return wants_body and media_type != "application/json" and not media_type.endswith("+json")


def _pointer(error: Mapping[str, Any]) -> dict[str, str]:
    """Say where and what is wrong, never what was sent: the input may hold secrets, or not even be JSON."""
    where, *path = error["loc"]
    names = [str(part).encode("ascii", "backslashreplace").decode()[:100] for part in path]
    pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    return {"in": str(where), "pointer": pointer, "detail": str(error["msg"])[:200], "type": str(error["type"])}


def problem_responses(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Describe an endpoint's refusals for its OpenAPI document: every code under its status."""
    described: dict[int | str, dict[str, Any]] = {}
    for problem in sorted(problems, key=lambda problem: (problem.status, problem.code)):
        entry = described.setdefault(
            problem.status, {"description": "", "content": {"application/problem+json": {"schema": _PROBLEM_SCHEMA}}}
        )
        line = f"`{problem.code}`: {problem.title}."
        entry["description"] = f"{entry['description']} {line}".strip()
    return described


_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "code", "detail", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "trace_id": {"type": "string"},
        "retryable": {"type": "boolean"},
        "retry_after_ms": {"type": "integer"},
        "next": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def install_problem_handlers(app: FastAPI) -> None:
    """Make every answer outside success a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(Weather, _on_weather)
    app.add_exception_handler(ClientDisconnect, _on_hang_up)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_bug)
