"""`holdfast reservation`: one booking's story from both services, through the admin API."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from deploy.cli.surroundings import Surroundings, stop_with
from deploy.embedded.money import spoken

app = typer.Typer(no_args_is_help=True, help="Reservations: what happened to one, in order.")

_NOT_FOUND = 1
_ID_LENGTH = 36


@app.callback()
def reservation() -> None:
    """Reservations: what happened to one, in order."""


@app.command()
def show(
    which: Annotated[str, typer.Argument(metavar="ID|REFERENCE", help="Its id, or the reference that the guest has.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print data for a program instead of lines for people.")
    ] = False,
) -> None:
    """Tell a booking's story, one line for each thing that happened."""
    around = Surroundings()
    booking = _find(around, which)
    story = around.get("reservation", f"/admin/v1/reservations/{booking['id']}/timeline")
    if as_json:
        typer.echo(json.dumps({"reservation": booking, "timeline": story}))
        return
    for line in tell(booking, story):
        typer.echo(line)


def _find(around: Surroundings, which: str) -> Mapping[str, Any]:
    if len(which) == _ID_LENGTH:
        found: Mapping[str, Any] = around.get("reservation", f"/admin/v1/reservations/{quote(which)}")
        return found
    rows = around.get("reservation", f"/admin/v1/reservations?reference={quote(which)}&limit=1")["data"]
    if not rows:
        raise stop_with(f"there is no reservation {which}", _NOT_FOUND)
    return dict(rows[0])


def tell(booking: Mapping[str, Any], story: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines: the booking as it stands, then what happened, each with the seconds since the first."""
    payment = booking["payment"]
    money = spoken(payment["amount"]["amount"], payment["amount"]["currency"])
    yield f"{booking['reference']}  {booking['status']}: {booking['seats']} seats; {money}, payment {payment['status']}"
    yield f"id {booking['id']}"
    lines = story["data"]
    start = datetime.fromisoformat(lines[0]["at"])
    yield f"since {lines[0]['at']}"
    for line in lines:
        after_s = (datetime.fromisoformat(line["at"]) - start).total_seconds()
        more = [line["detail"], f"by {line['by']}" if line["by"] else "", _trace(line)]
        told = "  ".join(part for part in more if part)
        yield f"{after_s:>10.3f} s  {line['service']:<11}  {line['kind']:<8}  {line['what']:<42}  {told}".rstrip()
    if story["partial"]:
        yield "payment_service did not answer: its part is missing"


def _trace(line: Mapping[str, Any]) -> str:
    return f"trace {line['trace_id']}" if line["trace_id"] else ""
