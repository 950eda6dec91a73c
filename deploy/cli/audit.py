"""The audit: both services check their own tables, then their books and Stripe's are held against each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deploy.cli.three_way import Books, Comparison, both, compare

SERVICES = ("reservation", "payment")
_THREE_WAY = "three-way"
_EXAMPLES = 5

Get = Callable[[str, str], Any]
"""Asks a service (`reservation` or `payment`) for a path as a viewer; returns its JSON."""


@dataclass(frozen=True)
class Check:
    """One invariant as a service counted it, or as the comparison of all books did."""

    service: str
    id: str
    title: str
    violations: int
    examples: list[Any]


@dataclass(frozen=True)
class Audit:
    """Everything that was checked; what changed too lately to be judged is listed and no violation."""

    checks: list[Check]
    in_flight: list[str]

    @property
    def violated(self) -> int:
        return sum(check.violations > 0 for check in self.checks)


def run(get: Get, *, settle_s: float) -> Audit:
    """Make every check. What the books disagree on is looked at twice: only what stays is a violation."""
    checks = [
        Check(service, one["id"], one["title"], one["violations"], one["examples"])
        for service in SERVICES
        for one in get(service, "/admin/v1/invariants")["checks"]
    ]
    found = _compare(get, settle_s)
    if any(finding.examples for finding in found.findings):
        found = both(found, _compare(get, settle_s))
    checks += [
        Check(_THREE_WAY, one.id, one.title, len(one.examples), one.examples[:_EXAMPLES]) for one in found.findings
    ]
    return Audit(checks, found.in_flight)


def _compare(get: Get, settle_s: float) -> Comparison:
    return compare(read_books(get), settle_s=settle_s, now=datetime.now(UTC))


def read_books(get: Get) -> Books:
    """Read all three books, page by page, whatever their length."""
    return Books(
        bookings=list(_every(get, "reservation", "/admin/v1/audit-export?limit=100")),
        payments=list(_every(get, "payment", "/admin/v1/audit-export?limit=100")),
        intents=list(_every(get, "payment", "/admin/v1/stripe-export?book=payment_intents")),
        refunds=list(_every(get, "payment", "/admin/v1/stripe-export?book=refunds")),
        disputes=list(_every(get, "payment", "/admin/v1/stripe-export?book=disputes")),
    )


def _every(get: Get, service: str, path: str) -> Iterator[Any]:
    after = ""
    while True:
        page = get(service, path + after)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = f"&starting_after={page['next_cursor']}"
