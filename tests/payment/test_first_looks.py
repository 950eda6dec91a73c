"""The first that we see of a payment may be far along: the answer that named it was lost, its money was not."""

from typing import Any

import pytest

from shared.payment_contract import Outcome
from tests.answers import answered
from tests.observed_moves import makes
from tests.payment.line_to_stripe import loses_the_answer
from tests.payment.till import Till
from tests.scenarios import fired

_DEBIT = {"payment_method_data[type]": "sepa_debit", "payment_method_data[sepa_debit][iban]": "AT611904300234573201"}
FAR: dict[str, dict[str, str]] = {
    "authorized": {"payment_method": "pm_card_visa"},
    "captured": {"payment_method": "pm_card_visa"},
    "processing": _DEBIT,
    "requires_action": {"payment_method": "pm_card_threeDSecure2Required"},
}
"""A status that comes right after `none`, and what the guest paid with."""


@pytest.mark.parametrize(
    "status", [pytest.param(status, marks=makes("payment", "none", status)) for status in sorted(FAR)]
)
async def test_a_payment_that_is_far_along_when_it_is_first_seen(till: Till, status: str) -> None:
    """S01, I10: neither its id nor any step before was known; what Stripe shows is taken over, and told once."""
    order = till.order(capture_method="manual" if status == "authorized" else "automatic")
    till.line.meets(loses_the_answer)
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    fired("S01", till.line.met)
    (line,) = await till.intents_of(order.reservation_id)
    path = f"/v1/payment_intents/{line['payment_intent']}"
    await till.at_stripe("POST", path, **_allowing("sepa_debit" if status == "processing" else "card"))
    await till.at_stripe("POST", f"{path}/confirm", **FAR[status])
    for event in await till.stripe_events():
        answered(await till.deliver(event))
    await till.process()
    (row,) = await till.sql("SELECT status, version FROM payments WHERE id = :id", id=order.payment_id)
    assert (row["status"], row["version"]) == (status, 1)
    await till.tell_news()
    assert [event.status for event in till.neighbour.told] == [status]


def _allowing(kind: str) -> dict[str, Any]:
    return {"allowed_payment_method_types[0]": kind}
