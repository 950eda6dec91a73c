"""The commands of `holdfast`, one short function each.

Exit codes: 0 done and well; 1 done, and something is wrong (violations, not ready, the booking failed); 2 wrong usage;
3 there is nothing to speak to, or it does not answer.
"""

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import httpx
import typer

from deploy.cli import audit as auditing
from deploy.cli import openapi as describing
from deploy.cli import reservations, sagas
from deploy.cli.surroundings import NOT_REACHABLE, Surroundings, stop_with
from deploy.embedded.screen import Screen

WRONG = 1

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print local variables, and with them secrets
    help="Holdfast from a terminal.",
)
app.add_typer(sagas.app, name="saga")
app.add_typer(reservations.app, name="reservation")
AsJson = Annotated[bool, typer.Option("--json", help="Print data for a program instead of lines for people.")]


class Role(StrEnum):
    """Who a token says its bearer is."""

    operator = "operator"
    viewer = "viewer"
    customer = "customer"


@app.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring both databases up to date. Safe to repeat and to run twice at once."""
    from deploy.embedded.databases import migrate as upgrade  # noqa: PLC0415  loads the migrations' libraries

    try:
        done = upgrade(Surroundings().database_urls())
    except OSError as error:
        raise stop_with(f"cannot reach a database: {error}", NOT_REACHABLE) from None
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in done]))
        return
    for one in done:
        news = f"{one.before or 'empty'} -> {one.after}" if one.changed else f"{one.after} already"
        typer.echo(f"{one.service:<12} {news}")


@app.command()
def token(
    role: Annotated[Role, typer.Option(help="What the bearer may do.")] = Role.operator,
    sub: Annotated[str, typer.Option(help="Who the bearer is; stands in the audit trail.")] = "cli",
    ttl: Annotated[int, typer.Option(help="Seconds until it expires.", min=1)] = 3600,
    scope: Annotated[str, typer.Option(help="Scopes, space separated, such as bookings:external.")] = "",
) -> None:
    """Print a bearer token signed with AUTH_JWT_SECRET, or with this clone's own secret."""
    roles = [] if role is Role.customer else [role.value]
    typer.echo(Surroundings().token(roles=roles, sub=sub, ttl_s=ttl, scope=scope))


@app.command()
def audit(
    as_json: AsJson = False,
    settle: Annotated[float, typer.Option(min=0, help="What changed so many seconds ago is in flight.")] = 60.0,
) -> None:
    """Check both services, and their books against Stripe's; exit 1 when an invariant is violated."""
    found = auditing.run(Surroundings().get, settle_s=settle)
    if as_json:
        checks = [asdict(check) for check in found.checks]
        typer.echo(json.dumps({"ok": not found.violated, "checks": checks, "in_flight": found.in_flight}))
    else:
        for check in found.checks:
            verdict = f"{check.violations} VIOLATIONS, such as {check.examples}" if check.violations else "ok"
            typer.echo(f"{check.service:<12} {check.id:<28} {check.title}: {verdict}")
        for booking in found.in_flight:
            typer.echo(f"in flight    {booking}")
        typer.echo(f"{len(found.checks)} checks, {found.violated} violated, {len(found.in_flight)} bookings in flight")
    if found.violated:
        raise typer.Exit(WRONG)


@app.command()
def demo() -> None:
    """Make one booking as a guest does and print each step."""
    from deploy.embedded.demo import Booking, DemoFailed  # noqa: PLC0415

    around, screen = Surroundings(), Screen()
    booking = Booking(around.service_url("reservation"), around.cashier())
    try:
        for step in booking.steps():
            screen.step(step.title, step.detail, step.took_ms)
    except DemoFailed as failure:
        raise stop_with(f"the booking failed: {failure}", WRONG) from None


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say what runs from this clone and whether it is ready."""
    running = Surroundings().running()
    if running is None:
        raise stop_with("nothing runs from this clone", NOT_REACHABLE)
    services = {name: _readiness(running.urls[name]) for name in auditing.SERVICES}
    if as_json:
        typer.echo(json.dumps({"pid": running.pid, "urls": dict(running.urls), "services": services}))
    else:
        typer.echo(f"launcher     process {running.pid}")
        for name, url in running.urls.items():
            typer.echo(f"{name:<12} {url}  {services.get(name, '')}".rstrip())
    if set(services.values()) != {"ready"}:
        raise typer.Exit(WRONG)


def _readiness(url: str) -> str:
    try:
        return str(httpx.get(f"{url}/readyz", timeout=5).json()["status"])
    except (httpx.HTTPError, ValueError, KeyError):
        return "no answer"


@app.command()
def openapi() -> None:
    """Write the OpenAPI document of each service into docs/reference/openapi/."""
    for path in describing.write():
        typer.echo(path)


def main() -> None:
    """Be the `holdfast` command."""
    app()


if __name__ == "__main__":
    main()
