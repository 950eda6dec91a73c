"""Asks both services whether their books are right, and says so in a form that people and scripts can read."""

from dataclasses import dataclass
from typing import Any

from deploy.cli.surroundings import Surroundings

SERVICES = ("reservation", "payment")


@dataclass(frozen=True)
class Check:
    """One invariant as a service counted it."""

    service: str
    id: str
    title: str
    violations: int
    examples: list[Any]


def run(around: Surroundings) -> list[Check]:
    """Return every check of both services."""
    return [
        Check(service, one["id"], one["title"], one["violations"], one["examples"])
        for service in SERVICES
        for one in around.get(service, "/admin/v1/invariants")["checks"]
    ]
