"""The expression language of the store, evaluated on rows in memory: what SQLAlchemy would compile is computed here.

Named and shaped after the words that `store/` imports from SQLAlchemy, with SQL's three-valued logic: NULL is None, and
whatever is compared with it is neither true nor false. A word that is not known here raises NotImplementedError.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any


class Env:
    """What an expression may look at: the present row of each source, and the store with its clock and sequences."""

    __slots__ = ("group", "rows", "store")

    def __init__(self, rows: dict[Any, Mapping[str, Any]], store: Any, group: "list[Env] | None" = None) -> None:
        self.rows = rows
        self.store = store
        self.group = group


def _contains(document: Any, members: Any) -> bool:
    """Tell whether a JSON list has all of these members."""
    return all(member in document for member in members)


class Expr:
    """Anything that has a value for a row. Operators build larger ones, as SQLAlchemy's do."""

    __slots__ = ()
    name = ""
    aggregate = False

    def __class_getitem__(cls, _item: Any) -> type:
        return cls

    def of(self, env: Env) -> Any:
        raise NotImplementedError(type(self).__name__)

    def __eq__(self, other: object) -> "Expr":  # type: ignore[override]
        return IsNull(self) if other is None else Binary(operator.eq, self, lit(other))

    def __ne__(self, other: object) -> "Expr":  # type: ignore[override]
        return Not(IsNull(self)) if other is None else Binary(operator.ne, self, lit(other))

    __hash__ = object.__hash__

    def __lt__(self, other: Any) -> "Expr":
        return Binary(operator.lt, self, lit(other))

    def __le__(self, other: Any) -> "Expr":
        return Binary(operator.le, self, lit(other))

    def __gt__(self, other: Any) -> "Expr":
        return Binary(operator.gt, self, lit(other))

    def __ge__(self, other: Any) -> "Expr":
        return Binary(operator.ge, self, lit(other))

    def __add__(self, other: Any) -> "Expr":
        return Binary(operator.add, self, lit(other))

    def __radd__(self, other: Any) -> "Expr":
        return Binary(operator.add, lit(other), self)

    def __sub__(self, other: Any) -> "Expr":
        return Binary(operator.sub, self, lit(other))

    def __rsub__(self, other: Any) -> "Expr":
        return Binary(operator.sub, lit(other), self)

    def __mul__(self, other: Any) -> "Expr":
        return Binary(operator.mul, self, lit(other))

    def __neg__(self) -> "Expr":
        return Binary(operator.sub, Literal(0), self)

    def __and__(self, other: Any) -> "Expr":
        return And(self, other)

    def __or__(self, other: Any) -> "Expr":
        return Or(self, other)

    def __invert__(self) -> "Expr":
        return Not(self)

    def __getitem__(self, key: Any) -> "Expr":
        return Member(self, key)

    @property
    def astext(self) -> "Expr":
        return AsText(self)

    def is_(self, other: Any) -> "Expr":
        return IsNull(self) if other is None else Is(self, other)

    def is_not(self, other: Any) -> "Expr":
        return Not(self.is_(other))

    def is_distinct_from(self, other: Any) -> "Expr":
        return Not(Same(self, lit(other)))

    def in_(self, values: Any) -> "Expr":
        return In(self, values)

    def not_in(self, values: Any) -> "Expr":
        return Not(In(self, values))

    def between(self, low: Any, high: Any) -> "Expr":
        return And(self >= low, self <= high)

    def contains(self, members: Any) -> "Expr":
        return Binary(_contains, self, lit(members))

    def concat(self, other: Any) -> "Expr":
        return Binary(operator.add, self, lit(other))

    def label(self, name: str) -> "Expr":
        return Label(self, name)

    def desc(self) -> "Expr":
        return Descending(self)

    def asc(self) -> "Expr":
        return self

    def op(self, sign: str) -> Any:
        raise NotImplementedError(f"operator {sign}")


class Literal(Expr):
    __slots__ = ("value",)

    def __init__(self, value: Any, *_type: Any) -> None:
        self.value = value

    def of(self, env: Env) -> Any:
        return self.value


class Bind(Expr):
    """A parameter of a statement that was made once; its value comes with each execution."""

    __slots__ = ("name",)

    def __init__(self, name: str, *_type: Any, **_options: Any) -> None:
        self.name = name

    def of(self, env: Env) -> Any:
        return env.store.parameters[self.name]


def lit(value: Any) -> Expr:
    return value if isinstance(value, Expr) else Literal(value)


class Column(Expr):
    """A column; `table` is set by the table that it stands in."""

    __slots__ = ("identity", "name", "nullable", "primary_key", "server_default", "table", "type", "what")

    def __init__(self, name: str, kind: Any = None, *what: Any, **options: Any) -> None:
        self.name = name
        self.type = kind
        self.what = what
        self.identity = any(type(one).__name__ == "Identity" for one in what)
        self.primary_key = options.get("primary_key", False)
        self.nullable = options.get("nullable", not self.primary_key)
        self.server_default = options.get("server_default")
        self.table: Any = None

    def of(self, env: Env) -> Any:
        return env.rows[self.table][self.name]


class Binary(Expr):
    __slots__ = ("left", "right", "sign")

    def __init__(self, sign: Callable[[Any, Any], Any], left: Expr, right: Expr) -> None:
        self.sign = sign
        self.left = left
        self.right = right

    @property
    def aggregate(self) -> bool:  # type: ignore[override]
        return self.left.aggregate or self.right.aggregate

    def of(self, env: Env) -> Any:
        left = self.left.of(env)
        if left is None:
            return None
        right = self.right.of(env)
        return None if right is None else self.sign(left, right)


class Same(Binary):
    """IS NOT DISTINCT FROM: NULL is the same as NULL."""

    __slots__ = ()

    def __init__(self, left: Expr, right: Expr) -> None:
        super().__init__(operator.eq, left, right)

    def of(self, env: Env) -> Any:
        return self.left.of(env) == self.right.of(env)


class And(Expr):
    __slots__ = ("parts",)

    def __init__(self, *parts: Any) -> None:
        self.parts = tuple(lit(part) for part in parts)

    def of(self, env: Env) -> Any:
        answer: Any = True
        for part in self.parts:
            value = part.of(env)
            if value is None:
                answer = None
            elif not value:
                return False
        return answer


class Or(Expr):
    __slots__ = ("parts",)

    def __init__(self, *parts: Any) -> None:
        self.parts = tuple(lit(part) for part in parts)

    def of(self, env: Env) -> Any:
        answer: Any = False
        for part in self.parts:
            value = part.of(env)
            if value is None:
                answer = None
            elif value:
                return True
        return answer


class Not(Expr):
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = lit(inner)

    def of(self, env: Env) -> Any:
        value = self.inner.of(env)
        return None if value is None else not value


class IsNull(Expr):
    __slots__ = ("inner",)

    def __init__(self, inner: Expr) -> None:
        self.inner = inner

    def of(self, env: Env) -> Any:
        return self.inner.of(env) is None


class Is(Expr):
    """IS TRUE, IS FALSE: never NULL."""

    __slots__ = ("inner", "wanted")

    def __init__(self, inner: Expr, wanted: Any) -> None:
        self.inner = inner
        self.wanted = wanted.of(None) if isinstance(wanted, Expr) else wanted

    def of(self, env: Env) -> Any:
        return self.inner.of(env) is self.wanted


class In(Expr):
    __slots__ = ("inner", "values")

    def __init__(self, inner: Expr, values: Any) -> None:
        self.inner = inner
        self.values = values if hasattr(values, "values_in") else list(values)

    def of(self, env: Env) -> Any:
        value = self.inner.of(env)
        if value is None:
            return None
        return value in (self.values if isinstance(self.values, list) else self.values.values_in(env))


class Label(Expr):
    __slots__ = ("inner", "name")

    def __init__(self, inner: Any, name: str) -> None:
        self.inner = lit(inner)
        self.name = name

    @property
    def aggregate(self) -> bool:  # type: ignore[override]
        return self.inner.aggregate

    def of(self, env: Env) -> Any:
        return self.inner.of(env)


class Descending(Expr):
    __slots__ = ("inner",)

    def __init__(self, inner: Expr) -> None:
        self.inner = inner

    def of(self, env: Env) -> Any:
        return self.inner.of(env)


def member(document: Any, key: Any) -> Any:
    return document.get(key) if isinstance(document, dict) else None


class Member(Expr):
    """A member of a JSON document."""

    __slots__ = ("inner", "key")

    def __init__(self, inner: Expr, key: Any) -> None:
        self.inner = inner
        self.key = key

    def of(self, env: Env) -> Any:
        return member(self.inner.of(env), self.key)


class AsText(Expr):
    __slots__ = ("inner",)

    def __init__(self, inner: Expr) -> None:
        self.inner = inner

    def of(self, env: Env) -> Any:
        value = self.inner.of(env)
        return None if value is None else str(value)
