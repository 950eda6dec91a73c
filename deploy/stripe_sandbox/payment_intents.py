"""PaymentIntents: create, retrieve, update, list and cancel. What a confirmation does lies in `confirming`."""

from . import charges
from .confirming import attempt, load, take_method
from .currencies import Currency, check_amount
from .errors import ParametersInvalid, unexpected_state
from .events import emit
from .lists import LIST, listed
from .parameters import Boolean, Choice, Fields, Integer, Listing, Metadata, Params, Reader, Text, merged_metadata
from .payment_methods import DATA
from .state import Document
from .turn import Turn

_SHIPPING = Fields(
    {
        "address": Fields(
            {name: Text(clearable=True) for name in ("city", "country", "line1", "line2", "postal_code", "state")}
        ),
        "carrier": Text(),
        "name": Text(),
        "phone": Text(),
        "tracking_number": Text(),
    }
)
_CAPTURE_METHOD = Choice(("automatic", "automatic_async", "manual"))
_SETTABLE: dict[str, Reader] = {
    "allowed_payment_method_types": Listing(Choice(("card", "us_bank_account", "sepa_debit"))),
    "amount": Integer(least=1),
    "currency": Currency(),
    "capture_method": _CAPTURE_METHOD,
    "description": Text(1000, clearable=True),
    "metadata": Metadata(),
    "payment_method": Text(),
    "payment_method_data": DATA,
    "receipt_email": Text(512, clearable=True),
    "shipping": _SHIPPING,
    "statement_descriptor": Text(22, clearable=True),
    "statement_descriptor_suffix": Text(22, clearable=True),
    "transfer_group": Text(clearable=True),
    "expand": Listing(),
}
CREATE_FIELDS = _SETTABLE | {
    "automatic_payment_methods": Fields(
        {"enabled": Boolean(), "allow_redirects": Choice(("always", "never"))}, required=("enabled",)
    ),
    "confirm": Boolean(),
    "confirmation_method": Choice(("automatic", "manual")),
    "error_on_requires_action": Boolean(),
    "off_session": Boolean(),
    "return_url": Text(),
    "use_stripe_sdk": Boolean(),
}
UPDATE_FIELDS = _SETTABLE
LIST_FIELDS = LIST
RETRIEVE_FIELDS: dict[str, Reader] = {"client_secret": Text(), "expand": Listing()}
CANCEL_FIELDS: dict[str, Reader] = {
    "cancellation_reason": Choice(("duplicate", "fraudulent", "requested_by_customer", "abandoned")),
    "expand": Listing(),
}
CANCELABLE = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action")
_PLAIN = (
    "description",
    "receipt_email",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
)
_ALWAYS_CHANGEABLE = {"metadata", "description", "receipt_email", "shipping", "transfer_group", "expand"}
_OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
PUBLISHABLE_FIELDS = (
    "id", "object", "amount", "automatic_payment_methods", "canceled_at", "cancellation_reason", "capture_method", "client_secret",
    "confirmation_method", "created", "currency", "description", "last_payment_error", "livemode", "next_action", "payment_method",
    "payment_method_configuration_details", "payment_method_types", "processing", "receipt_email", "setup_future_usage", "shipping",
    "source", "status",
)  # fmt: skip


def create(turn: Turn) -> Document:
    """POST /v1/payment_intents; with `confirm` the first attempt follows at once."""
    check_amount(turn.params["amount"], turn.params["currency"])
    if {"allowed_payment_method_types", "automatic_payment_methods"} <= turn.params.keys():
        raise ParametersInvalid(
            "You may only specify one of these parameters: automatic_payment_methods, allowed_payment_method_types."
        )
    confirming = turn.params.get("confirm", False)
    early = [
        name
        for name in ("return_url", "off_session", "error_on_requires_action")
        if name in turn.params and not confirming
    ]
    if early:
        raise ParametersInvalid(f"You can only set `{early[0]}` when `confirm` is true.", param=early[0])
    intent = _blank(turn, turn.params)
    _set_plain(intent, turn.params)
    take_method(turn, intent)
    turn.state.insert(intent, intent=intent["id"])
    emit(turn, "payment_intent.created", intent)
    if confirming:
        attempt(turn, intent)
    return intent


def retrieve(turn: Turn) -> Document:
    """GET /v1/payment_intents/{id}."""
    return load(turn)


def list_all(turn: Turn) -> Document:
    """GET /v1/payment_intents, newest first."""
    return listed(turn, "payment_intent", "/v1/payment_intents")


def update(turn: Turn) -> Document:
    """POST /v1/payment_intents/{id}: after the money is under way only words can change."""
    intent = load(turn)
    if intent["status"] not in _OPEN and not _ALWAYS_CHANGEABLE.issuperset(turn.params):
        raise unexpected_state(intent, "update", _OPEN)
    if {"amount", "currency"} & turn.params.keys():
        check_amount(turn.params.get("amount") or intent["amount"], turn.params.get("currency") or intent["currency"])
    for name in ("amount", "currency", "capture_method", "allowed_payment_method_types"):
        if name in turn.params:
            intent[name] = turn.params[name]
    _set_method_types(intent)
    _set_plain(intent, turn.params)
    take_method(turn, intent)
    turn.state.save(intent)
    return intent


def cancel(turn: Turn) -> Document:
    """POST /v1/payment_intents/{id}/cancel; an authorisation goes back to the cardholder."""
    intent = load(turn)
    if intent["status"] not in CANCELABLE:
        raise unexpected_state(intent, "cancel", CANCELABLE)
    close(turn, intent, reason=turn.params.get("cancellation_reason"), charge_event="charge.refunded")
    return intent


def expire(turn: Turn, intent_id: str) -> None:
    """The capture window has passed: Stripe cancels the PaymentIntent by itself."""
    intent = turn.state.fetch("payment_intent", intent_id)
    if intent["status"] == "requires_capture":
        close(turn, intent, reason="automatic", charge_event="charge.expired")


def close(turn: Turn, intent: Document, *, reason: str | None, charge_event: str) -> None:
    """End the PaymentIntent without money."""
    if intent["status"] == "requires_capture":
        charges.release(turn, turn.state.fetch("charge", intent["latest_charge"]), charge_event)
    intent |= {
        "status": "canceled",
        "amount_capturable": 0,
        "canceled_at": turn.now,
        "cancellation_reason": reason,
        "next_action": None,
    }
    turn.state.save(intent)
    emit(turn, "payment_intent.canceled", intent)


def _set_plain(intent: Document, params: Params) -> None:
    for name in _PLAIN:
        if name in params:
            intent[name] = params[name]
    if "metadata" in params:
        intent["metadata"] = merged_metadata(intent["metadata"], params["metadata"])


def _method_types(intent: Document) -> list[str]:
    """Return what the customer may pay with: of the allowed ones, or of all, those that suit currency and capture.

    Raises `ParametersInvalid` when nothing is left.
    """
    debit = {"usd": "us_bank_account", "eur": "sepa_debit"}.get(intent["currency"])
    suitable = ["card"] if debit is None or intent["capture_method"] == "manual" else ["card", debit]
    allowed = intent["allowed_payment_method_types"]
    types = [kind for kind in suitable if allowed is None or kind in allowed]
    if not types:
        message = "No allowed payment method type is compatible with this PaymentIntent."
        raise ParametersInvalid(message, param="allowed_payment_method_types")
    return types


_UNSET = (
    "application", "application_fee_amount", "canceled_at", "cancellation_reason", "customer",
    "customer_account", "description", "excluded_payment_method_types", "last_payment_error", "latest_charge", "next_action",
    "on_behalf_of", "payment_method", "payment_method_configuration_details", "processing", "receipt_email", "review",
    "setup_future_usage", "shipping", "source", "statement_descriptor", "statement_descriptor_suffix", "transfer_data",
    "transfer_group",
)  # fmt: skip
_CARD_OPTIONS = {"installments": None, "mandate_options": None, "network": None, "request_three_d_secure": "automatic"}


def _blank(turn: Turn, params: Params) -> Document:
    intent_id = turn.new_id("pi")
    automatic = params.get("automatic_payment_methods", {"enabled": "allowed_payment_method_types" not in params})
    intent = dict.fromkeys(_UNSET) | {
        "id": intent_id,
        "object": "payment_intent",
        "amount": params["amount"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": automatic.get("allow_redirects", "always")}
        if automatic["enabled"]
        else None,
        "capture_method": params.get("capture_method", "automatic_async"),
        "client_secret": turn.identifiers.client_secret(intent_id),
        "confirmation_method": params.get("confirmation_method", "automatic"),
        "created": turn.now,
        "currency": params["currency"],
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": {},
        "allowed_payment_method_types": params.get("allowed_payment_method_types"),
        "status": "requires_payment_method",
    }
    _set_method_types(intent)
    return intent


def _set_method_types(intent: Document) -> None:
    types = _method_types(intent)
    intent |= {
        "payment_method_types": types,
        "payment_method_options": {"card": _CARD_OPTIONS} if "card" in types else {},
    }


def as_publishable(intent: Document) -> Document:
    """Return only what Stripe shows to a browser, which holds nothing but the publishable key."""
    return {name: intent[name] for name in PUBLISHABLE_FIELDS if name in intent}
