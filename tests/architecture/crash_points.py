"""Every place where a process may die at exactly that line, read from the source and so never out of date."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.architecture.source import SERVICES, Module, called_name, modules

_SUFFIXES = {
    "transaction": ("before_commit", "after_commit"),
    "external_call": ("before", "after"),
    "crashpoint": (),
}
# The two files that define these words pass names on; everybody else writes them down.
_MECHANISM = frozenset({"shared.database", "shared.crashpoints"})


@dataclass(frozen=True)
class CrashPlace:
    """A call of `transaction`, `external_call` or `crashpoint`; `name` is None when it is no literal."""

    module: Module
    node: ast.Call
    kind: str
    name: str | None

    @property
    def points(self) -> tuple[str, ...]:
        """Return the names to arm: `HOLDFAST_CRASH_AT=<point>`."""
        if self.name is None:
            return ()
        return tuple(f"{self.name}.{suffix}" for suffix in _SUFFIXES[self.kind]) or (self.name,)

    @property
    def service(self) -> str:
        return self.module.rooms[0]


def places_in(module: Module) -> Iterator[CrashPlace]:
    """Yield the crash places of one module, in the order of its lines."""
    if not any(f"{word}(" in module.text for word in _SUFFIXES):
        return
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call) and called_name(node) in _SUFFIXES]
    for call in sorted(calls, key=lambda node: node.lineno):
        match call.args:
            case [ast.Constant(value=str(name))]:
                yield CrashPlace(module, call, called_name(call), name)
            case _:
                yield CrashPlace(module, call, called_name(call), None)


@cache
def crash_places() -> tuple[CrashPlace, ...]:
    """Return every crash place of the product."""
    return tuple(
        place for module in modules(*SERVICES, "shared") if module.name not in _MECHANISM for place in places_in(module)
    )


def points_of_room(name: str) -> tuple[str, ...]:
    """Return the names of one module's points, in the order of its lines."""
    return tuple(point for place in crash_places() if place.module.name == name for point in place.points)


def crash_point_names(*services: str) -> tuple[str, ...]:
    """Return all names that `HOLDFAST_CRASH_AT` takes, sorted; only those of some services when they are named.

    Points of `shared` can be reached in both services.
    """
    wanted = {*(services or SERVICES), "shared"}
    return tuple(sorted({point for place in crash_places() if place.service in wanted for point in place.points}))
