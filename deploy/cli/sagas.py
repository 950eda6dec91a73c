"""`holdfast saga`: look at sagas, understand one, and help it on; everything goes through the admin API."""

import getpass
import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from deploy.cli.saga_tree import draw
from deploy.cli.surroundings import Surroundings

app = typer.Typer(no_args_is_help=True, help="Sagas: list, explain, and the verbs for one that needs attention.")

SagaId = Annotated[str, typer.Argument(metavar="ID", help="The saga's id, as `saga list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the journal with who asked.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print data for a program instead of lines for people.")]


class Outcome(StrEnum):
    """How a booking ended, on the operator's word."""

    confirmed = "confirmed"
    cancelled = "cancelled"
    failed = "failed"


class Status(StrEnum):
    """Where a saga can stand."""

    running = "running"
    waiting = "waiting"
    unwinding = "unwinding"
    completed = "completed"
    compensated = "compensated"
    needs_attention = "needs_attention"


@app.command("list")
def list_(
    status: Annotated[Status, typer.Option(help="Only sagas that stand so.")] = Status.needs_attention,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    as_json: AsJson = False,
) -> None:
    """List sagas, newest first; those that need attention unless told otherwise."""
    page = Surroundings().get("reservation", f"/admin/v1/sagas?status={status}&limit={limit}")
    if as_json:
        typer.echo(json.dumps(page))
        return
    for saga in page["data"]:
        typer.echo(f"{saga['id']}  {saga['created_at']}  {saga['status']:<15}  {saga['reason'] or ''}".rstrip())
    typer.echo(f"{len(page['data'])} {status}{', and more' if page['has_more'] else ''}")


@app.command()
def explain(saga_id: SagaId, as_json: AsJson = False) -> None:
    """Show what a saga did, what it waits for, and what can be done about it."""
    _show(Surroundings().get("reservation", f"/admin/v1/sagas/{saga_id}"), as_json=as_json)


@app.command()
def retry(saga_id: SagaId, reason: Reason, as_json: AsJson = False) -> None:
    """Try the next step now, as if it had never failed."""
    _ask(saga_id, "retry", {"reason": reason}, as_json=as_json)


@app.command()
def unwind(saga_id: SagaId, reason: Reason, as_json: AsJson = False) -> None:
    """Take everything back: payment, money, seats."""
    _ask(saga_id, "unwind", {"reason": reason}, as_json=as_json)


@app.command()
def resolve(
    saga_id: SagaId,
    outcome: Annotated[Outcome, typer.Option(help="How it ended, on your word.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """End a saga that needs attention the way you vouch for; no money moves."""
    _ask(saga_id, "resolve", {"outcome": str(outcome), "reason": reason}, as_json=as_json)


def _ask(saga_id: str, verb: str, body: dict[str, str], *, as_json: bool) -> None:
    who = f"cli:{getpass.getuser()}"
    _show(Surroundings().post("reservation", f"/admin/v1/sagas/{saga_id}/{verb}", body, by=who), as_json=as_json)


def _show(saga: dict[str, Any], *, as_json: bool) -> None:
    typer.echo(json.dumps(saga) if as_json else draw(saga))
