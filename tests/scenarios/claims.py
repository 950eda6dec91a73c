"""Which test says that it proves which scenario, read from the docstrings without running anything."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.architecture.source import Module, modules
from tests.scenarios.catalogue import ids_in


@dataclass(frozen=True)
class Claim:
    """One test function, in one file, and the ids in its docstring or in its class's."""

    path: str
    test: str
    line: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """One test function with its docstring and its class's."""

    path: str
    test: str
    line: int
    text: str


def claims(files: Sequence[Module] | None = None) -> list[Claim]:
    """Return every test that names an id."""
    found = (
        Claim(said.path, said.test, said.line, tuple(dict.fromkeys(ids_in(said.text)))) for said in docstrings(files)
    )
    return [claim for claim in found if claim.ids]


def docstrings(files: Sequence[Module] | None = None) -> list[Said]:
    """Return what every test says about itself."""
    return [said for module in files or modules("tests") for said in _said_in(module)]


def _said_in(module: Module) -> Iterator[Said]:
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for inner in node.body:
                yield from _said(module, inner, ast.get_docstring(node) or "", f"{node.name}::")
        else:
            yield from _said(module, node, "", "")


def _said(module: Module, node: ast.stmt, around: str, prefix: str) -> Iterator[Said]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
        text = f"{around}\n{ast.get_docstring(node) or ''}"
        yield Said(module.path, f"{prefix}{node.name}", node.lineno, text)
