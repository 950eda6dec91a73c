"""Requests drawn from the two API descriptions, of the allowed forms and of forbidden ones, by schemathesis or plainly."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import orjson
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.builders import a_key
from tests.every_door import DOCUMENTS, Operation, operations
from tests.fuzz.plain import PlainDraw
from tests.fuzz.wire import Sent
from tests.fuzz.world import BODIES, NAMES, PATHS, QUERIES, World

_GENERATE = settings(
    database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), print_blob=False
)


def every_operation() -> list[Operation]:
    return [operation for service in DOCUMENTS for operation in operations(service, "/")]


@dataclass(frozen=True)
class Case:
    """What was drawn for one request."""

    query: Mapping[str, Any]
    body: Any


class Draw(Protocol):
    """Draws cases of an operation."""

    def __call__(self, operation: Operation, *, allowed: bool, count: int) -> Iterable[Case]: ...


def plain_draw(number: int) -> Draw:
    """Return the quick way, which knows little of formats."""
    draws = {name: PlainDraw(name, number) for name in DOCUMENTS}

    def draw(operation: Operation, *, allowed: bool, count: int) -> Iterable[Case]:
        drawn = draws[operation.service]
        for _ in range(count):
            body = drawn.body(operation, allowed=allowed) if operation.has_body else None
            yield Case(drawn.query(operation, allowed=allowed), body)

    return draw


def thorough_draw(number: int) -> Draw:
    """Return schemathesis, which takes seconds for each operation and thinks of everything."""
    import schemathesis
    from schemathesis import GenerationMode

    schemas = {name: schemathesis.openapi.from_dict(document) for name, document in DOCUMENTS.items()}

    def draw(operation: Operation, *, allowed: bool, count: int) -> Iterable[Case]:
        described = schemas[operation.service][operation.path][operation.method]
        mode = GenerationMode.POSITIVE if allowed else GenerationMode.NEGATIVE
        drawn: list[Case] = []

        @seed(number)
        @settings(_GENERATE, max_examples=count)
        @given(case=described.as_strategy(generation_mode=mode))
        def collect(case: Any) -> None:
            drawn.append(Case(case.query or {}, case.body))

        try:
            collect()
        except Exception as error:  # an operation without parameters has no forbidden form
            if allowed:
                raise
            assert "Unsatisfiable" in repr(error) or "Skip" in repr(error), repr(error)  # noqa: PT017
        return drawn

    return draw


class Generator:
    """Makes requests of what was drawn."""

    def __init__(self, world: World, draw: Draw) -> None:
        self._world = world
        self._draw = draw
        self._kept: dict[str, str] = {}

    def requests(self, operation: Operation, *, allowed: bool, count: int) -> Iterator[Sent]:
        """Yield requests of allowed (or forbidden) form; the allowed ones name things that are there."""
        for case in self._draw(operation, allowed=allowed, count=count):
            yield self._request(operation, case, allowed=allowed)

    def _request(self, operation: Operation, case: Case, *, allowed: bool) -> Sent:
        world, name = self._world, operation.id
        path = self._path(operation)
        query = dict(case.query)
        if allowed and name in QUERIES:
            query = QUERIES[name](world)
        if allowed and "starting_after" in query:
            del query["starting_after"]  # a cursor that nobody gave out
        if query:
            path += "?" + urlencode(_texts(query), doseq=True, errors="replace")
        body = self._body(operation, case, allowed=allowed)
        headers = {"Content-Type": "application/json"} if operation.has_body else {}
        if any(
            parameter["name"].lower() == "idempotency-key" for parameter in operation.described.get("parameters", ())
        ):
            headers["Idempotency-Key"] = a_key()
        return self.guarded(operation, path, headers, body)

    def guarded(self, operation: Operation, path: str, headers: dict[str, str], body: bytes) -> Sent:
        """Return the request with what opens its door."""
        world = self._world
        if operation.path.startswith("/admin/"):
            headers["Authorization"] = f"Bearer {world.operator}"
        elif operation.path.startswith("/internal/"):
            headers = world.signed(operation.service, operation.method, path, headers, body)
        elif operation.path.startswith("/webhooks/"):
            headers |= world.stripes(body)
        else:
            headers["Authorization"] = f"Bearer {world.guest.token}"
        lines = tuple((key.encode(), value.encode("latin-1", "replace")) for key, value in headers.items())
        return Sent(operation.service, operation.method.encode(), path.encode(), lines, body, operation.id)

    def _path(self, operation: Operation) -> str:
        parts = []
        for part in operation.path.split("/"):
            name = part.strip("{}")
            parts.append(quote(self._id(operation, name), safe="") if part.startswith("{") else part)
        return "/".join(parts)

    def _id(self, operation: Operation, name: str) -> str:
        if operation.id in NAMES:
            return NAMES[operation.id].get(operation.service, "interactive")
        name = PATHS.get(operation.id, name)
        maker = getattr(self._world, name, self._world.new_id)
        if operation.method != "GET" or operation.path.startswith("/v1/"):
            return str(maker())
        return self._kept.setdefault(name, str(maker()))

    def _body(self, operation: Operation, case: Case, *, allowed: bool) -> bytes:
        if operation.path.startswith("/webhooks/"):
            return self._world.event()
        if not operation.has_body:
            return b""
        body = case.body
        if allowed and operation.id in BODIES:
            body = BODIES[operation.id](self._world, dict(body) if isinstance(body, Mapping) else {})
        try:
            return orjson.dumps(body, default=_unset)
        except (TypeError, ValueError):
            return repr(body).encode("utf-8", "surrogatepass")


def _unset(_value: object) -> None:
    """Write what the generator left out as null."""


def _texts(query: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, list) else _text(value) for name, value in query.items() if value is not None
    }


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
