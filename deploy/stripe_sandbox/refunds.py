"""Refunds: money on its way back, which with some test cards takes time or comes to nothing."""

from .errors import ApiError, parameter_missing, resource_missing
from .events import emit
from .lists import LIST, listed
from .parameters import Choice, Integer, Listing, Metadata, Params, Reader, Text, merged_metadata
from .payment_methods import behaviour
from .state import Document
from .turn import Turn

CREATE_FIELDS: dict[str, Reader] = {
    "amount": Integer(least=1),
    "charge": Text(),
    "expand": Listing(),
    "metadata": Metadata(),
    "payment_intent": Text(),
    "reason": Choice(("duplicate", "fraudulent", "requested_by_customer")),
}
UPDATE_FIELDS: dict[str, Reader] = {"metadata": Metadata(), "expand": Listing()}
LIST_FIELDS = LIST | {"payment_intent": Text(), "charge": Text()}
_SETTLES_AFTER_S = 180
_COUNTED = ("succeeded", "pending", "requires_action")


def create(turn: Turn) -> Document:
    """POST /v1/refunds, of the whole rest or of `amount`."""
    charge = _charge_of(turn, turn.params)
    left = charge["amount_captured"] - charge["amount_refunded"]
    if charge["disputed"] and _dispute_holds_money(turn, charge):
        raise ApiError(f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    if left <= 0:
        raise ApiError(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = turn.params.get("amount", left)
    if amount > left:
        message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        raise ApiError(message, param="amount")
    refund = _insert(turn, charge, amount, turn.params)
    _count_on_charge(turn, charge)
    emit(turn, "refund.created", refund)
    emit(turn, "charge.refunded", charge)
    if behaviour(turn.state.fetch("payment_method", charge["payment_method"])).refund != "succeeded":
        turn.later(_SETTLES_AFTER_S, "settle_refund", refund["id"])
    return refund


def retrieve(turn: Turn) -> Document:
    """GET /v1/refunds/{id}."""
    found = turn.state.find("refund", turn.target)
    if found is None:
        raise resource_missing("refund", turn.target, "id")
    return found


def update(turn: Turn) -> Document:
    """POST /v1/refunds/{id}: only its metadata can change."""
    refund = retrieve(turn)
    previous = {"metadata": refund["metadata"]}
    if "metadata" in turn.params:
        refund["metadata"] = merged_metadata(refund["metadata"], turn.params["metadata"])
    turn.state.save(refund)
    emit(turn, "refund.updated", refund, previous)
    emit(turn, "charge.refund.updated", refund, previous)
    return refund


def list_all(turn: Turn) -> Document:
    """GET /v1/refunds, of one PaymentIntent or charge on request."""
    intent = turn.params.get("payment_intent")
    if "charge" in turn.params:
        return listed(
            turn,
            "refund",
            "/v1/refunds",
            intent=intent,
            where="json_extract(CAST(document AS TEXT), '$.charge') = ?",
            values=(turn.params["charge"],),
        )
    return listed(turn, "refund", "/v1/refunds", intent=intent)


def settle(turn: Turn, refund_id: str, *, succeeded: bool | None = None) -> None:
    """The bank has answered. Without `succeeded` the test card decides: it pays back late, or takes its word back."""
    refund = turn.state.fetch("refund", refund_id)
    charge = turn.state.fetch("charge", refund["charge"])
    does = behaviour(turn.state.fetch("payment_method", charge["payment_method"])).refund
    good = succeeded if succeeded is not None else does != "fails later"
    status = "succeeded" if good else "failed"
    if refund["status"] in (status, "failed", "canceled"):
        return
    previous = {"status": refund["status"]}
    refund["status"] = status
    refund.pop("pending_reason", None)
    if not good:
        refund |= {"failure_reason": "unknown", "failure_balance_transaction": None}
    turn.state.save(refund)
    _count_on_charge(turn, charge)
    emit(turn, "refund.updated", refund, previous)
    emit(turn, "charge.refund.updated", refund, previous)
    if not good:
        emit(turn, "refund.failed", refund)


def _charge_of(turn: Turn, params: Params) -> Document:
    if "charge" in params:
        charge = turn.state.find("charge", params["charge"])
        if charge is None:
            raise resource_missing("charge", params["charge"], "charge")
    elif "payment_intent" in params:
        intent = turn.state.find("payment_intent", params["payment_intent"])
        if intent is None:
            raise resource_missing("payment_intent", params["payment_intent"], "payment_intent")
        charge = turn.state.find("charge", intent["latest_charge"] or "")
    else:
        raise parameter_missing("payment_intent")
    if charge is None or charge["status"] != "succeeded" or not charge["captured"]:
        raise ApiError("This PaymentIntent does not have a successful charge to refund.", param="payment_intent")
    return charge


def _dispute_holds_money(turn: Turn, charge: Document) -> bool:
    return any(
        dispute["charge"] == charge["id"] and not dispute["is_charge_refundable"]
        for dispute in turn.state.all_of("dispute", intent=charge["payment_intent"])
    )


def _count_on_charge(turn: Turn, charge: Document) -> None:
    """A refund that failed gives its amount back to be refunded once more."""
    refunds = [
        refund
        for refund in turn.state.all_of("refund", intent=charge["payment_intent"])
        if refund["charge"] == charge["id"]
    ]
    total = sum(refund["amount"] for refund in refunds if refund["status"] in _COUNTED)
    charge |= {"amount_refunded": total, "refunded": total == charge["amount_captured"]}
    turn.state.save(charge)


def _insert(turn: Turn, charge: Document, amount: int, params: Params) -> Document:
    does = behaviour(turn.state.fetch("payment_method", charge["payment_method"]))
    pending = does.refund == "pending"
    kind = charge["payment_method_details"]["type"]
    refund: Document = {
        "id": turn.new_id("re" if kind == "card" else "pyr"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": turn.now,
        "currency": charge["currency"],
        "customer": None,
        "customer_account": None,
        "destination_details": {
            "type": kind,
            kind: {"type": "pending" if pending else "refund"} if kind == "card" else {},
        },
        "metadata": merged_metadata({}, params.get("metadata", {})),
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "pending" if pending else "succeeded",
        "transfer_reversal": None,
    }
    if pending:
        refund["pending_reason"] = "processing"
    return turn.state.insert(refund, intent=charge["payment_intent"])
