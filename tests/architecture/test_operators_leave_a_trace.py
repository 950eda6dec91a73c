"""Whatever an operator can do is written down: each operation that changes something names itself to `record`."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

import payment_service.app
import reservation_service.app
from tests.architecture.source import SERVICES, Module, modules, snippet

_DOCUMENTS = {
    "reservation_service": reservation_service.app.openapi_document,
    "payment_service": payment_service.app.openapi_document,
}
_SAFE = {"get", "head", "options"}


def changing_operations(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the operation ids of the admin API that are no mere reading."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/admin/") and method not in _SAFE:
                yield operation["operationId"]


def named_in_acts(sources: Iterable[Module]) -> set[str]:
    """Return the texts that stand in modules which write actions down, the declarations of routes left out."""
    found: set[str] = set()
    for module in sources:
        if "shared.operator_actions" not in module.text:
            continue
        declared = {
            id(keyword.value)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "operation_id"
        }
        found |= {
            node.value
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in declared
        }
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_every_action_of_an_operator_is_recorded(service: str) -> None:
    """An operation that nothing names to `shared.operator_actions` leaves no trace of who did it, and why."""
    operations = set(changing_operations(_DOCUMENTS[service]()))
    assert operations
    silent = operations - named_in_acts(modules(service, "shared"))
    assert not silent, f"write these down with shared.operator_actions.record: {sorted(silent)}"


def test_the_rule_sees_bad_examples() -> None:
    """A route's own declaration is no record, and neither is a text where nothing is recorded."""
    route = 'import shared.operator_actions\n@router.post("/x", operation_id="doIt")\nasync def f(): ...\n'
    assert "doIt" not in named_in_acts([snippet(route)])
    assert "doIt" not in named_in_acts([snippet('Act(by, "doIt")')])
    assert "doIt" in named_in_acts([snippet(f'{route}Act(by, "doIt")')])
    document = {"paths": {"/admin/v1/x": {"get": {"operationId": "look"}, "post": {"operationId": "act"}}}}
    assert list(changing_operations(document)) == ["act"]
