"""The rules of the house that one file can keep or break: each is a function, a bad example and a good one."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.architecture.source import Module, called_name

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 300
TEST_MODULE_LINES_MAX = 400
BANNED_NAMES = frozenset(
    {
        "util",
        "utils",
        "helper",
        "helpers",
        "manager",
        "managers",
        "common",
        "misc",
        "core",
        "base",
        "service",
        "services",
    }
)
TRADE_WORDS = frozenset(
    {"hold", "holds", "slot", "slots", "seat", "seats", "stripe", "webhook", "webhooks", "reservation", "reservations"}
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Rule:
    """A rule: what it looks at, why it is one, and the two examples that keep the rule itself honest."""

    find: Callable[[Module], Iterable[str]]
    why: str
    bad: str
    good: str
    applies: Callable[[Module], bool] = field(default=lambda _module: True)
    bad_path: str = "reservation_service/booking/example.py"
    good_path: str = "reservation_service/booking/example.py"

    @property
    def name(self) -> str:
        return self.find.__name__


def is_test(module: Module) -> bool:
    return module.rooms[0] == "tests"


def is_product(module: Module) -> bool:
    return not is_test(module)


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module, methods and inner ones included."""
    return (node for node in ast.walk(module.tree) if isinstance(node, _FUNCTION))


def long_functions(module: Module) -> Iterator[str]:
    for function in functions(module):
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield module.at(function, f"{function.name} has {lines} lines, the limit is {FUNCTION_LINES_MAX}")


def long_modules(module: Module) -> Iterator[str]:
    limit = TEST_MODULE_LINES_MAX if is_test(module) else MODULE_LINES_MAX
    lines = len(module.text.splitlines())
    if lines > limit:
        yield f"{module.path}:1: {lines} lines, the limit is {limit}: split it by what it does"


def modules_without_a_sentence(module: Module) -> Iterator[str]:
    words = (ast.get_docstring(module.tree) or "").split()
    if len(words) < 3:
        yield f"{module.path}:1: opens without a sentence saying why this file exists"


def banned_names(module: Module) -> Iterator[str]:
    for part in module.path.removesuffix(".py").split("/"):
        if part in BANNED_NAMES:
            yield f"{module.path}:1: `{part}` says what kind of thing it is, not what it does"


def commits_by_hand(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and called_name(node) in {"commit", "rollback"}:
            yield module.at(node, "a commit happens by leaving `database.transaction(...)`, a rollback by raising")


def yielding_dependencies(module: Module) -> Iterator[str]:
    for function in functions(module):
        for node in ast.walk(function):
            if isinstance(node, ast.Yield | ast.YieldFrom):
                yield module.at(node, f"{function.name} yields: what follows runs after the answer has been sent")


def framework_pages_from_elsewhere(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "FastAPI":
            off = {name for keyword in node.keywords for name in _given_as_none(module, keyword)}
            for name in ("docs_url", "redoc_url"):
                if name not in off:
                    yield module.at(node, f"pass {name}=None: the framework's own page loads scripts from elsewhere")


def _given_as_none(module: Module, keyword: ast.keyword) -> Iterator[str]:
    """Yield which arguments a keyword sets to None, also through `**NAME` of a dict written in this module."""
    match keyword:
        case ast.keyword(arg=str(name), value=ast.Constant(value=None)):
            yield name
        case ast.keyword(arg=None, value=ast.Name(id=name)):
            for node in module.tree.body:
                match node:
                    case (
                        ast.Assign(targets=[ast.Name(id=given)], value=ast.Dict(keys=keys, values=values))
                        | ast.AnnAssign(target=ast.Name(id=given), value=ast.Dict(keys=keys, values=values))
                    ) if given == name:
                        yield from _keys_set_to_none(keys, values)


def _keys_set_to_none(keys: Sequence[ast.expr | None], values: Sequence[ast.expr]) -> Iterator[str]:
    for key, value in zip(keys, values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(value, ast.Constant) and value.value is None:
            yield str(key.value)


def words_of_the_trade(module: Module) -> Iterator[str]:
    for node, name in _identifiers(module.tree):
        words = {word.lower() for word in _WORD.findall(name)}
        if not name.startswith("__") and words & TRADE_WORDS:
            yield module.at(node, f"`{name}` speaks of the trade; shared code serves any two services")


def _identifiers(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node, name
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield node, name


def tests_without_a_sentence(module: Module) -> Iterator[str]:
    for function in functions(module):
        if function.name.startswith("test_") and not ast.get_docstring(function):
            yield module.at(function, f"{function.name} does not say what it proves")


def ignores_without_a_code(module: Module) -> Iterator[str]:
    for number, comment in _comments(module):
        if re.search(r"(type:\s*ignore|noqa)\s*($|[^\[:\w])", comment):
            yield f"{module.path}:{number}: name the check that is switched off"


def left_overs(module: Module) -> Iterator[str]:
    for number, comment in _comments(module):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment):
            yield f"{module.path}:{number}: finish it, or write an issue"


def _comments(module: Module) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


RULES = (
    Rule(
        long_functions,
        why="a function is read in one look",
        bad="def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX,
        good="def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1),
        applies=lambda module: "versions" not in module.rooms,  # a migration is one long list, never changed again
    ),
    Rule(
        long_modules,
        why="a module has one subject",
        bad="x = 1\n" * (MODULE_LINES_MAX + 1),
        good="x = 1\n" * MODULE_LINES_MAX,
    ),
    Rule(
        modules_without_a_sentence,
        why="the first line of a file says why it exists",
        bad="import os\n",
        good='"""Takes seats, and gives them back."""\n',
        applies=lambda module: bool(module.text.strip()),
    ),
    Rule(
        banned_names,
        why="a file is named after what it does",
        bad="",
        good="",
        bad_path="shared/utils.py",
        good_path="shared/clock.py",
    ),
    Rule(
        commits_by_hand,
        why="every commit has a name, a pair of crash points, and happens before the answer",
        bad="async def f(tx):\n    await tx.commit()\n",
        good="async def f(database):\n    async with database.transaction('f') as tx:\n        ...\n",
        applies=lambda module: module.rooms[0] in {"reservation_service", "payment_service"},
    ),
    Rule(
        yielding_dependencies,
        why="the framework runs the code after a dependency's `yield` when the client has its 200 already",
        bad="async def connection():\n    yield 1\n    commit()\n",
        good="async def connection():\n    return 1\n",
        applies=lambda module: module.rooms[1:2] == ("api",),
        bad_path="reservation_service/api/example.py",
    ),
    Rule(
        framework_pages_from_elsewhere,
        why="no page that we serve may need the network",
        bad="app = FastAPI(title='x')\n",
        good="OFF: Any = {'docs_url': None, 'redoc_url': None}\nFastAPI(**OFF)\nFastAPI(docs_url=None, redoc_url=None)\n",
        applies=is_product,
    ),
    Rule(
        words_of_the_trade,
        why="`shared` is ground under any two services; what is sold there is not its business",
        bad="def release_hold(timeSlot): ...\n",
        good="class C:\n    __slots__ = ('threshold',)\n    def holdfast(self, household): ...\n",
        applies=lambda module: module.rooms[0] == "shared" and module.name != "shared.payment_contract",
        bad_path="shared/example.py",
        good_path="shared/example.py",
    ),
    Rule(
        tests_without_a_sentence,
        why="a test that does not say what it proves cannot be judged",
        bad="def test_it():\n    assert True\n",
        good='def test_it():\n    """It does."""\n',
        applies=is_test,
        bad_path="tests/shared/test_example.py",
        good_path="tests/shared/test_example.py",
    ),
    Rule(
        ignores_without_a_code,
        why="a silenced check says which one",
        bad="x = 1  # noqa\n",
        good="x = 1  # noqa: S101  because\ny = 1  # type: ignore[attr-defined]\n",
    ),
    Rule(
        left_overs,
        why="what is committed is finished",
        bad="x = 1  # TODO later\n",
        good="x = 1  # the todo list of a guest\n",
    ),
)
