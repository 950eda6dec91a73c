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


def claims(files: Sequence[Module] | None = None) -> list[Claim]:
    """Return every test that names an id."""
    return [claim for module in files or modules("tests") for claim in _claims_in(module) if claim.ids]


def _claims_in(module: Module) -> Iterator[Claim]:
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for inner in node.body:
                yield from _claim(module, inner, ast.get_docstring(node) or "", f"{node.name}::")
        else:
            yield from _claim(module, node, "", "")


def _claim(module: Module, node: ast.stmt, around: str, prefix: str) -> Iterator[Claim]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
        said = f"{around}\n{ast.get_docstring(node) or ''}"
        yield Claim(module.path, f"{prefix}{node.name}", node.lineno, tuple(dict.fromkeys(ids_in(said))))
