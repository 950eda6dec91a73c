"""Two processes of payment_service on one database: what one of them has, the other one leaves alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from payment_service.webhooks import processing
from shared.payment_contract import Outcome
from tests.answers import answered
from tests.payment.line_to_stripe import loses_the_answer
from tests.payment.till import GOOD_CARD, Till, open_till
from tests.scenarios import fired

KINDS = ("payment_intent.created", "payment_intent.amount_capturable_updated")


@pytest.fixture
async def tills(
    till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Till, Till]]:
    """Two processes, each with its own pool and memory; Stripe is the same."""
    async with (
        open_till(till_database_url, tmp_path, monkeypatch) as one,
        open_till(till_database_url, tmp_path, monkeypatch) as two,
    ):
        await one.sweep()
        two.line.sandbox = one.line.sandbox
        yield one, two
        assert await one.violated() == {}


async def test_fifty_deliveries_at_two_doors_have_one_effect(tills: tuple[Till, Till]) -> None:
    """W01, I12, I15, peers B2.24, B2.26: nothing is remembered in a process: one row, one worker, one news."""
    one, two = tills
    payment = await one.created()
    await one.pay(payment)
    (event,) = await one.stripe_events("payment_intent.amount_capturable_updated")
    answers = await asyncio.gather(*(tills[n % 2].deliver(event) for n in range(50)))
    assert sorted(answered(answer)["duplicate"] for answer in answers) == [False] + [True] * 49
    assert sorted(await asyncio.gather(one.process(), two.process())) == [0, 1]
    (row,) = await one.event_rows()
    assert (row["status"], row["deliveries"], row["attempts"]) == ("processed", 50, 1)
    told = await one.sql("SELECT status FROM outbox ORDER BY version")
    assert [row["status"] for row in told] == ["requires_payment", "authorized"]
    fired("W01", row["deliveries"] - 1)


async def test_all_events_of_a_payment_at_once_make_one_payment(tills: tuple[Till, Till]) -> None:
    """W03, W05, peers B2.27: its create was not heard of, and both doors hear of it at once: one payment with one intent."""
    one, two = tills
    order = one.order()
    one.line.meets(loses_the_answer)
    assert (await one.client.create(order)).outcome is Outcome.UNKNOWN
    (intent,) = await one.intents_of(order.reservation_id)
    path = f"/v1/payment_intents/{intent['payment_intent']}/confirm"
    await one.at_stripe("POST", path, payment_method=GOOD_CARD)
    events = await one.stripe_events(*KINDS)
    for event, till in zip(events, tills, strict=True):
        answered(await till.deliver(event))
    while sum(await asyncio.gather(one.process(), two.process())):
        await one.make_all_due()
    rows = await one.sql("SELECT status, intent_id IS NOT NULL AS bound FROM payments")
    assert [(row["status"], row["bound"]) for row in rows] == [("authorized", True)]
    assert {row["status"] for row in await one.event_rows()} == {"processed"}
    fired("W03", len(events))
    fired("W05", len(events))


async def test_tries_are_counted_together(tills: tuple[Till, Till], monkeypatch: pytest.MonkeyPatch) -> None:
    """W13, I13, peers B2.25: whoever tries, and however they overlap, no try is forgotten: dead after twelve of both."""
    one, two = tills

    async def trips(*_arguments: object) -> Any:
        raise RuntimeError

    monkeypatch.setattr(processing, "HANDLERS", dict(processing.HANDLERS) | {"payment_intent.created": trips})
    await one.created()
    await one.deliver_all("payment_intent.created")
    tries = 0
    while (await one.event_rows())[0]["status"] != "dead":
        await one.make_all_due()
        tries += sum(await asyncio.gather(one.process(), two.process()))
    (row,) = await one.event_rows()
    assert (row["attempts"], tries, row["reason"]) == (12, 12, "handler-failed")
    fired("W13", tries)
