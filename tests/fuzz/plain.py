"""Draws values from a schema without much ado: for the many runs that have seconds, not minutes."""

import random
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tests.every_door import DOCUMENTS, Operation

_TEXTS = ("a", "Ada Example", "ünïcödé", "0", "null", "\U0001f3ab ticket", "x" * 40, "O'Brien; --", "<b>", "C-3PO_7")
_WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    10**30,
    "",
    "x" * 6000,
    [],
    {},
    [[]],
    {"a": {"b": []}},
    "\x00",
    "\ud800",
)


class PlainDraw:
    """Draws what a schema allows, or something near it that it does not; the same for the same seed."""

    def __init__(self, service: str, number: int) -> None:
        self._schemas = DOCUMENTS[service].get("components", {}).get("schemas", {})
        self._random = random.Random(number)

    def body(self, operation: Operation, *, allowed: bool) -> Any:
        content = operation.described["requestBody"]["content"]["application/json"]["schema"]
        body = self._value(content)
        return body if allowed else self._spoilt(body)

    def query(self, operation: Operation, *, allowed: bool) -> dict[str, str]:
        """Draw some of the parameters that may be left out, and all that may not."""
        drawn = {}
        for parameter in operation.described.get("parameters", ()):
            if parameter["in"] != "query" or not (parameter.get("required") or self._random.random() < 0.4):
                continue
            value = self._value(parameter["schema"]) if allowed else self._random.choice(_WRONG)
            if value is not None:
                drawn[parameter["name"]] = str(value).lower() if isinstance(value, bool) else str(value)
        return drawn

    def _spoilt(self, body: Any) -> Any:
        """Put something wrong in one place, or a field that nobody asked for."""
        if not isinstance(body, dict) or not body or self._random.random() < 0.2:
            return self._random.choice(_WRONG)
        name = self._random.choice([*body, "status", "price", "version"])
        return body | {name: self._random.choice(_WRONG)}

    def _value(self, schema: Mapping[str, Any]) -> Any:
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].rpartition("/")[2]])
        for choices in ("anyOf", "oneOf"):
            if choices in schema:
                return self._value(self._random.choice(schema[choices]))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        return getattr(self, f"_{schema.get('type', 'null')}")(schema)

    def _object(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        wanted = set(schema.get("required", ()))
        properties = schema.get("properties", {})
        return {
            name: self._value(part)
            for name, part in properties.items()
            if name in wanted or self._random.random() < 0.5
        }

    def _array(self, schema: Mapping[str, Any]) -> list[Any]:
        least = schema.get("minItems", 0)
        return [self._value(schema["items"]) for _ in range(self._random.randint(least, least + 1))]

    def _integer(self, schema: Mapping[str, Any]) -> int:
        """Draw a bound or its neighbour; the description writes bounds as 1000.0, and bodies are strict."""
        least = int(schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1))
        most = int(schema.get("maximum", 10**9))
        return self._random.choice((least, min(least + 1, most), most if "maximum" in schema else least))

    def _number(self, schema: Mapping[str, Any]) -> float:
        return float(self._integer(schema))

    def _boolean(self, _schema: Mapping[str, Any]) -> bool:
        return self._random.random() < 0.5

    def _null(self, _schema: Mapping[str, Any]) -> None:
        return None

    def _string(self, schema: Mapping[str, Any]) -> str:
        match schema.get("format"):
            case "uuid":
                return str(UUID(int=self._random.getrandbits(128), version=4))
            case "date-time":
                return f"20{self._random.randint(30, 60)}-0{self._random.randint(1, 9)}-11T10:00:00Z"
            case "date":
                return f"20{self._random.randint(30, 60)}-0{self._random.randint(1, 9)}-11"
        if "[A-Z]{3}" in schema.get("pattern", ""):
            return "EUR"
        text = self._random.choice(_TEXTS)[: schema.get("maxLength", 200)]
        return text if len(text) >= schema.get("minLength", 0) else "x" * schema["minLength"]
