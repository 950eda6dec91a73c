"""The table of all that this sandbox can do of Stripe's API; what is not here answers 404."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import (
    capturing,
    charges,
    confirming,
    disputes,
    events,
    payment_intents,
    payment_methods,
    refunds,
    webhook_endpoints,
)
from .parameters import Listing, Reader, Text
from .state import Document
from .turn import Turn

_ONLY_EXPAND: dict[str, Reader] = {"expand": Listing()}


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the API."""

    name: str  # what faults and the journal call it
    method: str
    path: str
    run: Callable[[Turn], Document]
    fields: Mapping[str, Reader] = field(default_factory=lambda: _ONLY_EXPAND)
    required: tuple[str, ...] = ()
    publishable_fields: Mapping[str, Reader] | None = None  # None: the publishable key may not call it


OPERATIONS = (
    Operation(
        "payment_intents.create",
        "POST",
        "/v1/payment_intents",
        payment_intents.create,
        payment_intents.CREATE_FIELDS,
        ("amount", "currency"),
    ),
    Operation(
        "payment_intents.list", "GET", "/v1/payment_intents", payment_intents.list_all, payment_intents.LIST_FIELDS
    ),
    Operation(
        "payment_intents.retrieve",
        "GET",
        "/v1/payment_intents/{id}",
        payment_intents.retrieve,
        payment_intents.RETRIEVE_FIELDS,
        publishable_fields={"client_secret": Text()},
    ),
    Operation(
        "payment_intents.update",
        "POST",
        "/v1/payment_intents/{id}",
        payment_intents.update,
        payment_intents.UPDATE_FIELDS,
    ),
    Operation(
        "payment_intents.confirm",
        "POST",
        "/v1/payment_intents/{id}/confirm",
        confirming.confirm,
        confirming.CONFIRM_FIELDS,
        publishable_fields=confirming.PUBLIC_CONFIRM_FIELDS,
    ),
    Operation(
        "payment_intents.capture",
        "POST",
        "/v1/payment_intents/{id}/capture",
        capturing.capture,
        capturing.CAPTURE_FIELDS,
    ),
    Operation(
        "payment_intents.cancel",
        "POST",
        "/v1/payment_intents/{id}/cancel",
        payment_intents.cancel,
        payment_intents.CANCEL_FIELDS,
    ),
    Operation("charges.list", "GET", "/v1/charges", charges.list_all, charges.LIST_FIELDS),
    Operation("charges.retrieve", "GET", "/v1/charges/{id}", charges.retrieve),
    Operation("refunds.create", "POST", "/v1/refunds", refunds.create, refunds.CREATE_FIELDS),
    Operation("refunds.list", "GET", "/v1/refunds", refunds.list_all, refunds.LIST_FIELDS),
    Operation("refunds.retrieve", "GET", "/v1/refunds/{id}", refunds.retrieve),
    Operation("refunds.update", "POST", "/v1/refunds/{id}", refunds.update, refunds.UPDATE_FIELDS),
    Operation(
        "payment_methods.create",
        "POST",
        "/v1/payment_methods",
        payment_methods.create,
        payment_methods.CREATE_FIELDS | _ONLY_EXPAND,
        ("type",),
        publishable_fields=payment_methods.CREATE_FIELDS,
    ),
    Operation("payment_methods.retrieve", "GET", "/v1/payment_methods/{id}", payment_methods.retrieve),
    Operation("disputes.list", "GET", "/v1/disputes", disputes.list_all, disputes.LIST_FIELDS),
    Operation("disputes.retrieve", "GET", "/v1/disputes/{id}", disputes.retrieve),
    Operation("disputes.update", "POST", "/v1/disputes/{id}", disputes.update, disputes.UPDATE_FIELDS),
    Operation("disputes.close", "POST", "/v1/disputes/{id}/close", disputes.close),
    Operation("events.list", "GET", "/v1/events", events.list_all, events.LIST_FIELDS),
    Operation("events.retrieve", "GET", "/v1/events/{id}", events.retrieve),
    Operation(
        "webhook_endpoints.create",
        "POST",
        "/v1/webhook_endpoints",
        webhook_endpoints.create,
        webhook_endpoints.CREATE_FIELDS,
        ("url", "enabled_events"),
    ),
    Operation(
        "webhook_endpoints.list",
        "GET",
        "/v1/webhook_endpoints",
        webhook_endpoints.list_all,
        webhook_endpoints.LIST_FIELDS,
    ),
    Operation("webhook_endpoints.retrieve", "GET", "/v1/webhook_endpoints/{id}", webhook_endpoints.retrieve),
    Operation(
        "webhook_endpoints.update",
        "POST",
        "/v1/webhook_endpoints/{id}",
        webhook_endpoints.update,
        webhook_endpoints.UPDATE_FIELDS,
    ),
    Operation("webhook_endpoints.delete", "DELETE", "/v1/webhook_endpoints/{id}", webhook_endpoints.delete, {}),
)
