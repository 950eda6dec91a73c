"""Every operation of the two API descriptions, so that a test of a rule at the door forgets none, old or new."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import payment_service.app
import reservation_service.app

DOCUMENTS = {
    "reservation": reservation_service.app.openapi_document(),
    "payment": payment_service.app.openapi_document(),
}


@dataclass(frozen=True)
class Operation:
    """One line of an API description."""

    service: str
    method: str
    path: str
    described: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.described["operationId"])

    @property
    def has_body(self) -> bool:
        return "requestBody" in self.described

    def with_ids(self, some_id: object) -> str:
        """Return the path with this id in the place of all that it asks for."""
        parts = (str(some_id) if part.startswith("{") else part for part in self.path.split("/"))
        return "/".join(parts)


def operations(service: str, prefix: str) -> Iterator[Operation]:
    """Yield the operations of a service whose path begins like this."""
    for path, methods in DOCUMENTS[service]["paths"].items():
        if path.startswith(prefix):
            for method, described in methods.items():
                yield Operation(service, method.upper(), path, described)


def body_schemas(service: str, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every object that a request body under this prefix is made of, with the name of its operation."""
    for operation in operations(service, prefix):
        if operation.has_body:
            content = operation.described["requestBody"]["content"]["application/json"]["schema"]
            for schema in _objects(service, content, frozenset()):
                yield operation.id, schema


def _objects(service: str, schema: Mapping[str, Any], seen: frozenset[str]) -> Iterator[Mapping[str, Any]]:
    reference = schema.get("$ref")
    if reference:
        name = reference.rpartition("/")[2]
        if name not in seen:
            yield from _objects(service, DOCUMENTS[service]["components"]["schemas"][name], seen | {name})
        return
    if schema.get("type") == "object":
        yield schema
    for parts in (
        schema.get("properties", {}).values(),
        *(schema.get(name, ()) for name in ("anyOf", "oneOf", "allOf")),
    ):
        for part in parts:
            yield from _objects(service, part, seen)
    if isinstance(schema.get("items"), Mapping):
        yield from _objects(service, schema["items"], seen)
