"""Who calls whom inside a service, as far as annotations tell: enough to see the network behind two method calls.

Python does not say what `self.payments` is, but this house annotates everything, so following the annotations of
parameters and fields finds the class, and the class finds the room it lives in.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tests.architecture.source import Module

ROOMS_THAT_LEAVE = frozenset({"clients", "gateway"})
# A field of this type holds an act of the saga that leaves the process; calling it is a call to another system.
_OUTSIDE_ACT = "RemoteAct"
# Letting go of a client's connections asks nobody anything.
_LETS_GO = frozenset({"close", "aclose"})
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class _Class:
    module: Module
    node: ast.ClassDef
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """A mention of one of our functions: who mentions it, where, and its full name."""

    module: Module
    inside: str
    node: ast.AST
    target: str


class CallGraph:
    """The functions of one service and what they mention. A function is named `package.module:Class.method`."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self._modules = modules
        self._classes: dict[str, _Class] = {}
        self._functions: dict[str, Function] = {}
        self._acts: set[str] = set()
        self._tables: dict[str, ast.expr] = {}
        for module in modules:
            self._declare(module)
        self._aliases = dict(self._annotated())
        for owner in self._classes.values():
            owner.fields = dict(self._fields_of(owner))

    def _declare(self, module: Module) -> None:
        for node in module.tree.body:
            if isinstance(node, _FUNCTION):
                self._functions[f"{module.name}:{node.name}"] = node
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                self._tables[f"{module.name}:{node.target.id}"] = node.value
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._tables[f"{module.name}:{node.targets[0].id}"] = node.value
            elif isinstance(node, ast.ClassDef):
                self._classes[node.name] = _Class(module, node)
                for inner in node.body:
                    if isinstance(inner, _FUNCTION):
                        self._functions[f"{module.name}:{node.name}.{inner.name}"] = inner
                    elif isinstance(inner, ast.AnnAssign) and ast.unparse(inner.annotation) == _OUTSIDE_ACT:
                        self._acts.add(f"{module.name}:{node.name}.{ast.unparse(inner.target)}")

    def _annotated(self) -> Iterator[tuple[str, str]]:
        """Yield names such as `TheParts = Annotated[Parts, ...]`, by which the door asks for what it needs."""
        for name, value in self._tables.items():
            match value:
                case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[ast.Name(id=meant), *_])):
                    yield name.partition(":")[2], meant

    def _fields_of(self, owner: _Class) -> Iterator[tuple[str, str]]:
        for node in owner.node.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield from ((node.target.id, name) for name in self._named_in(node.annotation))
            elif isinstance(node, _FUNCTION):
                types = self._types_in(node)
                for statement in ast.walk(node):
                    yield from self._field_set_by(statement, types)

    def _field_set_by(self, node: ast.AST, types: dict[str, str]) -> Iterator[tuple[str, str]]:
        match node:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=value):
                known = self._type_of(value, types)
                if known:
                    yield name, known
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name), annotation=annotation):
                yield from ((name, known) for known in self._named_in(annotation))

    def _named_in(self, annotation: ast.AST | None) -> list[str]:
        """Return the classes of ours that an annotation names; a quoted one is read too."""
        if annotation is None:
            return []
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval")
        names = (getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(annotation))
        known = (self._aliases.get(name, name) for name in names)
        return [name for name in known if name in self._classes]

    def _types_in(self, function: Function, owner: str = "") -> dict[str, str]:
        """Return the classes of a function's parameters and local variables."""
        arguments = function.args
        types = {
            argument.arg: named[0]
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            if (named := self._named_in(argument.annotation))
        }
        if owner:
            types["self"] = owner
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                known = self._type_of(node.value, types)
                if known:
                    types[node.targets[0].id] = known
        return types

    def _type_of(self, expression: ast.AST, types: dict[str, str]) -> str | None:
        match expression:
            case ast.Name(id=name):
                return types.get(name)
            case ast.Attribute(value=value, attr=name):
                owner = self._type_of(value, types)
                return self._classes[owner].fields.get(name) if owner else None
            case ast.Call(func=ast.Name(id=name)) if name in self._classes:
                return name
            case ast.BoolOp(values=[first, *_]):
                return self._type_of(first, types)
        return None

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """Every mention of one of our functions, called or handed on."""
        return tuple(reference for module in self._modules for reference in self._references_in(module))

    def _references_in(self, module: Module) -> Iterator[Reference]:
        imported = _imports(module)
        for name, value in self._tables.items():
            if name.startswith(f"{module.name}:"):
                entries = ((node, self._target(node, module, {}, imported)) for node in ast.walk(value))
                yield from (Reference(module, name, node, target) for node, target in entries if target)
        for name, function in self._functions.items():
            if not name.startswith(f"{module.name}:"):
                continue
            owner = name.partition(":")[2].rpartition(".")[0]
            types = self._types_in(function, owner)
            called = {id(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
            for node in ast.walk(function):
                target = self._target(node, module, types, imported)
                if target and target != name and (target not in self._acts or id(node) in called):
                    yield Reference(module, name, node, target)

    def _target(self, node: ast.AST, module: Module, types: dict[str, str], imported: dict[str, str]) -> str | None:
        match node:
            case ast.Subscript(value=ast.Name(id=name)) | ast.Attribute(value=ast.Name(id=name), attr="get") if (
                table := _named(name, module, imported)
            ) in self._tables:
                return table
            case ast.Attribute(value=ast.Name(id=alias), attr=name) if alias in imported:
                candidate = f"{imported[alias]}:{name}"
            case ast.Attribute(value=value, attr=name):
                owner = self._type_of(value, types)
                candidate = f"{self._classes[owner].module.name}:{owner}.{name}" if owner else ""
            case ast.Name(id=name):
                candidate = _named(name, module, imported)
            case _:
                return None
        return candidate if candidate in self._functions or candidate in self._acts else None

    def leaves(self, function: str) -> bool:
        """Tell whether a function is a call to another system: it waits, and lives in `clients/` or `gateway/`."""
        rooms = function.partition(":")[0].split(".")
        node = self._functions.get(function)
        waits = isinstance(node, ast.AsyncFunctionDef) and node.name not in _LETS_GO
        return waits and rooms[1:2] != [] and rooms[1] in ROOMS_THAT_LEAVE

    @cached_property
    def reaching(self) -> frozenset[str]:
        """All functions from which a call to another system can be reached, through any number of ours."""
        reached = {name for name in self._functions if self.leaves(name)} | self._acts
        while True:
            more = {reference.inside for reference in self.references if reference.target in reached} - reached
            if not more:
                return frozenset(reached)
            reached |= more

    def references_within(self, module: Module, node: ast.AST) -> Iterator[Reference]:
        """Yield the mentions that stand lexically inside `node`."""
        inner = set(map(id, ast.walk(node)))
        return (ref for ref in self.references if ref.module is module and id(ref.node) in inner)


def _named(name: str, module: Module, imported: dict[str, str]) -> str:
    """Return the full name of what a module calls `name`."""
    home, _, inner = imported.get(name, f"{module.name}.{name}").rpartition(".")
    return f"{home}:{inner}"


def _imports(module: Module) -> dict[str, str]:
    """Return local name -> dotted name of everything a module imports."""
    found: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
    return found
