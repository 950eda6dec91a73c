"""Compares two OpenAPI documents the way a client does: what it relied on yesterday must be there today.

A request may ask for less and allow more; an answer may tell more and promise nothing less.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]
_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
# What narrows a value when it appears or changes in a request.
_LIMITS = ("pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "minItems", "maxItems")


def losses(old: Document, new: Document) -> list[str]:
    """Return everything by which `new` would break a client of `old`."""
    return list(_paths(_Pair(old, new)))


class _Pair:
    """The two documents, and which pairs of named schemas were compared already (schemas may name themselves)."""

    def __init__(self, old: Document, new: Document) -> None:
        self.old = old
        self.new = new
        self.seen: set[tuple[str, str, bool]] = set()


def _resolve(document: Document, schema: Any) -> tuple[Any, str]:
    name = schema.get("$ref", "") if isinstance(schema, Mapping) else ""
    found: Any = schema
    if name:
        found = document
        for part in name.removeprefix("#/").split("/"):
            found = found[part]
    return found, name


def _paths(pair: _Pair) -> Iterator[str]:
    for path, operations in pair.old.get("paths", {}).items():
        for method in (method for method in _METHODS if method in operations):
            where = f"{method.upper()} {path}"
            now = pair.new.get("paths", {}).get(path, {}).get(method)
            if now is None:
                yield f"{where}: is gone"
            else:
                yield from _operation(pair, where, operations[method], now)


def _operation(pair: _Pair, where: str, old: Document, new: Document) -> Iterator[str]:
    if old.get("operationId") != new.get("operationId"):
        yield f"{where}: operationId changed, so generated clients rename a function"
    yield from _parameters(pair, where, old, new)
    yield from _body(pair, where, old.get("requestBody"), new.get("requestBody"))
    for status, answer in old.get("responses", {}).items():
        now = new.get("responses", {}).get(status)
        if now is None:
            yield f"{where}: answer {status} is gone"
        else:
            yield from _content(pair, f"{where} {status}", answer, now, asked=False)


def _parameters(pair: _Pair, where: str, old: Document, new: Document) -> Iterator[str]:
    before = {(each["in"], each["name"]): each for each in old.get("parameters", ())}
    after = {(each["in"], each["name"]): each for each in new.get("parameters", ())}
    for key, parameter in before.items():
        label = f"{where} {key[0]} {key[1]}"
        if key not in after:
            yield f"{label}: is gone"
        else:
            yield from _schema(pair, label, parameter.get("schema", {}), after[key].get("schema", {}), asked=True)
    for key, parameter in after.items():
        if parameter.get("required") and not before.get(key, {}).get("required"):
            yield f"{where} {key[0]} {key[1]}: is now required"


def _body(pair: _Pair, where: str, old: Document | None, new: Document | None) -> Iterator[str]:
    if old is None:
        if new is not None and new.get("required"):
            yield f"{where}: now needs a body"
    elif new is None:
        yield f"{where}: no longer takes a body"
    else:
        yield from _content(pair, f"{where} body", old, new, asked=True)


def _content(pair: _Pair, where: str, old: Document, new: Document, *, asked: bool) -> Iterator[str]:
    for media, body in old.get("content", {}).items():
        now = new.get("content", {}).get(media)
        if now is None:
            yield f"{where}: {media} is gone"
        else:
            yield from _schema(pair, where, body.get("schema", {}), now.get("schema", {}), asked=asked)


def _schema(pair: _Pair, where: str, old: Any, new: Any, *, asked: bool) -> Iterator[str]:
    """Compare two schemas; `asked` is true on the way in, where narrowing breaks, and false on the way out."""
    old, old_name = _resolve(pair.old, old)
    new, new_name = _resolve(pair.new, new)
    if old_name and (old_name, new_name, asked) in pair.seen:
        return
    pair.seen.add((old_name, new_name, asked))
    if old == new and not old_name and "$ref" not in str(old):
        return
    yield from _kind(where, old, new, asked=asked)
    yield from _properties(pair, where, old, new, asked=asked)
    if "items" in old:
        yield from _schema(pair, f"{where}[]", old["items"], new.get("items", {}), asked=asked)
    yield from _alternatives(pair, where, old, new, asked=asked)


def _kind(where: str, old: Document, new: Document, *, asked: bool) -> Iterator[str]:
    for word in ("type", "format", "const"):
        if old.get(word) != new.get(word):
            yield f"{where}: {word} was {old.get(word)}, is {new.get(word)}"
    before, after = set(old.get("enum", ())), set(new.get("enum", ()))
    if asked and before and before - after:
        yield f"{where}: no longer takes {sorted(map(str, before - after))}"
    for word in _LIMITS:
        if asked and old.get(word) != new.get(word) and not _wider(word, old.get(word), new.get(word)):
            yield f"{where}: {word} was {old.get(word)}, is {new.get(word)}"


def _wider(word: str, old: Any, new: Any) -> bool:
    if new is None:
        return True
    if old is None or word == "pattern":
        return False
    return bool(new >= old) if word.startswith("max") else bool(new <= old)


def _properties(pair: _Pair, where: str, old: Document, new: Document, *, asked: bool) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    needed, needs = set(old.get("required", ())), set(new.get("required", ()))
    for name, schema in before.items():
        if name not in after:
            yield f"{where}.{name}: is gone"
        else:
            yield from _schema(pair, f"{where}.{name}", schema, after[name], asked=asked)
    if asked:
        yield from (f"{where}.{name}: is now required" for name in sorted(needs - needed))
    else:
        yield from (f"{where}.{name}: is no longer always there" for name in sorted((needed - needs) & set(after)))


def _alternatives(pair: _Pair, where: str, old: Document, new: Document, *, asked: bool) -> Iterator[str]:
    for word in ("anyOf", "oneOf", "allOf"):
        before, after = old.get(word, []), new.get(word, [])
        if asked and len(after) < len(before):
            yield f"{where}: {len(before) - len(after)} of {word} is gone"
        if not asked and any(_is_null(each) for each in after) and not any(_is_null(each) for each in before):
            yield f"{where}: may now be null"
        for index, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from _schema(pair, f"{where} ({word} {index})", one, other, asked=asked)


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"
