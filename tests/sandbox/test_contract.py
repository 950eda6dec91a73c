"""The sandbox against the SDK: what it emits fits Stripe's classes, what it accepts is among Stripe's parameters."""

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import stripe
from stripe import params as stripe_params

from deploy.stripe_sandbox import cards, settings
from deploy.stripe_sandbox.faults import CALL_ACTIONS, EVENT_ACTIONS
from deploy.stripe_sandbox.operations import OPERATIONS, Operation
from deploy.stripe_sandbox.parameters import Choice, Fields, Listing, Reader
from tests.sandbox.conftest import Start
from tests.sandbox.sdk_types import names, violations

PAGE = (Path(cards.__file__).parents[2] / "docs/reference/stripe-sandbox.md").read_text()
_NOT_THE_SDKS = {"client_secret"}  # Stripe.js sends it; the server-side SDK knows it on retrieve only
_RAW_CARDS = (
    "payment_method_data.type: {'card'}",
    "payment_method_data.card: unknown to Stripe",
)  # the API takes them, the types hide them


def parameter_type(operation: Operation) -> Any:
    """Return the SDK's TypedDict of an operation's parameters: `payment_intents.create` -> `PaymentIntentCreateParams`."""
    noun, verb = operation.name.split(".")
    stem = "".join(word.capitalize() for word in noun.removesuffix("s").split("_"))
    return getattr(stripe_params, f"{stem}{verb.capitalize()}Params")


def misfits(fields: dict[str, Reader], kind: Any, path: str) -> list[str]:
    """Return the parameters that the sandbox takes and Stripe does not."""
    hints = get_type_hints(kind, localns=names())
    found = []
    for name, reader in fields.items():
        if name in _NOT_THE_SDKS:
            continue
        if name not in hints:
            found.append(f"{path}{name}: unknown to Stripe")
            continue
        options = list(flattened(hints[name]))
        words = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
        if isinstance(reader, Choice) and set(reader.words) - set(words):
            found.append(f"{path}{name}: {set(reader.words) - set(words)}")
        inner = [option for option in options if isinstance(option, type) and hasattr(option, "__required_keys__")]
        if isinstance(reader, Fields) and name != "metadata":
            found += misfits(dict(reader.readers), inner[0], f"{path}{name}.")
        if isinstance(reader, Listing) and not any(get_origin(option) is list for option in options):
            found.append(f"{path}{name}: no list at Stripe")
    return found


def flattened(hint: Any) -> Any:
    """Yield the members of a union, however deep; strings are names that only the SDK's own modules know."""
    if isinstance(hint, str):
        hint = eval(hint, {"Literal": Literal}, names())  # noqa: S307  # the SDK's own annotation
    members = get_args(hint)
    if members and get_origin(hint) not in (list, dict, Literal):
        for member in members:
            yield from flattened(member)
    else:
        yield hint


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_accepted_parameter_is_stripes(operation: Operation) -> None:
    """Names, nesting, lists and closed words of each operation are among those of the SDK's parameter types."""
    kind = parameter_type(operation)
    assert [misfit for misfit in misfits(dict(operation.fields), kind, "") if misfit not in _RAW_CARDS] == []
    known = get_type_hints(kind, localns=names())
    assert set(operation.required) <= set(known)


def test_the_version_is_the_sdks() -> None:
    """We answer in the shapes of the API version that the pinned SDK speaks."""
    assert stripe.api_version == settings.API_VERSION


async def test_every_event_of_every_card_fits(start: Start) -> None:
    """Each test method is charged, captured, refunded, settled and aged; all objects and events fit the SDK's types."""
    sandbox = await start()
    for method in cards.METHODS:
        manual = method.kind == "card"
        params: dict[str, Any] = (
            {"currency": "usd", "allowed_payment_method_types": [method.kind]} if not manual else {}
        )
        params |= {"capture_method": "manual" if manual else "automatic", "return_url": "http://127.0.0.1:1/"}
        if method.kind == "sepa_debit":
            params |= {
                "payment_method_data": {"type": "sepa_debit", "sepa_debit": {"iban": method.number}},
                "currency": "eur",
            }
        else:
            params["payment_method"] = method.name
        try:
            intent = await sandbox.intent(confirm=True, **params)
        except stripe.CardError:
            continue
        if intent.status == "requires_action":
            await sandbox.steer(f"payment_intents/{intent.id}/authenticate", {"succeeded": True})
            intent = await sandbox.v1.payment_intents.retrieve_async(intent.id)
        if intent.status == "requires_capture":
            intent = await sandbox.v1.payment_intents.capture_async(intent.id)
            if not method.dispute:
                await sandbox.v1.refunds.create_async({"payment_intent": intent.id, "amount": 700})
    await sandbox.authorised()
    await sandbox.steer("clock", {"advance_s": 8 * 24 * 3600})
    kinds = set()
    for path in ("/v1/events", "/v1/payment_intents", "/v1/charges", "/v1/refunds", "/v1/disputes"):
        cursor: dict[str, Any] = {}
        while True:
            answer = await sandbox.http.get(path, params={"limit": 100} | cursor, auth=(sandbox.stripe_key, ""))
            wrong = violations(answer.content)
            assert not wrong, wrong[:5]
            page = answer.json()
            kinds |= {item["type"] for item in page["data"] if item["object"] == "event"}
            if not page["has_more"]:
                break
            cursor = {"starting_after": page["data"][-1]["id"]}
    assert kinds == set(re.findall(r"`((?:payment_intent|charge|refund)\.[a-z_.]+)`", PAGE))


def test_the_table_in_the_readme_is_complete() -> None:
    """Each operation, test method and fault is in the PAGE, and each operation named there exists."""
    for operation in OPERATIONS:
        assert f"`{operation.method} {operation.path}`" in PAGE
    assert set(re.findall(r"`((?:GET|POST|DELETE) /v1/[^`]+)`", PAGE)) == {
        f"{operation.method} {operation.path}" for operation in OPERATIONS
    }
    for word in [*CALL_ACTIONS, *EVENT_ACTIONS, *(method.number or method.name for method in cards.METHODS)]:
        assert f"`{word}`" in PAGE, word
