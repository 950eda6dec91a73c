"""Renders the tables of docs/reference from the code, so that a reference page cannot say anything else.

`python -m tests.architecture.reference_tables` writes them into the pages; a test compares.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from prometheus_client import CollectorRegistry
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

import payment_service.app
import payment_service.errors
import payment_service.flags
import payment_service.states
import payment_service.store.audit
import reservation_service.app
import reservation_service.errors
import reservation_service.flags
import reservation_service.states
import reservation_service.store.audit
import shared.problems
from deploy.cli import three_way
from payment_service.metrics import Metrics as PaymentMetrics
from payment_service.settings import PaymentSettings
from reservation_service.clients.payments import PaymentsClient
from reservation_service.metrics import Metrics as ReservationMetrics
from reservation_service.saga.reservation_saga import reservation_saga
from reservation_service.saga.steps import Steps
from reservation_service.settings import ReservationSettings
from reservation_service.states import BookingStatus
from reservation_service.store import slots
from shared.flags import Flag
from shared.problems import Problem
from shared.settings import SharedSettings
from tests.architecture.crash_points import crash_places
from tests.architecture.source import ROOT
from tests.scenarios import page as failure_modes
from tests.watching import rules

_BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w.-]+) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; a bar inside a cell is escaped."""
    lines = [list(heads)]
    lines.append(["---"] * len(lines[0]))
    lines.extend([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def settings_table(settings: type[BaseSettings], *, without: type[BaseSettings] | None = None) -> str:
    """Return every setting with its default and what it is for; those of `without` are listed elsewhere."""
    elsewhere = without.model_fields if without else {}
    rows = []
    for name, described in settings.model_fields.items():
        if name not in elsewhere:
            rows.append((f"`{name.upper()}`", _default(described.default), described.description or ""))
    return table(("variable", "default", "what it does"), rows)


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "*required*"
    shown = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    return "*empty*" if shown in ("", ()) else f"`{str(shown).lower() if isinstance(shown, bool) else shown}`"


def flags_table(flags: Iterable[Flag]) -> str:
    """Return every flag of a service with what off means."""
    rows = ((f"`{flag.name}`", "on" if flag.default else "off", flag.since, flag.off_means) for flag in flags)
    return table(("flag", "default", "since", "off means"), rows)


def metrics_table(metrics: object) -> str:
    """Return every metric that a service declares, as it is scraped."""
    declared = [metric for metric in vars(metrics).values() if hasattr(metric, "_labelnames")]
    rows = []
    for metric in sorted(declared, key=lambda metric: metric._name):
        name = f"{metric._name}_total" if metric._type == "counter" else metric._name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append((f"`{name}`", metric._type, labels, metric._documentation))
    return table(("metric", "kind", "labels", "the question it answers"), rows)


def alerts_table() -> str:
    """Return every alert, those that wake somebody first."""
    urgent_first = sorted(rules.alerts(), key=lambda alert: (list(rules.SEVERITIES).index(alert.severity), alert.name))
    rows = [
        (
            f"[`{alert.name}`](../{alert.runbook.removeprefix('docs/')})",
            alert.severity,
            f"`{' '.join(alert.expression.split())}`",
            alert.waits if alert.waits != "0s" else "at once",
        )
        for alert in urgent_first
    ]
    return table(("alert, and what to do", "severity", "when", "for"), rows)


def recorded_table() -> str:
    """Return every recording rule."""
    rows = [(f"`{name}`", f"`{' '.join(expression.split())}`") for name, expression in rules.recorded().items()]
    return table(("name", "what it records"), rows)


def errors_table(module: ModuleType) -> str:
    """Return every refusal that a module declares, by code."""
    refusals = [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Problem) and found.__module__ == module.__name__
    ]
    rows = [
        (f"`{refusal.code}`", str(refusal.status), refusal.title, "yes" if refusal.retryable else "")
        for refusal in sorted(refusals, key=lambda refusal: refusal.code)
        if refusal is not Problem
    ]
    return table(("code", "status", "what it means, and what to do", "same call again?"), rows)


def moves_table(moves: Mapping[Any, Iterable[Any]], owners: Mapping[Any, str] | None = None) -> str:
    """Return statuses with the statuses that may follow, and who makes the move."""
    heads = ("status", "may become", "who moves it next") if owners else ("status", "may become")
    rows = []
    for status, following in moves.items():
        becomes = ", ".join(f"`{name}`" for name in sorted(str(name) for name in following)) or "nothing"
        rows.append((f"`{status}`", becomes, *((owners[status],) if owners else ())))
    return table(heads, rows)


def machine(moves: Mapping[Any, Iterable[Any]]) -> str:
    """Return a state machine as a diagram: where a row begins (nobody moves it there), each move, and where it ends."""
    reached = {str(following) for becomes in moves.values() for following in becomes}
    lines = ["```mermaid", "stateDiagram-v2"]
    for status, becomes in moves.items():
        following = sorted(str(name) for name in becomes)
        if str(status) not in reached and following:
            lines.append(f"    [*] --> {status}")
        lines.extend(f"    {status} --> {name}" for name in following)
        if str(status) in reached and not following:
            lines.append(f"    {status} --> [*]")
    return "\n".join([*lines, "```", ""])


def names_list(names: type[StrEnum]) -> str:
    """Return the members of a vocabulary."""
    return ", ".join(f"`{name}`" for name in names) + "\n"


def pinned_table() -> str:
    """Return which statuses keep their seats."""
    always = reservation_service.states.PINNED
    rows = []
    for status in BookingStatus:
        kept = "as its `seats_pinned` says" if status is BookingStatus.NEEDS_ATTENTION else "no"
        rows.append((f"`{status}`", "yes" if status in always else kept))
    return table(("status", "its seats are in the slot's `taken`"), rows)


def invariants_table(checks: Iterable[tuple[str, str]]) -> str:
    """Return what a service's audit checks; the queries stand in its `store/audit.py`."""
    return table(("id", "what must hold"), ((f"`{check_id}`", title) for check_id, title in checks))


def api_table(document: Mapping[str, Any]) -> str:
    """Return every operation of an OpenAPI document with its first sentence."""
    rows = [
        (f"`{method.upper()} {path}`", _first_sentence(operation.get("description", "")))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return table(("call", "what it does"), rows)


def _first_sentence(description: str) -> str:
    paragraph = " ".join(description.split("\n\n", maxsplit=1)[0].split())
    return re.split(r"(?<=\.)\s", paragraph)[0]


def crash_points_table() -> str:
    """Return every crash point with the file it stands in."""
    rows = (
        (f"`{point}`", place.service, f"`{place.module.path}`")
        for place in sorted(crash_places(), key=lambda place: (place.service, place.module.path, place.node.lineno))
        for point in place.points
    )
    return table(("point", "in", "file"), rows)


def saga_table() -> str:
    """Return THE PAGE as a table; its acts are named, never called."""
    acts = Steps(cast("PaymentsClient", None), async_payment_max_s=0)
    return reservation_saga(acts).render_table()


def notices_table() -> str:
    """Return what a guest may have to be told, with the words for it."""
    rows = ((f"`{notice}`", words) for notice, words in reservation_service.states.NOTICES.items())
    return table(("notice", "what the guest must be told"), rows)


def statement(sql: str) -> str:
    """Show a statement as it is sent, word for word."""
    return f"```sql\n{sql.strip()}\n```\n"


TABLES: dict[str, Callable[[], str]] = {
    "api.reservation": lambda: api_table(reservation_service.app.openapi_document()),
    "api.payment": lambda: api_table(payment_service.app.openapi_document()),
    "settings.shared": lambda: settings_table(SharedSettings),
    "settings.reservation": lambda: settings_table(ReservationSettings, without=SharedSettings),
    "settings.payment": lambda: settings_table(PaymentSettings, without=SharedSettings),
    "flags.reservation": lambda: flags_table(reservation_service.flags.FLAGS),
    "flags.payment": lambda: flags_table(payment_service.flags.FLAGS),
    "metrics.reservation": lambda: metrics_table(ReservationMetrics(CollectorRegistry())),
    "metrics.payment": lambda: metrics_table(PaymentMetrics(CollectorRegistry())),
    "alerts": alerts_table,
    "alerts.recorded": recorded_table,
    "errors.shared": lambda: errors_table(shared.problems),
    "errors.reservation": lambda: errors_table(reservation_service.errors),
    "errors.payment": lambda: errors_table(payment_service.errors),
    "states.booking": lambda: moves_table(reservation_service.states.LEGAL_MOVES, reservation_service.states.OWNERS),
    "machine.booking": lambda: machine(reservation_service.states.LEGAL_MOVES),
    "machine.saga": lambda: machine(reservation_service.states.LEGAL_SAGA_MOVES),
    "machine.payment": lambda: machine(payment_service.states.LEGAL_MOVES),
    "machine.refund": lambda: machine(payment_service.states.REFUND_MOVES),
    "states.seats": pinned_table,
    "states.saga": lambda: moves_table(reservation_service.states.LEGAL_SAGA_MOVES),
    "states.payment": lambda: moves_table(payment_service.states.LEGAL_MOVES),
    "states.refund": lambda: moves_table(payment_service.states.REFUND_MOVES),
    "states.webhook-event": lambda: names_list(payment_service.states.EventStatus),
    "invariants.reservation": lambda: invariants_table(
        (invariant.id, invariant.title) for invariant in reservation_service.store.audit.INVARIANTS
    ),
    "invariants.payment": lambda: invariants_table(
        (invariant.id, invariant.title) for invariant in payment_service.store.audit.INVARIANTS
    ),
    "invariants.three-way": lambda: invariants_table((check_id, title) for check_id, title, _ in three_way.CHECKS),
    "crash-points": crash_points_table,
    "sql.hold": lambda: statement(slots.HOLD_SQL),
    "sql.expire": lambda: statement(slots.EXPIRE_SQL),
    "saga": saga_table,
    "notices": notices_table,
    **failure_modes.tables(table),
}


def pages() -> dict[Path, str]:
    """Return the documentation pages that hold a generated block, with their text."""
    found = {path: path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
    return {path: text for path, text in found.items() if _BLOCK.search(text)}


def blocks(text: str) -> dict[str, str]:
    """Return the generated blocks of a page by name."""
    return {match["name"]: match["body"] for match in _BLOCK.finditer(text)}


def rewritten(text: str) -> str:
    """Return a page with every generated block rendered anew."""
    return _BLOCK.sub(lambda match: f"{match[1]}{TABLES[match['name']]()}{match[4]}", text)


def main() -> None:
    """Write every generated block of the documentation."""
    for path, text in pages().items():
        path.write_text(rewritten(text))


if __name__ == "__main__":
    main()
