"""Puts the words of this room where `import sqlalchemy` looks, before the product is imported.

The product's own `store/` and `shared.database` then run as they are written, on rows in memory. Only in a process of
its own: whoever has imported SQLAlchemy already keeps it.
"""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.simulation.memory_sql import expressions, functions, prepared, schema, selecting, writing
from tests.simulation.memory_sql.database import Connection, DBAPIError, Engine, IntegrityError


def _nothing(*_arguments: Any, **_options: Any) -> Any:
    raise NotImplementedError("not in memory")


class _Anything:
    """A name that is only ever mentioned: in annotations, or in code that never runs here."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def __class_getitem__(cls, _item: Any) -> type:
        return cls

    def __or__(self, _other: Any) -> Any:
        return self


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (_Anything,), {})
        setattr(self, name, made)
        return made


class _PoolTimeout(Exception):
    pass


class _TypedList(expressions.Expr):
    __slots__ = ()


_TYPES = (
    "BigInteger",
    "Boolean",
    "DateTime",
    "Float",
    "Integer",
    "LargeBinary",
    "SmallInteger",
    "Text",
    "Uuid",
    "JSONB",
)
_WORDS: dict[str, Any] = {
    "Table": schema.Table,
    "Column": expressions.Column,
    "table": schema.light_table,
    "column": expressions.Column,
    "MetaData": schema.MetaData,
    "CheckConstraint": schema.CheckConstraint,
    "UniqueConstraint": schema.UniqueConstraint,
    "Index": schema.Index,
    "Sequence": schema.Sequence,
    "ForeignKey": schema.named("ForeignKey"),
    "Identity": schema.named("Identity"),
    **{name: schema.named(name) for name in _TYPES},
    "select": selecting.Select,
    "insert": writing.Insert,
    "update": writing.Update,
    "delete": writing.Delete,
    "func": functions.func,
    "text": functions.Text,
    "literal": expressions.Literal,
    "bindparam": expressions.Bind,
    "null": lambda: expressions.Literal(None),
    "true": lambda: expressions.Literal(True),
    "false": lambda: expressions.Literal(False),
    "and_": expressions.And,
    "or_": expressions.Or,
    "not_": expressions.Not,
    "case": functions.Case,
    "cast": functions.Cast,
    "tuple_": functions.Tuple,
    "extract": functions.Extract,
    "exists": lambda query: query.exists(),
    "aggregate_order_by": lambda inner, *_order: expressions.lit(inner),
    "event": SimpleNamespace(
        listen=lambda *_what: None
    ),  # triggers guard what other hands do; ours write no such thing
    "create_async_engine": _nothing,
    "DBAPIError": DBAPIError,
    "IntegrityError": IntegrityError,
    "DisconnectionError": _PoolTimeout,
    "TimeoutError": _PoolTimeout,
    "AsyncConnection": Connection,
    "AsyncEngine": Engine,
}
_MODULES = (
    "sqlalchemy",
    "sqlalchemy.dialects",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.exc",
    "sqlalchemy.ext",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.pool",
    "sqlalchemy.sql",
    "sqlalchemy.sql.dml",
    "sqlalchemy.engine",
)


def install() -> None:
    """Do it."""
    if "sqlalchemy" in sys.modules:
        raise RuntimeError("SQLAlchemy is imported already: the simulation needs a process of its own")
    for name in _MODULES:
        module = _Module(name)
        module.__path__ = []
        for word, meaning in _WORDS.items():
            setattr(module, word, meaning)
        sys.modules[name] = module
    sys.modules["shared.prepared"] = prepared  # it speaks to the driver below SQLAlchemy; here is none
