"""Form-encoded parameters in Stripe's bracket notation, read strictly: what is not listed is refused, never ignored."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl

from .errors import ParametersInvalid, parameter_missing, parameter_unknown

_NAME = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_PAIRS_MAX = 1000
_DEPTH_MAX = 6

Params = dict[str, Any]


def decode(encoded: str) -> Params:
    """Turn `a[b]=1&c[]=2&c[]=3` into `{"a": {"b": "1"}, "c": ["2", "3"]}`.

    Raises `ParametersInvalid` when names clash or there are more than a thousand.
    """
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=_PAIRS_MAX, errors="strict")
    except ValueError:
        raise ParametersInvalid("Invalid request body: it is no form, or too large.") from None
    tree: Params = {}
    for name, value in pairs:
        _plant(tree, name, value)
    return {name: _lists(value) for name, value in tree.items()}


def _plant(tree: Params, name: str, value: str) -> None:
    match = _NAME.match(name)
    steps = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])] if match else []
    if not steps or len(steps) > _DEPTH_MAX:
        raise ParametersInvalid(f"Invalid parameter name: {name[:80]}")
    node = tree
    for step in steps[:-1]:
        node = node.setdefault(step or str(len(node)), {})
        if not isinstance(node, dict):
            raise ParametersInvalid(f"Invalid object: {name[:80]}", param=steps[0])
    last = steps[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise ParametersInvalid(f"Invalid string: {name[:80]}", param=steps[0])
    node[last] = value


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(name.isdecimal() for name in value):
        return [_lists(item) for item in value.values()]
    return {name: _lists(item) for name, item in value.items()}


class Reader(Protocol):
    """Turns what came over the wire into what the operation works with, or refuses."""

    def read(self, name: str, value: Any) -> Any:
        """Return the value; `name` is for the message."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string; where `clearable`, an empty one unsets the field and is read as None."""

    longest: int = 5000
    clearable: bool = False

    def read(self, name: str, value: Any) -> str | None:
        if not isinstance(value, str):
            raise ParametersInvalid(f"Invalid string: {name}", param=name)
        if value == "":
            if self.clearable:
                return None
            message = f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter; however '{name}' cannot be unset."
            raise ParametersInvalid(message, code="parameter_invalid_empty", param=name)
        if len(value) > self.longest:
            message = f"Invalid string: {name} must be at most {self.longest} characters"
            raise ParametersInvalid(message, code="parameter_invalid_string", param=name)
        return value


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number, never below `least`."""

    least: int = 0
    most: int = 10**15

    def read(self, name: str, value: Any) -> int:
        if not (isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value)):
            raise ParametersInvalid(f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
        number = int(value)
        if number < self.least:
            message = f"This value must be greater than or equal to {self.least}."
            raise ParametersInvalid(message, code="parameter_invalid_integer", param=name)
        if number > self.most:
            message = f"This value must be less than or equal to {self.most}."
            raise ParametersInvalid(message, code="parameter_invalid_integer", param=name)
        return number


@dataclass(frozen=True, slots=True)
class Boolean:
    """`true` or `false`."""

    def read(self, name: str, value: Any) -> bool:
        if value not in ("true", "false"):
            raise ParametersInvalid(f"Invalid boolean: {value}", param=name)
        return bool(value == "true")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, name: str, value: Any) -> str:
        if value not in self.words:
            raise ParametersInvalid(f"Invalid {name}: must be one of {', '.join(self.words)}", param=name)
        return str(value)


@dataclass(frozen=True, slots=True)
class Metadata:
    """At most 50 pairs of strings. An empty value removes a name, an empty whole removes all (read as None)."""

    def read(self, name: str, value: Any) -> dict[str, str] | None:
        if value == "":
            return None
        if isinstance(value, list):  # names that are numbers look like a list on the wire
            value = {str(index): item for index, item in enumerate(value)}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise ParametersInvalid("Invalid metadata: expected pairs of strings", param=name)
        if len(value) > 50 or any(len(key) > 40 or len(item) > 500 for key, item in value.items()):
            message = "Metadata can hold 50 keys of 40 characters with values of 500."
            raise ParametersInvalid(message, code="parameter_invalid_string", param=name)
        return value


@dataclass(frozen=True, slots=True)
class Listing:
    """A list whose items are read one by one."""

    of: Reader = field(default_factory=Text)

    def read(self, name: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ParametersInvalid("Invalid array", param=name)
        return [self.of.read(f"{name}[{index}]", item) for index, item in enumerate(value)]


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with known members; everything unknown is refused by name."""

    readers: Mapping[str, Reader]
    required: tuple[str, ...] = ()

    def read(self, name: str, value: Any) -> Params:
        if not isinstance(value, dict):
            raise ParametersInvalid("Invalid object", param=name)
        unknown = [key for key in value if key not in self.readers]
        if unknown:
            raise parameter_unknown(_path(name, unknown[0]))
        missing = [key for key in self.required if key not in value]
        if missing:
            raise parameter_missing(_path(name, missing[0]))
        return {key: self.readers[key].read(_path(name, key), item) for key, item in value.items()}


@dataclass(frozen=True, slots=True)
class Span:
    """`created=5` or `created[gte]=5&created[lt]=9`, read as `{"gte": 5, "lt": 9}`."""

    def read(self, name: str, value: Any) -> dict[str, int]:
        if isinstance(value, str):
            number = Integer().read(name, value)
            return {"gte": number, "lte": number}
        bounds = dict.fromkeys(("gt", "gte", "lt", "lte"), Integer())
        return Fields(bounds).read(name, value)


def _path(parent: str, key: str) -> str:
    return f"{parent}[{key}]" if parent else key


def merged_metadata(present: dict[str, str], change: dict[str, str] | None) -> dict[str, str]:
    """Apply a metadata parameter to what is there, as Stripe does: an empty value removes the name."""
    if change is None:
        return {}
    return {key: value for key, value in (present | change).items() if value != ""}
