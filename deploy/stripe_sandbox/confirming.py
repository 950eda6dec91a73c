"""Confirming a PaymentIntent: the bank agrees, declines, wants to see the customer (3D Secure), or takes its time.

requires_payment_method, requires_confirmation, requires_action  --confirm-->
    requires_action --authenticate--> ...
    requires_capture                      manual capture: the money is reserved
    processing --settle--> succeeded      a bank debit on its way
    succeeded
    requires_payment_method               declined; `last_payment_error` says why, and the error is 402
"""

import hmac

from . import charges, disputes
from .cards import AUTHENTICATION_REQUIRED, Decline, PublishedMethod
from .errors import (
    ApiError,
    CardDeclined,
    ParametersInvalid,
    doc_url,
    parameter_missing,
    resource_missing,
    unexpected_state,
)
from .events import emit
from .parameters import Boolean, Choice, Fields, Integer, Listing, Reader, Text
from .payment_methods import DATA, behaviour, from_data, from_id
from .state import Document, private, public
from .turn import Turn

PUBLIC_CONFIRM_FIELDS: dict[str, Reader] = {
    "client_secret": Text(),
    "expand": Listing(),
    "payment_method": Text(),
    "payment_method_data": DATA,
    "receipt_email": Text(512, clearable=True),
    "return_url": Text(),
    "use_stripe_sdk": Boolean(),
}
CONFIRM_FIELDS = PUBLIC_CONFIRM_FIELDS | {
    "amount_to_confirm": Integer(least=1),
    "capture_method": Choice(("automatic", "automatic_async", "manual")),
    "error_on_requires_action": Boolean(),
    "mandate_data": Fields({"customer_acceptance": Fields({"type": Choice(("offline",))})}),
    "off_session": Boolean(),
}
CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
_SETTLES_AFTER_S = 180


def load(turn: Turn) -> Document:
    """Return the PaymentIntent, which a publishable key may see only with its client secret."""
    intent = turn.state.find("payment_intent", turn.target)
    if intent is None:
        raise resource_missing("payment_intent", turn.target, "intent")
    secret = turn.params.get("client_secret")
    if secret is None and turn.publishable:
        raise parameter_missing("client_secret")
    if secret is not None and not hmac.compare_digest(secret.encode(), intent["client_secret"].encode()):
        raise ApiError(
            "The client_secret provided does not match this PaymentIntent.",
            code="resource_missing",
            param="client_secret",
        )
    return intent


def confirm(turn: Turn) -> Document:
    """POST /v1/payment_intents/{id}/confirm, from our server or, with the publishable key, from the customer's browser."""
    intent = load(turn)
    if intent["status"] not in CONFIRMABLE:
        raise unexpected_state(intent, "confirm", CONFIRMABLE)
    if turn.publishable and intent["confirmation_method"] == "manual":
        raise ApiError(
            "This PaymentIntent cannot be confirmed using your publishable key: its confirmation_method is manual."
        )
    if turn.params.get("amount_to_confirm", intent["amount"]) != intent["amount"]:
        raise ApiError(
            "The amount_to_confirm does not match the amount of this PaymentIntent.", param="amount_to_confirm"
        )
    for name in ("receipt_email", "capture_method"):
        if name in turn.params:
            intent[name] = turn.params[name]
    take_method(turn, intent)
    attempt(turn, intent)
    return intent


def take_method(turn: Turn, intent: Document) -> None:
    """Attach the payment method that came with the call, if one did."""
    if "payment_method_data" in turn.params and "payment_method" in turn.params:
        raise ParametersInvalid("You may only specify one of these parameters: payment_method, payment_method_data.")
    if "payment_method_data" in turn.params:
        method = from_data(turn, turn.params["payment_method_data"])
    elif "payment_method" in turn.params:
        method = from_id(turn, turn.params["payment_method"])
    else:
        return
    if method["type"] not in intent["payment_method_types"]:
        message = f"The PaymentMethod provided ({method['type']}) is not allowed for this PaymentIntent: {', '.join(intent['payment_method_types'])}."
        raise ApiError(message, code="payment_intent_incompatible_payment_method", param="payment_method")
    if method["type"] != "card" and intent["capture_method"] == "manual":
        raise ApiError(
            f"{method['type']} does not support manual capture.",
            code="capture_unauthorized_payment",
            param="payment_method",
        )
    intent |= {"payment_method": method["id"], "status": "requires_confirmation", "next_action": None}


def attempt(turn: Turn, intent: Document) -> None:
    """Try to get the money, or the authorisation, with the attached method.

    Raises `CardDeclined`, whose effects stay.
    """
    if intent["payment_method"] is None:
        message = "You cannot confirm this PaymentIntent because it's missing a payment method."
        raise ApiError(message, code="payment_intent_unexpected_state", payment_intent=public(intent))
    _require_return_url(turn, intent)
    method = turn.state.fetch("payment_method", intent["payment_method"])
    private(intent)["return_url"] = turn.params.get("return_url")
    does = behaviour(method)
    if not does.challenge or private(method).get("authenticated"):
        charge(turn, intent, method)
    elif turn.params.get("error_on_requires_action") or turn.params.get("off_session"):
        decline(turn, intent, method, AUTHENTICATION_REQUIRED)
    else:
        _challenge(turn, intent)


def _require_return_url(turn: Turn, intent: Document) -> None:
    """Stripe insists on one when a method might redirect; Stripe.js brings its own, so only servers stumble here."""
    automatic = intent["automatic_payment_methods"]
    if turn.publishable or not automatic or automatic["allow_redirects"] == "never" or "return_url" in turn.params:
        return
    message = (
        "This PaymentIntent accepts payment methods that might redirect your customer, so you must provide a `return_url`. "
        "To refuse those methods, create it with `automatic_payment_methods[allow_redirects]` set to `never`."
    )
    raise ApiError(message, param="return_url")


def _challenge(turn: Turn, intent: Document) -> None:
    page = f"{turn.base_url}/3ds/{intent['id']}?client_secret={intent['client_secret']}"
    return_url = private(intent)["return_url"]
    if return_url:
        action: Document = {"type": "redirect_to_url", "redirect_to_url": {"return_url": return_url, "url": page}}
    else:
        action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": page}}
    intent |= {"status": "requires_action", "next_action": action}
    turn.state.save(intent)
    emit(turn, "payment_intent.requires_action", intent)


def authenticate(turn: Turn, intent: Document, *, succeeded: bool) -> None:
    """The customer has come back from the bank's page.

    Raises `CardDeclined` when the bank then says no to the charge; a failed authentication is no error of this call.
    """
    if intent["status"] != "requires_action":
        raise unexpected_state(intent, "confirm", ("requires_action",))
    method = turn.state.fetch("payment_method", intent["payment_method"])
    if not succeeded:
        _authentication_failed(turn, intent, method)
    elif intent["confirmation_method"] == "manual":
        private(method)["authenticated"] = True
        turn.state.save(method)
        intent |= {"status": "requires_confirmation", "next_action": None}
        turn.state.save(intent)
    else:
        charge(turn, intent, method)


def _authentication_failed(turn: Turn, intent: Document, method: Document) -> None:
    code = "payment_intent_authentication_failure"
    error = {
        "code": code,
        "doc_url": doc_url(code),
        "message": "The provided PaymentMethod has failed authentication. You can provide a new PaymentMethod to attempt this PaymentIntent again.",
        "payment_method": public(method),
        "type": "invalid_request_error",
    }
    _back_to_start(turn, intent, error)


def charge(turn: Turn, intent: Document, method: Document) -> None:
    """Ask the bank."""
    does = behaviour(method)
    if does.settles != "at once":
        _begin_processing(turn, intent, method, does)
    elif does.decline:
        decline(turn, intent, method, does.decline)
    elif intent["capture_method"] == "manual":
        _authorise(turn, intent, method)
    else:
        paid = charges.insert(turn, intent, method, status="succeeded", captured=True)
        emit(turn, "charge.succeeded", paid)
        succeed(turn, intent, paid)


def _authorise(turn: Turn, intent: Document, method: Document) -> None:
    reserved = charges.insert(turn, intent, method, status="succeeded", captured=False)
    intent |= {
        "status": "requires_capture",
        "amount_capturable": intent["amount"],
        "latest_charge": reserved["id"],
        "last_payment_error": None,
        "next_action": None,
    }
    turn.state.save(intent)
    turn.later(charges.CAPTURE_WINDOW_S, "expire_authorisation", intent["id"])
    emit(turn, "charge.succeeded", reserved)
    emit(turn, "payment_intent.amount_capturable_updated", intent)


def succeed(turn: Turn, intent: Document, paid: Document) -> None:
    """The money has come; some test cards then dispute it."""
    intent |= {
        "status": "succeeded",
        "amount_capturable": 0,
        "amount_received": paid["amount_captured"],
        "latest_charge": paid["id"],
        "last_payment_error": None,
        "next_action": None,
    }
    turn.state.save(intent)
    emit(turn, "payment_intent.succeeded", intent)
    disputes.open_by_card(turn, paid)


def decline(turn: Turn, intent: Document, method: Document, answer: Decline) -> None:
    """Write the bank's no down everywhere and raise it."""
    failed = charges.insert(turn, intent, method, status="failed", captured=False)
    charges.mark_failed(turn, failed, answer)
    intent["latest_charge"] = failed["id"]
    error = answer.error() | {"charge": failed["id"], "payment_method": public(method)}
    _back_to_start(turn, intent, error)
    raise CardDeclined(error, intent)


def _back_to_start(turn: Turn, intent: Document, error: Document) -> None:
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_payment_error": error,
    }
    turn.state.save(intent)
    emit(turn, "payment_intent.payment_failed", intent)


def _begin_processing(turn: Turn, intent: Document, method: Document, does: PublishedMethod) -> None:
    pending = charges.insert(turn, intent, method, status="pending", captured=True)
    intent |= {"status": "processing", "latest_charge": pending["id"], "last_payment_error": None, "next_action": None}
    turn.state.save(intent)
    emit(turn, "charge.pending", pending)
    emit(turn, "payment_intent.processing", intent)
    if does.settles == "later":
        turn.later(_SETTLES_AFTER_S, "settle_payment", intent["id"])


def settle(turn: Turn, intent_id: str, *, succeeded: bool | None = None) -> None:
    """A debit on its way arrives, or comes back; `succeeded` overrides what the test account does by itself."""
    intent = turn.state.fetch("payment_intent", intent_id)
    if intent["status"] != "processing":
        return
    method = turn.state.fetch("payment_method", intent["payment_method"])
    pending = turn.state.fetch("charge", intent["latest_charge"])
    answer = behaviour(method).decline
    if succeeded is False and answer is None:
        answer = _RETURNED
    if succeeded is not True and answer is not None:
        charges.mark_failed(turn, pending, answer)
        error = answer.error() | {"charge": pending["id"], "payment_method": public(method)}
        _back_to_start(turn, intent, error)
        return
    charges.mark_succeeded(turn, pending)
    succeed(turn, intent, pending)


_RETURNED = Decline(
    "payment_intent_payment_attempt_failed", "The customer's bank returned the debit.", "debit_not_authorized"
)
