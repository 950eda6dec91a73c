"""Feature flags: declared in code, started from the environment, changed in the database, read from memory.

A flag may be rolled out to a percentage of callers: a caller's bucket is a hash of flag and caller, so nobody
flickers. Reading one never touches the database; a ticker brings changes in. What resolves them is an OpenFeature
provider, asked without the SDK's client in between (ADR 0024).
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from shared.database import Database
from shared.operator_actions import Act, record_change


@dataclass(frozen=True)
class Flag:
    """A line of a service's `flags.py`."""

    name: str
    off_means: str
    default: bool = True
    since: str = "0.1"


@dataclass(frozen=True)
class Override:
    """What an operator has set: on or off, and for how many percent of callers when on."""

    enabled: bool
    percentage: int = 100


def flag_overrides_table(metadata: MetaData) -> Table:
    """Return the table that each service keeps its own overrides in."""
    return Table(
        "flag_overrides",
        metadata,
        Column("name", Text, primary_key=True),
        Column("enabled", Boolean, nullable=False),
        Column("percentage", SmallInteger, nullable=False, server_default="100"),
        Column("updated_by", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        CheckConstraint("percentage BETWEEN 0 AND 100", name="flag_overrides_percentage"),
    )


class _Provider(AbstractProvider):
    """Resolves from memory; the parameter names are the SDK's, which calls them by keyword."""

    def __init__(self, flags: Sequence[Flag], environment: Mapping[str, str]) -> None:
        super().__init__()
        self.start_values = {
            flag.name: environment.get(f"FLAG_{flag.name.upper()}", str(flag.default)).strip().lower()
            in {"1", "true", "on", "yes"}
            for flag in flags
        }
        self.overrides: Mapping[str, Override] = {}

    def get_metadata(self) -> Metadata:
        return Metadata(name="holdfast")

    def get_provider_hooks(self) -> list[Any]:
        return []

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        override = self.overrides.get(flag_key)
        if override is None:
            return FlagResolutionDetails(self.start_values.get(flag_key, default_value), reason=Reason.DEFAULT)
        if not override.enabled or override.percentage in {0, 100}:
            return FlagResolutionDetails(override.enabled and override.percentage > 0, reason=Reason.STATIC)
        caller = (evaluation_context.targeting_key if evaluation_context else None) or ""
        return FlagResolutionDetails(_bucket(flag_key, caller) < override.percentage, reason=Reason.SPLIT)

    def _only_booleans(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("every flag of this house is a boolean")

    resolve_string_details = _only_booleans
    resolve_integer_details = _only_booleans
    resolve_float_details = _only_booleans
    resolve_object_details = _only_booleans


def _bucket(flag: str, caller: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{flag}:{caller}".encode(), digest_size=4).digest()) % 100


class Snapshot:
    """What one caller sees, for as long as one request (or one saga) lasts: asked once, then remembered."""

    def __init__(self, flags: "Flags", caller: str) -> None:
        self._flags = flags
        self._caller = caller
        self._seen: dict[str, bool] = {}

    def __getitem__(self, name: str) -> bool:
        if name not in self._seen:
            self._seen[name] = self._flags.is_on(name, self._caller)
        return self._seen[name]

    def frozen(self, names: Sequence[str]) -> dict[str, bool]:
        """Return the values of these flags, to be stored with long-running work."""
        return {name: self[name] for name in names}


class Flags:
    """The flags of one service in one process."""

    def __init__(self, flags: Sequence[Flag], table: Table, environment: Mapping[str, str] | None = None) -> None:
        self.declared = tuple(flags)
        self._defaults = {flag.name: flag.default for flag in flags}
        self._table = table
        self._provider = _Provider(flags, os.environ if environment is None else environment)
        self._same_for_all: dict[str, bool] = {}

    def is_on(self, name: str, caller: str = "") -> bool:
        """Tell whether a flag is on for a caller. Raises KeyError for a flag that is not declared."""
        known = self._same_for_all.get(name)
        if known is not None:
            return known
        asked = EvaluationContext(targeting_key=caller)
        found = self._provider.resolve_boolean_details(name, self._defaults[name], asked)
        if found.reason is not Reason.SPLIT:
            self._same_for_all[name] = found.value
        return found.value

    def snapshot(self, caller: str) -> Snapshot:
        return Snapshot(self, caller)

    async def refresh(self, database: Database) -> int:
        """Read the overrides; run by a ticker. Returns how many there are."""
        async with database.reading() as connection:
            rows = (await connection.execute(select(self._table))).mappings().all()
        self.override({row["name"]: Override(row["enabled"], row["percentage"]) for row in rows})
        return 0

    def override(self, overrides: Mapping[str, Override]) -> None:
        """Follow these overrides from now on, in this process, and no others."""
        self._provider.overrides = overrides
        self._same_for_all = {}

    async def set(self, database: Database, name: str, override: Override, *, by: str, reason: str) -> None:
        """Store an override; this process sees it at once, the others at their next refresh."""
        values = {"enabled": override.enabled, "percentage": override.percentage, "updated_by": by, "reason": reason}
        changes = {"enabled": override.enabled, "percentage": override.percentage}
        async with database.transaction("set_flag") as tx:
            was = await tx.execute(select(self._table).where(self._table.c.name == name).with_for_update())
            before = was.mappings().one_or_none() or dict.fromkeys(changes)
            await tx.execute(
                insert(self._table)
                .values(name=name, **values)
                .on_conflict_do_update(index_elements=["name"], set_={**values, "updated_at": func.now()})
            )
            await record_change(tx, Act(by, "setFlag", reason), name, before, changes)
        await self.refresh(database)

    def describe(self) -> list[dict[str, Any]]:
        """List every flag with its present value, for operators."""
        overrides = self._provider.overrides
        return [
            {
                "name": flag.name,
                "enabled": overrides[flag.name].enabled if flag.name in overrides else self.is_on(flag.name),
                "percentage": overrides[flag.name].percentage if flag.name in overrides else 100,
                "overridden": flag.name in overrides,
                "default": flag.default,
                "since": flag.since,
                "off_means": flag.off_means,
            }
            for flag in self.declared
        ]
