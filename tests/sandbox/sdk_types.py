"""The SDK's annotations as a contract: what the sandbox emits must fit the classes, what it accepts the parameter types.

Enums in the SDK are open (`Literal[...] | str`); here the listed words are binding, because a new word would be ours.
"""

import functools
import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import orjson
import stripe
from stripe import StripeObject

_CLASS_OF = {
    "payment_intent": "PaymentIntent",
    "payment_method": "PaymentMethod",
    "charge": "Charge",
    "refund": "Refund",
    "dispute": "Dispute",
    "event": "Event",
    "webhook_endpoint": "WebhookEndpoint",
}


def violations(body: bytes) -> list[str]:
    """Return what in an answer or event does not fit the SDK's types; an empty list is praise."""
    return list(_document(orjson.loads(body), "$"))


def _document(document: Any, path: str) -> Iterator[str]:
    if document.get("object") == "list":
        for index, item in enumerate(document["data"]):
            yield from _document(item, f"{path}[{index}]")
    elif not document.get("deleted"):
        yield from _fits(document, names()[_CLASS_OF[document["object"]]], f"{path}:{document['object']}")
        if document["object"] == "event":
            yield from _document(document["data"]["object"], f"{path}.data.object")


@functools.cache
def names() -> dict[str, Any]:
    """Return every class of the SDK by name, for annotations that only a type checker could resolve."""
    found: dict[str, Any] = dict(vars(typing))
    modules = [
        importlib.import_module(f"stripe.{name}")
        for _, name, _ in pkgutil.iter_modules(stripe.__path__)
        if name != "oauth_error"
    ]
    modules += [
        importlib.import_module(f"stripe.params.{name}")
        for _, name, _ in pkgutil.iter_modules(importlib.import_module("stripe.params").__path__)
    ]
    for module in modules:
        found |= {
            name: value for name, value in vars(module).items() if isinstance(value, type) or name == "ExpandableField"
        }
    found["CardResource"] = found["Card"]
    return found


@functools.cache
def hints(kind: type) -> dict[str, Any]:
    """Return the resolved annotations of one class, without what its bases bring."""
    resolved = get_type_hints(kind, localns=names())
    return {name: resolved[name] for name in kind.__annotations__ if get_origin(resolved[name]) is not ClassVar}


def _fits(value: Any, hint: Any, path: str) -> Iterator[str]:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        yield from _fits_one(value, get_args(hint), path)
    elif origin is Literal:
        if value not in get_args(hint):
            yield f"{path}: {value!r} is none of {get_args(hint)}"
    elif origin in (list, typing.List):  # noqa: UP006  # the SDK writes both
        yield from _fits_items(value, get_args(hint)[0], path)
    elif isinstance(hint, type) and issubclass(hint, StripeObject):
        yield from _fits_object(value, hint, path)
    elif (
        hint is not Any
        and isinstance(hint, type)
        and (not isinstance(value, hint) or (hint is int and isinstance(value, bool)))
    ):
        yield f"{path}: {value!r} is no {hint.__name__}"


def _fits_one(value: Any, members: tuple[Any, ...], path: str) -> Iterator[str]:
    if value is None and type(None) in members:
        return
    words = [word for member in members if get_origin(member) is Literal for word in get_args(member)]
    if words and isinstance(value, str):
        if value not in words:
            yield f"{path}: {value!r} is none of {words}"
        return
    attempts = [list(_fits(value, member, path)) for member in members if member is not type(None)]
    if all(attempts):
        yield from min(attempts, key=len)


def _fits_items(value: Any, hint: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: no list"
        return
    for index, item in enumerate(value):
        yield from _fits(item, hint, f"{path}[{index}]")


def _fits_object(value: Any, kind: type, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no object"
        return
    if kind.__name__ == "UntypedStripeObject" or not getattr(kind, "__annotations__", None):
        return
    known = hints(kind)
    for name, hint in known.items():
        if name in value:
            yield from _fits(value[name], hint, f"{path}.{name}")
        elif type(None) not in get_args(hint):
            yield f"{path}.{name}: missing"
    yield from (f"{path}.{name}: unknown" for name in value if name not in known)
