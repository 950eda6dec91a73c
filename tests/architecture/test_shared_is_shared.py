"""`shared` is what both services stand on today, not a drawer for what might be useful one day."""

import ast
from collections.abc import Iterable

import pytest

from tests.architecture.source import SERVICES, Module, modules, snippet

# One word needs no second user: what both sides of the conversation agree on is imported by both, or is not agreed on.
_SHARED = tuple(module.name for module in modules("shared") if module.name != "shared")


def shared_modules_of(service: Iterable[Module]) -> set[str]:
    """Return the modules of `shared` that a service imports itself."""
    found: set[str] = set()
    for module in service:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return {name for name in found if name in _SHARED}


@pytest.mark.parametrize("service", SERVICES)
def test_every_shared_module_is_used_by_this_service(service: str) -> None:
    """A module with one user belongs to that user."""
    unused = sorted(set(_SHARED) - shared_modules_of(modules(service)))
    assert not unused, f"{service} does not import {unused}: move each to the service that does"


def test_the_rule_sees_both_ways_of_importing() -> None:
    """`from shared import clock`, `from shared.flags import Flag` and `import shared.health` all count; a local name does not."""
    example = snippet("from shared import clock\nfrom shared.flags import Flag\nimport shared.health\nclocks = 1\n")
    assert shared_modules_of([example]) == {"shared.clock", "shared.flags", "shared.health"}
