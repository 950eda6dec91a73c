"""`expand[]`: an id in an answer is replaced by the object that it names."""

from .errors import ParametersInvalid
from .state import Document, State, public

EXPANDABLE = {
    "payment_intent": {"latest_charge": "charge", "payment_method": "payment_method"},
    "charge": {"payment_intent": "payment_intent"},
    "refund": {"charge": "charge", "payment_intent": "payment_intent", "payment_method": "payment_method"},
    "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
}
"""Which members of which object hold an id that Stripe expands, and to what."""
_DEPTH_MAX = 4


def expand(state: State, document: Document, paths: list[str]) -> Document:
    """Return the document with `paths` (such as `latest_charge.payment_intent`, or `data.charge` in a list) filled in.

    Raises `ParametersInvalid` for a member that cannot be expanded.
    """
    for path in paths:
        steps = path.split(".")
        if len(steps) > _DEPTH_MAX + (steps[0] == "data"):
            raise ParametersInvalid(f"You cannot expand more than {_DEPTH_MAX} levels of a property", param="expand")
        if document["object"] == "list":
            if steps[0] != "data" or len(steps) == 1:
                raise _refused(path)
            document["data"] = [_expanded(state, item, steps[1:], path) for item in document["data"]]
        else:
            document = _expanded(state, document, steps, path)
    return document


def _expanded(state: State, document: Document, steps: list[str], path: str) -> Document:
    member, rest = steps[0], steps[1:]
    kind = EXPANDABLE.get(document["object"], {}).get(member)
    if kind is None:
        raise _refused(path)
    value = document.get(member)
    if isinstance(value, str):
        value = public(state.fetch(kind, value))
    if rest and value is not None:
        value = _expanded(state, value, rest, path)
    return document | {member: value}


def _refused(path: str) -> ParametersInvalid:
    return ParametersInvalid(f"This property cannot be expanded ({path}).", param="expand")
