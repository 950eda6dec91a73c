"""Bookings, payments and Stripe as three books: what a bank or a person does to money moves no seat, and all agree."""

import json

import pytest
from typer.testing import CliRunner

from deploy.cli.__main__ import app
from tests.answers import answered, eventually
from tests.builders import Guest, a_guest, a_hold, a_slot, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import tell
from tests.scenarios import fired
from tests.system import System


def booked(guest: Guest, stripe: Stripe, hold_id: str) -> str:
    """Pay and wait until it is confirmed; return Stripe's id of the payment."""
    stripe.pay_for(guest, hold_id)
    guest.wait_for(hold_id, "confirmed")
    (line,) = stripe.intents_of(hold_id)
    return str(line["payment_intent"])


def shows(guest: Guest, hold_id: str, payment_status: str) -> None:
    eventually(lambda: answered(guest.see(hold_id)), lambda booking: booking["payment"]["status"] == payment_status)


@pytest.mark.parametrize(("word", "then"), [("winning_evidence", "captured"), ("losing_evidence", "dispute_lost")])
def test_a_dispute_never_moves_a_seat(system: System, stripe: Stripe, word: str, then: str) -> None:
    """S28: opened, won or lost: the guest's booking stays confirmed, its seats stay sold, and every book knows."""
    guest, slot = a_guest(system), a_slot(system, capacity=3)
    hold = a_hold(guest, slot, seats=2)
    intent = booked(guest, stripe, hold["id"])
    path = f"/_sandbox/payment_intents/{intent}/dispute"
    system.call("sandbox", "POST", path, json={"reason": "fraudulent"}).raise_for_status()
    shows(guest, hold["id"], "disputed")
    fired("S28", 1)
    key = system.stack.credentials.stripe_secret_key
    listed = system.call("sandbox", "GET", f"/v1/disputes?payment_intent={intent}", token=key).json()["data"]
    evidence = {"evidence[uncategorized_text]": word}
    system.call("sandbox", "POST", f"/v1/disputes/{listed[0]['id']}", token=key, data=evidence).raise_for_status()
    shows(guest, hold["id"], then)
    assert answered(guest.see(hold["id"]))["status"] == "confirmed"
    assert free_seats(system, slot) == 1
    system.assert_books_agree()


def test_the_command_joins_all_books(system: System, stripe: Stripe, monkeypatch: pytest.MonkeyPatch) -> None:
    """I5, I8, I10, I11: `holdfast audit` on the running system: every check of both services and of the comparison, none violated."""
    guest, slot = a_guest(system), a_slot(system)
    booked(guest, stripe, a_hold(guest, slot)["id"])
    system.assert_books_agree()
    monkeypatch.setenv("AUTH_JWT_SECRET", system.stack.wiring.auth_jwt_secret)
    for service in ("reservation", "payment"):
        monkeypatch.setenv(f"{service.upper()}_SERVICE_URL", system.stack.url(service))
    result = CliRunner().invoke(app, ["audit", "--json"])
    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"]) == (0, True), report
    assert {check["service"] for check in report["checks"]} == {"reservation", "payment", "three-way"}
    tell(f"three-way audit: checks={len(report['checks'])} in_flight={len(report['in_flight'])} violations=0")
    again = json.loads(CliRunner().invoke(app, ["audit", "--json", "--settle", "0"]).stdout)
    assert again["in_flight"] == []
