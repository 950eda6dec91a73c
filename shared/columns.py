"""What tables of both services have in common: when a row was made, and which values a status may have."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, DateTime, func


def created_at(name: str = "created_at") -> Column[Any]:
    """Return the column that the database fills with the instant of the insert."""
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp())


def is_one_of(column: str, values: Iterable[str]) -> str:
    """Return the SQL condition that a column holds one of our own words, in the order they are given."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"
