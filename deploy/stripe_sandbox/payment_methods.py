"""PaymentMethods: Stripe's test ids and test card numbers become objects that a PaymentIntent can use."""

import hashlib
from datetime import UTC, datetime

from .cards import BY_NAME, BY_NUMBER, PublishedMethod, passes_luhn
from .errors import CardDeclined, ParametersInvalid, doc_url, parameter_missing, resource_missing
from .parameters import Choice, Fields, Integer, Metadata, Params, Reader, Text, merged_metadata
from .state import Document, private
from .turn import Turn

_ADDRESS = Fields(
    {name: Text(clearable=True) for name in ("city", "country", "line1", "line2", "postal_code", "state")}
)
_BILLING = Fields({"address": _ADDRESS} | {name: Text(clearable=True) for name in ("email", "name", "phone")})

CREATE_FIELDS: dict[str, Reader] = {
    "type": Choice(("card", "sepa_debit")),
    "card": Fields(
        {"number": Text(40), "exp_month": Integer(), "exp_year": Integer(), "cvc": Text(8)},
        required=("number", "exp_month", "exp_year"),
    ),
    "sepa_debit": Fields({"iban": Text(40)}, required=("iban",)),
    "billing_details": _BILLING,
    "metadata": Metadata(),
    "allow_redisplay": Choice(("always", "limited", "unspecified")),
}
DATA = Fields(CREATE_FIELDS, required=("type",))


def create(turn: Turn) -> Document:
    """POST /v1/payment_methods, which a browser may call with the publishable key."""
    return from_data(turn, turn.params)


def retrieve(turn: Turn) -> Document:
    """GET /v1/payment_methods/{id}; a published test id gives a fresh copy of that method."""
    return from_id(turn, turn.target)


def from_id(turn: Turn, method_id: str) -> Document:
    """Return the method with this id, or a new one when the id is one of Stripe's test ids."""
    if method_id in BY_NAME and method_id.startswith("pm_"):
        return _insert(turn, BY_NAME[method_id])
    found = turn.state.find("payment_method", method_id)
    if found is None:
        raise resource_missing("PaymentMethod", method_id, "payment_method")
    return found


def from_data(turn: Turn, data: Params) -> Document:
    """Make a method from a card number or an IBAN.

    Raises `CardDeclined` for a number with a wrong check digit or none of Stripe's test numbers, a past expiry date, or a
    security code of the wrong length.
    """
    kind = data["type"]
    if kind not in data:
        raise parameter_missing(f"payment_method_data[{kind}]")
    if kind == "sepa_debit":
        method = BY_NUMBER.get(data["sepa_debit"]["iban"].replace(" ", "").upper())
        if method is None:
            raise ParametersInvalid(
                "The IBAN you provided is invalid.", code="invalid_bank_account_iban", param="sepa_debit[iban]"
            )
        return _insert(turn, method, data)
    return _insert(turn, _checked_card(turn, data["card"]), data)


def behaviour(method: Document) -> PublishedMethod:
    """Return what this method does when it is charged."""
    return BY_NAME[private(method)["does"]]


def _checked_card(turn: Turn, card: Params) -> PublishedMethod:
    number = card["number"].replace(" ", "")
    if not (number.isascii() and number.isdecimal() and 12 <= len(number) <= 19 and passes_luhn(number)):
        raise _card_error("incorrect_number", "Your card number is incorrect.", "number")
    method = BY_NUMBER.get(number)
    if method is None:
        message = "Your card was declined. Your request was in test mode, but used a non test card."
        raise _card_error("card_declined", message, "number", decline_code="test_mode_live_card")
    if not 1 <= card["exp_month"] <= 12:
        raise _card_error("invalid_expiry_month", "Your card's expiration month is invalid.", "exp_month")
    year = card["exp_year"] + (2000 if card["exp_year"] < 100 else 0)
    if year * 12 + card["exp_month"] < _month_of(turn.now) or year > 2100:
        raise _card_error("invalid_expiry_year", "Your card's expiration year is invalid.", "exp_year")
    if not (card.get("cvc", "123").isdecimal() and len(card.get("cvc", "123")) in (3, 4)):
        raise _card_error("invalid_cvc", "Your card's security code is invalid.", "cvc")
    return method


def _month_of(moment: int) -> int:
    day = datetime.fromtimestamp(moment, UTC)
    return day.year * 12 + day.month


def _card_error(code: str, message: str, param: str, **more: str) -> CardDeclined:
    return CardDeclined(
        {"code": code, "doc_url": doc_url(code), "message": message, "param": param, "type": "card_error"} | more
    )


def _insert(turn: Turn, method: PublishedMethod, data: Params | None = None) -> Document:
    data = data or {}
    document: Document = {
        "id": turn.new_id("pm"),
        "object": "payment_method",
        "allow_redisplay": data.get("allow_redisplay", "unspecified"),
        "billing_details": billing_details(data.get("billing_details")),
        "created": turn.now,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": merged_metadata({}, data.get("metadata", {})),
        "type": method.kind,
        method.kind: _DETAILS[method.kind](method, data),
        "_sandbox": {"does": method.name},
    }
    return turn.state.insert(document)


def billing_details(given: Params | None) -> Document:
    """Return all members of `billing_details`, absent ones as null."""
    given = given or {}
    address = given.get("address") or {}
    return {
        "address": {name: address.get(name) for name in ("city", "country", "line1", "line2", "postal_code", "state")},
        "email": given.get("email"),
        "name": given.get("name"),
        "phone": given.get("phone"),
        "tax_id": None,
    }


def fingerprint(method: PublishedMethod) -> str:
    """Return what is the same for every use of one card."""
    return hashlib.blake2b(method.name.encode(), digest_size=8).hexdigest()


def _card(method: PublishedMethod, data: Params) -> Document:
    card = data.get("card", {})
    year = card.get("exp_year", 2034)
    return {
        "brand": method.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "unchecked"},
        "country": method.country,
        "display_brand": method.brand,
        "exp_month": card.get("exp_month", 12),
        "exp_year": year + 2000 if year < 100 else year,
        "fingerprint": fingerprint(method),
        "funding": method.funding,
        "generated_from": None,
        "last4": (method.number or "0000")[-4:],
        "networks": {"available": [method.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def _us_bank_account(method: PublishedMethod, _data: Params) -> Document:
    return {
        "account_holder_type": "individual",
        "account_type": "checking",
        "bank_name": "STRIPE TEST BANK",
        "financial_connections_account": None,
        "fingerprint": fingerprint(method),
        "last4": "6789",
        "networks": {"preferred": "ach", "supported": ["ach"]},
        "routing_number": "110000000",
        "status_details": {},
    }


def _sepa_debit(method: PublishedMethod, _data: Params) -> Document:
    return {
        "bank_code": method.number[4:9],
        "branch_code": "",
        "country": method.country,
        "fingerprint": fingerprint(method),
        "generated_from": {"charge": None, "setup_attempt": None},
        "last4": method.number[-4:],
    }


_DETAILS = {"card": _card, "us_bank_account": _us_bank_account, "sepa_debit": _sepa_debit}
