"""Most statements of the product are of a few shapes, run hundreds of times a world: each shape is turned into Python once.

A statement is walked: what it looks like is its shape, what its literals are stands beside it. The same shape is the same
function. What is not written down here is evaluated node by node, as `expressions` and `selecting` say; both ways must
come to the same, and `test_parity` holds both against PostgreSQL.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from tests.simulation.memory_sql import expressions as e
from tests.simulation.memory_sql import functions as f
from tests.simulation.memory_sql.result import Dicts, Result
from tests.simulation.memory_sql.schema import Next, Table
from tests.simulation.memory_sql.selecting import Derived, Select, conjuncts
from tests.simulation.memory_sql.writing import Update

Run = Callable[[Any, list[Any], Any], Result]
_SIGNS = {
    operator.eq: "==", operator.ne: "!=", operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=",
    operator.add: "+", operator.sub: "-", operator.mul: "*",
}  # fmt: skip
_runs: dict[tuple[Any, ...], Run | None] = {}


class _NotHere(Exception):
    """This is evaluated node by node."""


def planned(statement: Any) -> tuple[Run | None, list[Any]]:
    """Return what runs a statement, and its literals; None when it has to be evaluated node by node."""
    if statement.plan is None:
        shape: list[Any] = []
        literals: list[Any] = []
        statement.plan = _run_of(statement, shape, literals), literals
    found: tuple[Run | None, list[Any]] = statement.plan
    return found


def _run_of(statement: Any, shape: list[Any], literals: list[Any]) -> Run | None:
    try:
        _walk_statement(statement, shape, literals)
    except _NotHere:
        return None
    key = tuple(shape)
    if key not in _runs:
        _runs[key] = None
        with suppress(_NotHere):
            _runs[key] = _Writer().whole(statement)
    return _runs[key]


# the shape


def _walk_statement(statement: Any, shape: list[Any], literals: list[Any]) -> None:
    if isinstance(statement, Select):
        _walk_select(statement, shape, literals)
    elif isinstance(statement, Update):
        shape.append(("update", id(statement.table), tuple(statement.assigned)))
        _walk_all(conjuncts(statement.conditions), shape, literals)
        _walk_all(map(e.lit, statement.assigned.values()), shape, literals)
        _walk_outputs(statement.outputs, shape, literals)
    else:
        raise _NotHere


def _walk_select(query: Select, shape: list[Any], literals: list[Any]) -> None:
    if query._sources or query._joins or query._group is not None or query._having or query._distinct:
        raise _NotHere
    limit = [] if query._limit is None else [query._limit]
    shape.append(("select", len(query._order), len(limit)))
    _walk_all(conjuncts(query._where), shape, literals)
    _walk_all(query._order, shape, literals)
    _walk_all(limit, shape, literals)
    _walk_outputs(query._outputs, shape, literals)


def _walk_outputs(outputs: Iterable[Any], shape: list[Any], literals: list[Any]) -> None:
    for output in outputs:
        if isinstance(output, Table):
            shape.append(id(output))
        else:
            _walk(e.lit(output), shape, literals)


def _walk_all(nodes: Iterable[e.Expr], shape: list[Any], literals: list[Any]) -> None:
    for node in nodes:
        _walk(node, shape, literals)
    shape.append(None)


def _walk(node: Any, shape: list[Any], literals: list[Any]) -> None:
    kind = type(node)
    if kind is e.Column:
        if not isinstance(node.table, Table):
            raise _NotHere
        shape.append(id(node))  # a table's columns are there as long as the program runs
    elif kind is e.Literal:
        shape.append("?")
        literals.append(node.value)
    elif kind is e.Binary:
        shape.append(node.sign)
        _walk(node.left, shape, literals)
        _walk(node.right, shape, literals)
    else:
        mark = _MARKS.get(kind)
        if mark is None:
            raise _NotHere
        shape.append((kind, mark(node)))
        for part in _parts(node):
            _walk(part, shape, literals)
        if kind is e.In:
            _walk_members(node, shape, literals)


def _walk_members(node: e.In, shape: list[Any], literals: list[Any]) -> None:
    if isinstance(node.values, list):
        literals.append(node.values)
        return
    derived = _derived(node.values)
    shape.append(("of", node.values._outputs[0].name))
    _walk_select(derived.query, shape, literals)


def _derived(query: Select) -> Derived:
    """Return the common table expression that a list is taken from, one column of it as it is."""
    column = query._outputs[0]
    plainly = len(query._outputs) == 1 and type(column) is e.Column and isinstance(column.table, Derived)
    if not plainly or query._where or query._order or query._limit is not None or query._joins:
        raise _NotHere
    found: Derived = column.table
    return found


_MARKS: dict[type, Callable[[Any], Any]] = {
    e.Bind: lambda node: node.name,
    e.And: lambda node: len(node.parts),
    e.Or: lambda node: len(node.parts),
    e.Not: lambda _node: None,
    e.IsNull: lambda _node: None,
    e.Is: lambda node: node.wanted,
    e.In: lambda node: isinstance(node.values, list),
    e.Label: lambda node: node.name,
    e.Descending: lambda _node: None,
    e.Member: lambda node: node.key,
    e.AsText: lambda _node: None,
    f.Cast: lambda node: node.is_instant,
    f.Extract: lambda _node: None,
    f.Tuple: lambda node: len(node.parts),
    f.Text: lambda node: node.sql,
    f.Function: lambda node: (node.name, len(node.parts)),
    Next: lambda node: node.name,
}
_NO_PARTS = frozenset({e.Bind, f.Text, Next})


def _parts(node: Any) -> tuple[e.Expr, ...]:
    if type(node) in _NO_PARTS:
        return ()
    parts: tuple[e.Expr, ...] = node.parts if hasattr(node, "parts") else (node.inner,)
    return parts


# the function


class _Writer:
    """Writes one function. Literals are met in the order in which the walk has met them."""

    def __init__(self) -> None:
        self._literals = 0
        self._names = 0
        self._before: list[str] = []
        self._known: dict[str, Any] = {
            "Result": Result, "Dicts": Dicts, "interval": f.interval, "greatest": f.greatest, "least": f.least,
            "date_trunc": f.date_trunc, "epoch": f.epoch, "instant": f.instant, "member": e.member,
        }  # fmt: skip

    def whole(self, statement: Any) -> Run:
        body = self._select(statement) if isinstance(statement, Select) else self._update(statement)
        text = "def run(store, v, p):\n" + "".join(f"    {line}\n" for line in body)
        exec(compile(text, "<a statement>", "exec"), self._known)  # noqa: S102
        made: Run = self._known["run"]
        return made

    def _select(self, query: Select) -> list[str]:
        table = _table_of(query)
        lines = self._found(table, conjuncts(query._where))
        orders = [
            f"found.sort(key=lambda r: {self._code(by)}, reverse={isinstance(by, e.Descending)})" for by in query._order
        ]
        lines += reversed(orders)
        if query._limit is not None:
            lines.append(f"found = found[:{self._code(query._limit)}]")
        return [*lines, f"return {self._answer(query._outputs)}"]

    def _update(self, statement: Update) -> list[str]:
        lines = self._found(statement.table, conjuncts(statement.conditions))
        values = ", ".join(f"{name!r}: {self._code(e.lit(value))}" for name, value in statement.assigned.items())
        table = self._name(statement.table)
        lines.append(f"found = [store.change({table}, r, {{{values}}}) for r in found]")
        answer = self._answer(statement.outputs) if statement.outputs else "Result([], [], rowcount=len(found))"
        return [*lines, f"return {answer}"]

    def _found(self, table: Table | None, conditions: list[e.Expr]) -> list[str]:
        """Write the lines that find the rows that fit, by their key when it is given."""
        if table is None:
            if conditions:
                raise _NotHere
            return ["found = [{}]"]
        codes, key = [], ""
        for condition in conditions:
            code = self._truth(condition)
            if not key and table.primary_key == (_equal_to(condition),):
                key = code.partition(" == ")[2]
            else:
                codes.append(code)
        before, self._before = self._before, []
        rows = f"store.rows({self._name(table)})"
        one = [f"r = {rows}.get({key})", "found = [] if r is None else [r]"]
        some = one if key else [f"found = {rows}.values()"]
        some.append(f"found = [r for r in found if {' and '.join(codes) or 'True'}]")
        return [*before, *some]

    def _truth(self, node: Any) -> str:
        """Write a condition that stands alone, where it does not matter whether it is false or NULL."""
        if _equal_to(node):
            return f"r[{node.left.name!r}] == {self._code(node.right)}"
        if type(node) is e.Or or type(node) is e.And:
            sign = " or " if type(node) is e.Or else " and "
            return f"({sign.join(self._truth(part) for part in node.parts)})"
        return self._code(node)

    def _answer(self, outputs: Iterable[Any]) -> str:
        outputs = list(outputs)
        if len(outputs) == 1 and isinstance(outputs[0], Table):
            return "Dicts(found)"
        codes = []
        for output in outputs:
            if isinstance(output, Table):
                codes.append("**r")
            else:
                expression = e.lit(output)
                codes.append(f"{expression.name!r}: {self._code(expression)}")
        if len(set(codes)) < len(codes) or any(code.startswith("''") for code in codes):
            raise _NotHere
        return f"Dicts([{{{', '.join(codes)}}} for r in found])"

    # expressions

    def _name(self, thing: Any) -> str:
        self._names += 1
        self._known[f"k{self._names}"] = thing
        return f"k{self._names}"

    def _literal(self) -> str:
        self._literals += 1
        return f"v[{self._literals - 1}]"

    def _code(self, node: Any) -> str:
        kind = type(node)
        if kind is e.Column:
            return f"r[{node.name!r}]"
        if kind is e.Literal:
            return self._literal()
        if kind is e.Bind:
            return f"p[{node.name!r}]"
        if kind is e.Binary:
            return self._binary(node)
        if kind is f.Function:
            return self._function(node)
        if kind is e.In:
            return self._in(node)
        return self._simple(kind, node)

    def _binary(self, node: e.Binary) -> str:
        sign = _SIGNS.get(node.sign)
        if sign is None:
            raise _NotHere
        self._names += 1
        a, b = f"a{self._names}", f"b{self._names}"
        left, right = self._code(node.left), self._code(node.right)
        return f"(None if ({a} := {left}) is None or ({b} := {right}) is None else {a} {sign} {b})"

    def _in(self, node: e.In) -> str:
        inner = self._code(node.inner)
        if isinstance(node.values, list):
            return f"(None if (i := {inner}) is None else i in {self._literal()})"
        name = self._name(None)
        column = node.values._outputs[0].name  # type: ignore[attr-defined]
        waiting, self._before = self._before, []
        lines = self._select(_derived(node.values).query)  # type: ignore[arg-type]
        lines[-1] = f"{name} = {{row[{column!r}] for row in {lines[-1].removeprefix('return ')}.rows}}"
        self._before = [*waiting, *lines]
        return f"(None if (i := {inner}) is None else i in {name})"

    def _function(self, node: f.Function) -> str:
        if node.name in {"clock_timestamp", "now"}:
            return "store.now()"
        parts = [self._code(part) for part in node.parts]
        if node.name == "coalesce":
            self._names += 1
            value, code = f"c{self._names}", parts[-1]
            for part in reversed(parts[:-1]):
                code = f"({value} if ({value} := {part}) is not None else {code})"
            return code
        way = {"make_interval": "interval", "greatest": "greatest", "least": "least", "date_trunc": "date_trunc"}
        if node.name not in way:
            raise _NotHere
        return f"{way[node.name]}({', '.join(parts)})"

    def _simple(self, kind: type, node: Any) -> str:
        if kind is f.Text:
            value = self._name(node.constant)
            return value if node.column is None else f"(r[{node.column!r}] in {value})"
        if kind is Next:
            return f"store.next_number({node.name!r})"
        parts = [self._code(part) for part in _parts(node)]
        inner = parts[0]
        match kind:
            case e.Not:
                return f"(None if (n := {inner}) is None else not n)"
            case e.IsNull:
                return f"({inner} is None)"
            case e.Is:
                return f"({inner} is {node.wanted!r})"
            case e.Label | e.Descending:
                return inner
            case e.Member:
                return f"member({inner}, {node.key!r})"
            case e.AsText:
                return f"(None if (t := {inner}) is None else str(t))"
            case f.Cast:
                return f"instant({inner})" if node.is_instant else inner
            case f.Extract:
                return f"epoch({inner})"
            case f.Tuple:
                return f"({', '.join(parts)},)"
        raise _NotHere


def _table_of(query: Select) -> Table | None:
    """Return the one table that a query reads, or none. Raises _NotHere for anything larger."""
    sources = query._from([e.lit(one) for one in query._outputs if not isinstance(one, Table)])
    if len(sources) > 1 or not all(isinstance(source, Table) for source in sources):
        raise _NotHere
    return sources[0] if sources else None  # type: ignore[return-value]


def _equal_to(node: Any) -> str:
    """Return the column that must be equal to something given, if that is what a condition says."""
    if type(node) is e.Binary and node.sign is operator.eq and type(node.left) is e.Column:
        given = type(node.right)
        if given is e.Literal or (given is e.Bind and not node.left.nullable):
            return node.left.name
    return ""
