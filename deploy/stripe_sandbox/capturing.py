"""Capturing an authorisation, whole or in part: the moment at which money really moves."""

from . import charges
from .confirming import load, succeed
from .errors import ApiError, unexpected_state
from .parameters import Boolean, Integer, Listing, Metadata, Reader, Text, merged_metadata
from .state import Document
from .turn import Turn

CAPTURE_FIELDS: dict[str, Reader] = {
    "amount_to_capture": Integer(least=1),
    "expand": Listing(),
    "final_capture": Boolean(),
    "metadata": Metadata(),
    "statement_descriptor": Text(22, clearable=True),
    "statement_descriptor_suffix": Text(22, clearable=True),
}


def capture(turn: Turn) -> Document:
    """POST /v1/payment_intents/{id}/capture; what is not captured is released."""
    intent = load(turn)
    if intent["status"] != "requires_capture":
        raise unexpected_state(intent, "capture", ("requires_capture",))
    amount = turn.params.get("amount_to_capture") or intent["amount_capturable"]
    if amount > intent["amount_capturable"]:
        message = (
            f"The amount_to_capture ({amount}) is greater than the amount capturable ({intent['amount_capturable']})."
        )
        raise ApiError(message, code="amount_too_large", param="amount_to_capture")
    if not turn.params.get("final_capture", True):
        raise ApiError("This PaymentIntent is not eligible for multicapture.", param="final_capture")
    for name in ("statement_descriptor", "statement_descriptor_suffix"):
        if name in turn.params:
            intent[name] = turn.params[name]
    if "metadata" in turn.params:
        intent["metadata"] = merged_metadata(intent["metadata"], turn.params["metadata"])
    reserved = turn.state.fetch("charge", intent["latest_charge"])
    charges.mark_captured(turn, reserved, amount)
    succeed(turn, intent, reserved)
    return intent
