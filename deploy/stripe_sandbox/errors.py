"""Every refusal of the sandbox with Stripe's status, type and code, so that the SDK raises what it would raise.

ApiError                       400  invalid_request_error
+-- ParametersInvalid          400  never stored under an Idempotency-Key: the operation has not begun
+-- CardDeclined               402  card_error; what it changed stays
"""

from typing import Any

from .state import Document, public


class ApiError(Exception):
    """A refusal with Stripe's body. `stored` says whether its Idempotency-Key replays it."""

    stored = True
    keeps_effects = False

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.error: Document = {"message": message, "type": kind}
        if code is not None:
            self.error |= {"code": code, "doc_url": doc_url(code)}
        if param is not None:
            self.error["param"] = param
        self.error |= {name: value for name, value in more.items() if value is not None}

    def body(self) -> Document:
        return {"error": self.error}


class ParametersInvalid(ApiError):
    """The parameters did not pass; Stripe stores no answer for those."""

    stored = False


class CardDeclined(ApiError):
    """The bank said no, or wants the customer first; the PaymentIntent has taken note of it."""

    keeps_effects = True

    def __init__(self, error: Document, intent: Document | None = None) -> None:
        super().__init__(error["message"], status=402, kind="card_error")
        self.error |= error
        if intent is not None:
            self.error["payment_intent"] = public(intent)


def doc_url(code: str) -> str:
    return f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"


def parameter_missing(param: str) -> ParametersInvalid:
    return ParametersInvalid(f"Missing required param: {param}.", code="parameter_missing", param=param)


_REMOVED = {
    "payment_method_types": "payment_method_types is no longer supported as a parameter since 2026-09-30.endive. Please use "
    "allowed_payment_method_types, or dynamic payment methods."
}


def parameter_unknown(param: str) -> ParametersInvalid:
    if param in _REMOVED:
        return ParametersInvalid(_REMOVED[param], code=f"{param}_no_longer_supported", param=param)
    message = f"Received unknown parameter: {param} (this is the Holdfast sandbox: it covers less than Stripe)"
    return ParametersInvalid(message, code="parameter_unknown", param=param)


def resource_missing(kind: str, object_id: str, param: str) -> ApiError:
    message = f"No such {kind}: '{object_id}'"
    return ApiError(message, status=404, code="resource_missing", param=param)


def unexpected_state(intent: Document, verb: str, allowed: tuple[str, ...]) -> ApiError:
    """Refuse because of the PaymentIntent's status; the body carries it, so that the caller learns the truth at once."""
    message = (
        f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}. "
        f"Only a PaymentIntent with one of the following statuses may be {_PARTICIPLE[verb]}: {', '.join(allowed)}."
    )
    return ApiError(message, code="payment_intent_unexpected_state", payment_intent=public(intent))


_PARTICIPLE = {"confirm": "confirmed", "capture": "captured", "cancel": "canceled", "update": "updated"}


def unrecognized_url(method: str, path: str) -> ApiError:
    return ApiError(
        f"Unrecognized request URL ({method}: {path}). The Holdfast sandbox covers less than Stripe.", status=404
    )


def rate_limited(retry_after_s: float | None = None, code: str = "rate_limit") -> ParametersInvalid:
    """Refuse before anything has begun; Stripe answers 429 in front of its idempotency layer."""
    headers = {"Stripe-Rate-Limited-Reason": "global-rate"}
    if retry_after_s is not None:
        headers["Retry-After"] = f"{retry_after_s:g}"
    return ParametersInvalid("Request rate limit exceeded.", status=429, code=code, headers=headers)


def server_error(status: int, message: str | None = None) -> ApiError:
    return ApiError(message or "An unknown error occurred (injected by a fault).", status=status, kind="api_error")
