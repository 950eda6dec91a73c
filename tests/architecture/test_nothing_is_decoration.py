"""What a service declares, it uses: no setting that turns nothing, no flag nobody asks, no refusal nobody raises."""

import ast
from collections.abc import Iterable

import pytest

from tests.architecture.source import SERVICES, Module, modules, snippet


def fields_of(module: Module) -> set[str]:
    """Return the annotated fields of a module's classes: its settings."""
    return {
        item.target.id
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def set_on_self(module: Module) -> set[str]:
    """Return the attributes that a module's classes set on themselves: its metrics."""
    return {
        node.attr
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)
    }


def constants_of(module: Module) -> set[str]:
    """Return the names of texts that a module declares: its flags."""
    return {
        node.targets[0].id
        for node in module.tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }


def classes_of(module: Module) -> set[str]:
    """Return the classes that a module declares: its refusals."""
    return {node.name for node in module.tree.body if isinstance(node, ast.ClassDef)}


def names_used(elsewhere: Iterable[Module]) -> set[str]:
    """Return every name and attribute that is read in these modules."""
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for module in elsewhere
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


DECLARATIONS = {
    "settings": fields_of,
    "metrics": set_on_self,
    "flags": constants_of,
    "errors": classes_of,
}


def unused(service: str, page: str, package: Iterable[Module]) -> set[str]:
    """Return what a service's root file declares and no other file uses; a metric may be used by its own page."""
    [declaring] = [module for module in package if module.name == f"{service}.{page}"]
    users = [module for module in package if module is not declaring or page == "metrics"]
    return {name for name in DECLARATIONS[page](declaring) - names_used(users) if not name.startswith("_")}


@pytest.mark.parametrize("page", DECLARATIONS)
@pytest.mark.parametrize("service", SERVICES)
def test_everything_declared_is_used(service: str, page: str) -> None:
    """A line of `settings`, `metrics`, `flags` or `errors` that nothing refers to promises what is not there."""
    assert unused(service, page, modules(service, "shared")) - {"registry"} == set()


def test_shared_settings_are_used() -> None:
    """Every setting that both services read does something in one of them, or in shared."""
    [declaring] = [module for module in modules("shared") if module.name == "shared.settings"]
    elsewhere = [module for module in modules(*SERVICES, "shared") if module is not declaring]
    assert fields_of(declaring) - names_used(elsewhere) == set()


def test_the_rule_sees_decoration() -> None:
    """A setting, a flag and a refusal that nothing uses are reported, and one that is used is not."""
    settings = snippet("class Settings:\n    used_s: int = 1\n    idle_s: int = 2\n", "shop/settings.py")
    flags = snippet("USED = 'used'\nIDLE = 'idle'\n", "shop/flags.py")
    errors = snippet("class Used: ...\nclass Idle: ...\n", "shop/errors.py")
    user = snippet("def f(settings):\n    raise Used(settings.used_s, USED)\n", "shop/door.py")
    package = (settings, flags, errors, user)
    assert unused("shop", "settings", package) == {"idle_s"}
    assert unused("shop", "flags", package) == {"IDLE"}
    assert unused("shop", "errors", package) == {"Idle"}
