"""What Stripe tells is stored before it is acknowledged, and once; what we tell Stripe may have arrived, answer or not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shared import crashpoints
from shared.payment_contract import Outcome
from tests.answers import answered, refused
from tests.payment.line_to_stripe import loses_the_answer
from tests.payment.till import Till, open_till
from tests.scenarios import fired


def an_event(event_id: str) -> dict[str, Any]:
    """Return an event about something that is none of ours, so that storing it is all there is to do."""
    subject = {"id": "cus_1", "object": "customer"}
    return {
        "id": event_id,
        "object": "event",
        "type": "customer.created",
        "livemode": False,
        "data": {"object": subject},
    }


def _cut() -> None:
    raise ConnectionResetError("the database is gone")


async def test_an_event_that_was_not_stored_is_not_acknowledged(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, I14: the database goes away at the commit: Stripe is told to send again, and that delivery is the first."""
    monkeypatch.setattr(crashpoints, "_armed", None)  # put back after the test, whatever happens in it
    crashpoints.arm("store_event.before_commit", _cut)
    refused(await till.deliver(an_event("evt_lost")), 503, "SERVICE_UNAVAILABLE")
    crashpoints.arm(None)
    assert await till.event_rows() == []
    assert answered(await till.deliver(an_event("evt_lost"))) == {"received": True, "duplicate": False}
    fired("W12", 1)


async def test_an_event_that_comes_twice_is_stored_once(till: Till) -> None:
    """I12, I15: the second delivery is acknowledged as a duplicate; one event waits to have its one effect."""
    told = [answered(await till.deliver(an_event("evt_twice"))) for _ in range(3)]
    assert [answer["duplicate"] for answer in told] == [False, True, True]
    (event,) = await till.event_rows()
    assert (event["stripe_event_id"], event["deliveries"]) == ("evt_twice", 3)


async def test_a_call_whose_answer_is_lost_may_have_happened(till: Till) -> None:
    """S01, I10: the outcome is unknown, never "not sent"; the same call again finds the one intent that was made."""
    order = till.order()
    till.line.meets(loses_the_answer)
    assert (await till.client.create(order)).outcome is Outcome.UNKNOWN
    assert len(await till.intents_of(order.reservation_id)) == 1

    answer = await till.client.create(order)
    assert answer.outcome is Outcome.OK
    assert answer.payment is not None
    assert answer.payment.client_secret
    assert len(await till.intents_of(order.reservation_id)) == 1
    fired("S01", till.line.met)


async def test_the_call_that_trips_the_breaker_may_have_happened(
    payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S18, L3, I10: Stripe did it, its answer got lost, and that opens the breaker: unknown, and found when it closes."""
    async with open_till(payment_database_url, tmp_path, monkeypatch, breaker_min_calls=1, breaker_rest_s=0.2) as till:
        order = till.order()
        till.line.meets(loses_the_answer)
        answer = await till.client.create(order)
        (shown, _) = answered(await till.admin("GET", "/breaker"))["data"]
        assert shown["state"] == "open"
        fired("S18", shown["failures"])
        assert answer.outcome is Outcome.UNKNOWN

        await till.run("share_breakers")
        await asyncio.sleep(0.3)
        assert (await till.client.create(order)).outcome is Outcome.OK
        assert len(await till.intents_of(order.reservation_id)) == 1
        assert await till.violated() == {}
