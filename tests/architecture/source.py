"""Reads the repository as data, so that a rule of the house is a function from a file to its findings."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICES = ("reservation_service", "payment_service")
PACKAGES = (*SERVICES, "shared", "deploy")


@dataclass(frozen=True)
class Module:
    """One Python file: where it is, what it says, and its syntax tree."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Return the syntax tree; most rules can tell from the text that they need not look at it."""
        return ast.parse(self.text, self.path)

    @property
    def name(self) -> str:
        """Return the dotted name, as an import statement would write it."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def rooms(self) -> tuple[str, ...]:
        """Return the dotted name in parts: `("payment_service", "gateway", "stripe")`."""
        return tuple(self.name.split("."))

    def at(self, node: ast.AST, message: str) -> str:
        """Return a finding that an editor can jump to."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {message}"


def snippet(text: str, path: str = "reservation_service/booking/example.py") -> Module:
    """Return a module that exists only in a test: the bad example by which a rule proves that it can see."""
    return Module(path, text)


@cache
def modules(*packages: str) -> tuple[Module, ...]:
    """Return every Python file below these folders of the repository, in order of their paths."""
    files = sorted(file for package in packages for file in (ROOT / package).rglob("*.py"))
    return tuple(Module(str(file.relative_to(ROOT)), file.read_text()) for file in files)


@cache
def repository_files() -> tuple[Path, ...]:
    """Return all files that are, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(sorted(ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()))


def text_files() -> Iterator[tuple[Path, str]]:
    """Yield the committed files that are text, with their text."""
    for path in repository_files():
        try:
            yield path, path.read_text()
        except UnicodeDecodeError:
            continue


def called_name(call: ast.Call) -> str:
    """Return the last part of what is called: `transaction` for `self.database.transaction("x")`."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def entered(node: ast.AsyncWith, name: str) -> ast.Call | None:
    """Return the call of `name` that this `async with` enters, if it does."""
    for item in node.items:
        if isinstance(item.context_expr, ast.Call) and called_name(item.context_expr) == name:
            return item.context_expr
    return None
