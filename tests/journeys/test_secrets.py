"""What must never be written down: the logs of everything that the stories did are read for secrets and people."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from tests.answers import CANARY, refused_as
from tests.builders import CUSTOMER, DECLINED_CARD, GOOD_CARD, a_guest, a_hold, a_slot, awaiting_payment
from tests.doubles.stripe_sandbox import Stripe
from tests.system import SERVICES, System


def test_logs_hold_no_secrets_and_no_people(system: System, stripe: Stripe) -> None:
    """I25, X06, X07: one JSON object a line, and no token, secret, card, name or e-mail address in any of them."""
    guest, slot = a_guest(system), a_slot(system)
    hold = a_hold(guest, slot, client_reference=f"{CANARY}\r\n{{}}")
    secret = awaiting_payment(guest, hold["id"])
    assert stripe.pay(secret, card=DECLINED_CARD).status_code == 402
    assert stripe.pay(secret).status_code == 200
    guest.wait_for(hold["id"], "confirmed")

    kept_out = {CANARY, GOOD_CARD, DECLINED_CARD, secret, "_secret_", guest.token, *CUSTOMER.values()}
    kept_out |= {value.partition(":")[2] or value for value in asdict(system.stack.credentials).values()}
    lines = 0
    for line in log_lines(system):
        lines += 1
        assert isinstance(json.loads(line), dict), line
        found = [text for text in kept_out if text in line]
        assert not found, line
    assert lines > 0, "nothing was logged at all"


def log_lines(system: System) -> Iterator[str]:
    for service in SERVICES:
        yield from system.stack.log_tail(service, lines=1_000_000).splitlines()


def test_metrics_dead_letters_and_refusals_hold_none_either(system: System) -> None:
    """X07, X10, I25: what is scraped, kept for operators or told to callers names no person, card, key or secret."""
    guest = a_guest(system)
    hold = a_hold(guest, a_slot(system), client_reference=CANARY)
    customer = {"name": GOOD_CARD, "email": CUSTOMER["email"]}
    body = {"customer": customer, "payment": {"mode": "stripe"}}
    carded = guest.ask("POST", f"/v1/holds/{hold['id']}/convert", key="card", json=body)
    assert refused_as(carded, (422, "VALIDATION_FAILED"))["errors"][0]["pointer"] == "/customer/name"
    for n in range(30):
        guest.ask("GET", f"/v1/holds/{CANARY}-{n}")
        guest.ask("GET", f"/{CANARY}/{n}?{CANARY}={n}")
    event = json.dumps({"id": f"evt_{CANARY}", "object": "event", "type": CANARY, "data": {"object": CUSTOMER}})
    system.call("payment", "POST", "/webhooks/stripe", content=event.encode())
    pages = [system.call(service, "GET", "/metrics").text for service in SERVICES]
    pages += [json.dumps(system.admin("payment", "GET", "/webhook-events?limit=100")), carded.text]
    kept_out = {CANARY, GOOD_CARD, "_secret_", guest.token, *CUSTOMER.values()}
    for page in pages:
        assert not [text for text in kept_out if text in page]
    routes = {line for line in pages[0].splitlines() if line.startswith("http_server_request_duration_seconds_count")}
    assert 0 < len(routes) < 400, "a series for each route, method and status, however many paths are made up"
