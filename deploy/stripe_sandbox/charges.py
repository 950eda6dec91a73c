"""Charges: one attempt to take money. A PaymentIntent makes them; nobody creates one by hand."""

from .cards import Decline
from .errors import resource_missing
from .events import emit
from .lists import LIST, listed
from .parameters import Text
from .payment_methods import behaviour, fingerprint
from .state import Document
from .turn import Turn

LIST_FIELDS = LIST | {"payment_intent": Text()}
CAPTURE_WINDOW_S = 7 * 24 * 3600


def retrieve(turn: Turn) -> Document:
    """GET /v1/charges/{id}."""
    found = turn.state.find("charge", turn.target)
    if found is None:
        raise resource_missing("charge", turn.target, "charge")
    return found


def list_all(turn: Turn) -> Document:
    """GET /v1/charges, of one PaymentIntent on request."""
    return listed(turn, "charge", "/v1/charges", intent=turn.params.get("payment_intent"))


def insert(turn: Turn, intent: Document, method: Document, *, status: str, captured: bool) -> Document:
    """Store a charge of the whole amount; `captured` is False for an authorisation."""
    document: Document = {
        "id": turn.new_id("ch" if method["type"] == "card" else "py"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if captured and status == "succeeded" else 0,
        "amount_refunded": 0,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "HOLDFAST SANDBOX",
        "captured": captured,
        "created": turn.now,
        "disputed": False,
        "fraud_details": {},
        "livemode": False,
        "outcome": _APPROVED if status == "succeeded" else None,
        "paid": status == "succeeded",
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": _details(turn, intent, method, manual=not captured and status == "succeeded"),
        "radar_options": {},
        "refunded": False,
        "status": status,
    }
    document |= dict.fromkeys(_UNSET) | {name: intent[name] for name in _FROM_INTENT}
    return turn.state.insert(document, intent=intent["id"])


_UNSET = (
    "application", "application_fee", "application_fee_amount", "authorization_code", "balance_transaction", "customer",
    "failure_balance_transaction", "failure_code", "failure_message", "on_behalf_of", "receipt_number", "receipt_url", "review",
    "source", "source_transfer", "transfer_data",
)  # fmt: skip
_FROM_INTENT = (
    "currency", "description", "metadata", "receipt_email", "shipping", "statement_descriptor", "statement_descriptor_suffix",
    "transfer_group",
)  # fmt: skip
_APPROVED = {
    "advice_code": None,
    "network_advice_code": None,
    "network_decline_code": None,
    "network_status": "approved_by_network",
    "reason": None,
    "risk_level": "normal",
    "risk_score": 12,
    "seller_message": "Payment complete.",
    "type": "authorized",
}


def mark_failed(turn: Turn, charge: Document, decline: Decline) -> None:
    """Write down the bank's no on the charge, and tell."""
    charge |= {
        "status": "failed",
        "paid": False,
        "captured": False,
        "amount_captured": 0,
        "failure_code": decline.code,
        "failure_message": decline.message,
        "outcome": _APPROVED
        | {
            "advice_code": decline.advice_code,
            "network_decline_code": decline.network_decline_code,
            "network_status": "not_sent_to_network" if decline.blocked else "declined_by_network",
            "reason": decline.decline_code or decline.code,
            "seller_message": "The bank did not approve this payment (sandbox).",
            "type": "blocked" if decline.blocked else "issuer_declined",
        },
    }
    turn.state.save(charge)
    emit(turn, "charge.failed", charge)


def mark_succeeded(turn: Turn, charge: Document) -> None:
    """A charge that was pending has its money."""
    charge |= {
        "status": "succeeded",
        "paid": True,
        "outcome": _APPROVED,
        "captured": True,
        "amount_captured": charge["amount"],
    }
    turn.state.save(charge)
    emit(turn, "charge.succeeded", charge)


def mark_captured(turn: Turn, charge: Document, amount: int) -> None:
    """Take `amount` of the authorisation; what is left goes back to the cardholder's limit."""
    charge |= {"captured": True, "amount_captured": amount}
    turn.state.save(charge)
    emit(turn, "charge.captured", charge)


def release(turn: Turn, charge: Document, event: str) -> None:
    """Give an authorisation back. Stripe shows that as a refund of money that was never captured."""
    charge |= {"amount_refunded": charge["amount"], "refunded": True}
    turn.state.save(charge)
    emit(turn, event, charge)


def _details(turn: Turn, intent: Document, method: Document, *, manual: bool) -> Document:
    kind = method["type"]
    if kind != "card":
        names = ("bank_name", "fingerprint", "last4", "routing_number", "account_type", "account_holder_type")
        sepa = ("bank_code", "branch_code", "country", "fingerprint", "last4")
        kept = {name: method[kind][name] for name in (names if kind == "us_bank_account" else sepa)}
        return {"type": kind, kind: kept | {"mandate": None}}
    card = method["card"]
    details: Document = {
        name: card[name] for name in ("brand", "checks", "country", "exp_month", "exp_year", "funding", "last4")
    }
    details |= {
        "amount_authorized": intent["amount"],
        "authorization_code": "123456",
        "extended_authorization": {"status": "disabled"},
        "fingerprint": fingerprint(behaviour(method)),
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": card["brand"],
        "network_token": {"used": False},
        "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": None,
        "transaction_link_id": None,
        "wallet": None,
    }
    if manual:
        details["capture_before"] = turn.now + CAPTURE_WINDOW_S
    return {"type": "card", "card": details}
