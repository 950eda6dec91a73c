"""Events: what happened, told once, listed for thirty days and delivered to every webhook endpoint."""

from .deliveries import schedule, undelivered
from .errors import ParametersInvalid, resource_missing
from .lists import LIST, listed
from .parameters import Boolean, Listing, Text
from .settings import API_VERSION
from .state import Document, public
from .turn import Turn

LIST_FIELDS = LIST | {"type": Text(), "types": Listing(), "delivery_success": Boolean()}
_KEPT_S = 30 * 24 * 3600
_TYPES_MAX = 20


def emit(turn: Turn, kind: str, subject: Document, previous: Document | None = None) -> None:
    """Record that `kind` happened to `subject` and put it on its way to the endpoints.

    `previous` holds the old values of what changed, for the `*.updated` events. Faults may keep the event from ever being
    generated, or tell it twice under two ids, as Stripe on a bad day does.
    """
    faults = turn.plan.on_event(kind)
    if any(fault.action == "never" for fault in faults):
        return
    twins = 1 + sum(fault.action == "twin" for fault in faults)
    for _ in range(twins):
        event = _insert(turn, kind, subject, previous)
        schedule(turn, event, faults)


def _insert(turn: Turn, kind: str, subject: Document, previous: Document | None) -> Document:
    data: Document = {"object": public(subject)}
    if previous is not None:
        data["previous_attributes"] = previous
    event: Document = {
        "id": turn.new_id("evt"),
        "object": "event",
        "api_version": turn.api_version or API_VERSION,
        "created": turn.now,
        "data": data,
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": turn.request_id, "idempotency_key": turn.idempotency_key},
        "type": kind,
    }
    return turn.state.insert(event, label=kind)


def retrieve(turn: Turn) -> Document:
    """GET /v1/events/{id}."""
    found = turn.state.find("event", turn.target)
    if found is None or found["created"] < turn.now - _KEPT_S:
        raise resource_missing("event", turn.target, "id")
    return found | {"pending_webhooks": undelivered(turn.state, turn.target)}


def list_all(turn: Turn) -> Document:
    """GET /v1/events by type (a trailing `*` matches any rest), time and delivery; thirty days back, like Stripe."""
    if len(turn.params.get("types", [])) > _TYPES_MAX:
        raise ParametersInvalid(f"You may specify at most {_TYPES_MAX} types.", param="types")
    kinds = turn.params.get("types", []) + ([turn.params["type"]] if "type" in turn.params else [])
    conditions = [f"created >= {turn.now - _KEPT_S:d}"]
    if kinds:
        conditions.append(f"({' OR '.join('label GLOB ?' for _ in kinds)})")
    if "delivery_success" in turn.params:
        pending = "EXISTS (SELECT 1 FROM deliveries WHERE event_id = objects.id AND state <> 'delivered')"
        conditions.append(f"NOT {pending}" if turn.params["delivery_success"] else pending)
    page = listed(turn, "event", "/v1/events", where=" AND ".join(conditions), values=tuple(kinds))
    for event in page["data"]:
        event["pending_webhooks"] = undelivered(turn.state, event["id"])
    return page
