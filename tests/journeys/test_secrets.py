"""What must never be written down: the logs of everything that the stories did are read for secrets and people."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from tests.answers import CANARY
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
