"""What `make run` prints: coloured and aligned on a terminal, plain lines in a log."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from deploy.embedded.clone import Running

_TITLE_WIDTH = 14
_WHAT = {
    "reservation": "booking API (try /docs, /metrics, /v1/experiences)",
    "payment": "payment service (webhooks, /metrics)",
    "sandbox": "Stripe sandbox: not Stripe, no real money",
    "valkey": "lock server",
}


class Screen:
    """Everything said to the person who started the stack."""

    def __init__(self, console: Console | None = None) -> None:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # a terminal that cannot show a letter must not end the stack
        self._console = console or Console(highlight=False, soft_wrap=True)

    def starting(self, folder: Path) -> None:
        self._console.print(f"[bold]Holdfast[/] starting; state and logs in {escape(str(folder))}")

    def line(self, text: str) -> None:
        self._console.print(f"  [dim]{escape(text)}[/]")

    def seeded(self, experiences: int, slots: int) -> None:
        self.line(f"catalogue: {experiences} experiences and {slots} time slots added")
        self._console.print("\n[bold]One booking, as a guest makes it[/]")

    def step(self, title: str, detail: str, took_ms: float) -> None:
        self._console.print(f"  [green]{title:<{_TITLE_WIDTH}}[/] {took_ms:7.1f} ms  {escape(detail)}")

    def booked(self, reservation: Mapping[str, Any], seconds_since_start: float) -> None:
        status = reservation["status"]
        if status == "confirmed":
            text = f"confirmed {seconds_since_start:.1f} s after the start"
        else:
            text = "not paid: the demo pays with a test card only, and STRIPE_SECRET_KEY is not a test key"
        self._console.print(f"  [bold]{escape(reservation['reference'])}[/] {text}\n")

    def addresses(self, urls: Mapping[str, str]) -> None:
        for name, url in urls.items():
            self._console.print(f"  {name:<{_TITLE_WIDTH}} [cyan]{escape(url)}[/]  [dim]{_WHAT.get(name, '')}[/]")
        self._console.print("  operator token [cyan].venv/bin/holdfast token --role operator[/]")
        self._console.print("  also           [cyan].venv/bin/holdfast status | demo | audit[/]")

    def up(self) -> None:
        self._console.print("Up. Ctrl-C stops everything.")

    def already_running(self, running: Running | None) -> None:
        if running is None:
            self._console.print("Holdfast is just being started from this clone; nothing was changed.")
            return
        self._console.print(f"Holdfast is up already in this clone (process {running.pid}); nothing was changed.")
        self.addresses(running.urls)

    def failure(self, text: str) -> None:
        self._console.print(f"[red]{escape(text)}[/]")
