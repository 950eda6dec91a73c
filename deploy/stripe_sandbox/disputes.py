"""Disputes: the cardholder's bank takes the money back and asks questions."""

from .errors import ApiError, resource_missing
from .events import emit
from .lists import LIST, listed
from .parameters import Boolean, Fields, Listing, Metadata, Reader, Text, merged_metadata
from .payment_methods import behaviour
from .state import Document
from .turn import Turn

_FILES = (
    "cancellation_policy", "customer_communication", "customer_signature", "duplicate_charge_documentation", "receipt", "refund_policy",
    "service_documentation", "shipping_documentation", "uncategorized_file",
)  # fmt: skip
_TEXTS = (
    "access_activity_log", "billing_address", "cancellation_policy_disclosure", "cancellation_rebuttal", "customer_email_address",
    "customer_name", "customer_purchase_ip", "duplicate_charge_explanation", "duplicate_charge_id", "product_description",
    "refund_policy_disclosure", "refund_refusal_explanation", "service_date", "shipping_address", "shipping_carrier", "shipping_date",
    "shipping_tracking_number", "uncategorized_text",
)  # fmt: skip
UPDATE_FIELDS: dict[str, Reader] = {
    "evidence": Fields({name: Text(20000, clearable=True) for name in _TEXTS}),
    "expand": Listing(),
    "metadata": Metadata(),
    "submit": Boolean(),
}
LIST_FIELDS = LIST | {"charge": Text(), "payment_intent": Text()}
_RESPONSE_TIME_S = 9 * 24 * 3600
_OPEN = ("needs_response", "under_review", "warning_needs_response", "warning_under_review")


def open_by_card(turn: Turn, charge: Document) -> None:
    """Open the dispute that the test card brings with it, if it brings one."""
    kind = behaviour(turn.state.fetch("payment_method", charge["payment_method"])).dispute
    if kind:
        open_dispute(turn, charge, reason="general" if kind == "inquiry" else kind, inquiry=kind == "inquiry")


def open_dispute(turn: Turn, charge: Document, *, reason: str, inquiry: bool) -> Document:
    """Dispute the whole charge; an inquiry takes no money yet."""
    charge["disputed"] = True
    turn.state.save(charge)
    dispute = turn.state.insert(_blank(turn, charge, reason, inquiry=inquiry), intent=charge["payment_intent"])
    emit(turn, "charge.dispute.created", dispute)
    if not inquiry:
        emit(turn, "charge.dispute.funds_withdrawn", dispute)
    return dispute


def escalate(turn: Turn, dispute: Document) -> None:
    """The bank was not content with the answer to its inquiry, or never got one: now it takes the money."""
    dispute |= {"status": "needs_response", "is_charge_refundable": False}
    dispute["payment_method_details"]["card"]["case_type"] = "chargeback"
    turn.state.save(dispute)
    emit(turn, "charge.dispute.updated", dispute)
    emit(turn, "charge.dispute.funds_withdrawn", dispute)


def retrieve(turn: Turn) -> Document:
    """GET /v1/disputes/{id}."""
    found = turn.state.find("dispute", turn.target)
    if found is None:
        raise resource_missing("dispute", turn.target, "dispute")
    return found


def list_all(turn: Turn) -> Document:
    """GET /v1/disputes, of one PaymentIntent or charge on request."""
    intent = turn.params.get("payment_intent")
    if "charge" in turn.params:
        intent = (
            turn.state.fetch("charge", turn.params["charge"])["payment_intent"]
            if turn.state.find("charge", turn.params["charge"])
            else ""
        )
    return listed(turn, "dispute", "/v1/disputes", intent=intent)


def update(turn: Turn) -> Document:
    """POST /v1/disputes/{id}: `winning_evidence` and `losing_evidence` decide it at once, as in Stripe's test mode."""
    dispute = retrieve(turn)
    if dispute["status"] not in _OPEN:
        raise ApiError("This dispute is already closed.", code="dispute_already_closed", param="dispute")
    dispute["evidence"] |= turn.params.get("evidence", {})
    if "metadata" in turn.params:
        dispute["metadata"] = merged_metadata(dispute["metadata"], turn.params["metadata"])
    dispute["evidence_details"]["has_evidence"] = any(dispute["evidence"][name] for name in _TEXTS)
    if not turn.params.get("submit", True):
        turn.state.save(dispute)
        return dispute
    dispute["evidence_details"]["submission_count"] += 1
    inquiry = dispute["status"].startswith("warning")
    dispute["status"] = "warning_under_review" if inquiry else "under_review"
    turn.state.save(dispute)
    emit(turn, "charge.dispute.updated", dispute)
    word = dispute["evidence"]["uncategorized_text"]
    if word in ("winning_evidence", "losing_evidence"):
        decide(turn, dispute, won=word == "winning_evidence")
    return dispute


def close(turn: Turn) -> Document:
    """POST /v1/disputes/{id}/close: give in."""
    dispute = retrieve(turn)
    if dispute["status"] not in _OPEN:
        raise ApiError("This dispute is already closed.", code="dispute_already_closed", param="dispute")
    decide(turn, dispute, won=False)
    return dispute


def decide(turn: Turn, dispute: Document, *, won: bool) -> None:
    """The bank has judged; who wins has the money back."""
    inquiry = dispute["status"].startswith("warning")
    dispute["status"] = "warning_closed" if inquiry else "won" if won else "lost"
    dispute["is_charge_refundable"] = inquiry
    turn.state.save(dispute)
    emit(turn, "charge.dispute.closed", dispute)
    if won and not inquiry:
        emit(turn, "charge.dispute.funds_reinstated", dispute)


def withdrawn(dispute: Document) -> int:
    """Return how much of our money the dispute holds, in minor units."""
    return int(dispute["amount"]) if dispute["status"] in ("needs_response", "under_review", "lost") else 0


def _blank(turn: Turn, charge: Document, reason: str, *, inquiry: bool) -> Document:
    evidence: Document = dict.fromkeys(_FILES + _TEXTS)
    card = charge["payment_method_details"].get("card", {})
    return {
        "id": turn.new_id("du"),
        "object": "dispute",
        "amount": charge["amount_captured"] - charge["amount_refunded"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": turn.now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": evidence | {"enhanced_evidence": {}},
        "evidence_details": {
            "due_by": turn.now + _RESPONSE_TIME_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "manual",
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "type": "card",
            "card": {
                "brand": card.get("brand", "visa"),
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": card.get("network", "visa"),
                "network_reason_code": "10.4",
            },
        },
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }
