"""The rooms of both services are fenced by contracts; `make lint` checks the imports, this checks the fence."""

import tomllib
from typing import Any

import pytest

from tests.architecture.source import PACKAGES, ROOT, SERVICES


def _contracts() -> list[dict[str, Any]]:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert set(configured["root_packages"]) == set(PACKAGES)
    contracts: list[dict[str, Any]] = configured["contracts"]
    return contracts


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_exhaustive_layers(service: str) -> None:
    """Every room of a service has its place, and a new one without a place breaks the build."""
    [layers] = [contract for contract in _contracts() if contract.get("containers") == [service]]
    assert layers["type"] == "layers"
    assert layers["exhaustive"] is True
    placed = {room.strip(" ()") for layer in layers["layers"] for room in layer.split("|")}
    present = {path.stem for path in (ROOT / service).iterdir() if not path.name.startswith("__init__")}
    assert present - {"__pycache__", "py"} <= placed


@pytest.mark.parametrize("library", ["fastapi", "stripe", "redis", "httpx", "sqlalchemy", "asyncpg"])
def test_each_library_is_fenced_in_both_services(library: str) -> None:
    """A library that belongs to one room is forbidden in all others, of both services."""
    [fence] = [contract for contract in _contracts() if library in contract.get("forbidden_modules", ())]
    assert set(SERVICES) <= set(fence["source_modules"])


def test_the_services_and_shared_are_strangers() -> None:
    """The services never import each other, and shared imports neither."""
    by_id = {contract["id"]: contract for contract in _contracts()}
    assert set(by_id["services-are-strangers"]["modules"]) == set(SERVICES)
    assert {*SERVICES, "deploy"} == set(by_id["shared-knows-nobody"]["forbidden_modules"])


def test_lint_runs_the_contracts_without_a_cache() -> None:
    """`make lint` runs import-linter, and never on remembered results."""
    assert "lint-imports --no-cache" in (ROOT / "Makefile").read_text()
