"""A failover loses the last commits of payment_service's database: Stripe knows more than we do, and is listened to."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploy.embedded.postgres import Postgres
from shared.payment_contract import CreatePayment, Outcome, PaymentStatus, PaymentView
from tests.answers import answered
from tests.figures import tell
from tests.payment.till import Till, intent_id, open_till, view
from tests.scenarios import fired

AT_ONCE = {"reconcile_settle_seconds": 0, "orphan_after_seconds": 0.001, "reconcile_interval_seconds": 0.001}


@dataclass
class Failover:
    """The service before and after: `copy` is the moment that the standby has seen last."""

    postgres: Postgres
    url: str
    folder: Path
    patch: pytest.MonkeyPatch
    standby: str = ""

    def primary(self) -> Any:
        return open_till(self.url, self.folder, self.patch, **AT_ONCE)

    def promoted(self) -> Any:
        return open_till(self.postgres.url(self.standby), self.folder, self.patch, **AT_ONCE)

    async def copy(self, till: Till) -> None:
        """Let the standby see all commits up to now, and none after."""
        await till.parts.database.close()  # connections are opened again when they are needed
        self.standby = f"standby_{uuid4().hex}"
        self.postgres.create_database(self.standby, template=self.url.rpartition("/")[2])


@pytest.fixture
async def failover(
    postgres: Postgres, payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Failover]:
    """A primary that will be lost, and the standby that takes its place."""
    pair = Failover(postgres, payment_database_url, tmp_path, monkeypatch)
    yield pair
    postgres.drop_database(pair.standby)


async def compare(till: Till) -> list[str]:
    """Let the comparisons be made, and all that follows from them; return what they found that nobody knew."""
    answered(await till.admin("POST", "/reconciliation/run"), 202)
    await till.run("compare_with_stripe")
    await till.sql("UPDATE payments SET refreshed_at = NULL")
    await till.run("ask_unsettled")
    for _ in range(3):
        await till.make_all_due()
        await till.process()
    shown = answered(await till.admin("GET", "/reconciliation", roles=("viewer",)))
    return sorted(finding["kind"] for finding in shown["findings"])


async def at_stripe(till: Till, payment: PaymentView) -> tuple[str, int]:
    """Return how an intent stands in Stripe's own book: its status, and what we have of it."""
    (line,) = await till.intents_of(payment.reservation_id)
    return line["status"], line["net"]


async def lost_rows(till: Till, *payments: PaymentView) -> int:
    """Count what the failover has lost: payments that are not there, or not as they were."""
    known = {row["id"]: row["status"] for row in await till.sql("SELECT id, status FROM payments")}
    return sum(known.get(payment.id) != payment.status for payment in payments)


async def test_what_stripe_knows_and_we_do_not_is_cancelled(failover: Failover) -> None:
    """P09, I10, I11: the rows of payments are lost: what nobody had captured is cancelled at Stripe, whoever asks or not."""
    async with failover.primary() as primary:
        await primary.created()
        await failover.copy(primary)
        waiting, reserved, given_up = await primary.created(), await primary.authorized(), await primary.authorized()
    async with failover.promoted() as till:
        fired("P09", await lost_rows(till, waiting, reserved, given_up))
        # The saga of one of them cancels: nothing is known under that id, so there is nothing to cancel here.
        assert (await till.cancel(given_up)).outcome is Outcome.OK
        assert (await at_stripe(till, given_up))[0] == "requires_capture"
        for _ in range(2):
            assert await compare(till) == ["orphan_canceled"] * 3
            for payment in (waiting, reserved, given_up):
                assert await at_stripe(till, payment) == ("canceled", 0)
        assert (await till.seen(given_up.id)).status is PaymentStatus.CANCELED
        assert await till.violated() == {}
    tell("failover: 3 payments lost, 3 cancelled at Stripe, 0 authorisations left")


async def test_what_happened_to_known_payments_is_known_again(failover: Failover) -> None:
    """P09, I10: captures, refunds and cancels of which only Stripe knows become ours again, and none is made twice."""
    async with failover.primary() as primary:
        captured, cancelled, refunded = (
            await primary.authorized(),
            await primary.authorized(),
            await primary.captured(amount=4500),
        )
        await failover.copy(primary)
        captured = view(await primary.client.capture(captured.id))
        cancelled = view(await primary.cancel(cancelled))
        refund_id = uuid4()
        refunded = view(await primary.refund(refunded, 4500, refund_id))
        assert refunded.status is PaymentStatus.REFUNDED
    async with failover.promoted() as till:
        fired("P09", await lost_rows(till, captured, cancelled, refunded))
        assert await compare(till) == []
        assert await lost_rows(till, captured, cancelled, refunded) == 0
        assert (await till.refund(refunded, 4500, refund_id)).outcome is Outcome.OK, "the same refund, not another one"
        assert (await till.client.capture(captured.id)).outcome is Outcome.OK
        assert [await at_stripe(till, one) for one in (captured, cancelled, refunded)] == [
            ("succeeded", 4500),
            ("canceled", 0),
            ("succeeded", 0),
        ]
        assert await till.violated() == {}


async def test_a_create_whose_row_is_lost_may_be_made_again(failover: Failover) -> None:
    """P09, I10: the saga asks for the same payment again: under its key Stripe shows the intent that it has already."""
    async with failover.primary() as primary:
        await failover.copy(primary)
        order: CreatePayment = primary.order()
        payment = await primary.created(order)
        await primary.pay(payment)
    async with failover.promoted() as till:
        fired("P09", await lost_rows(till, payment))
        again = view(await till.client.create(order))
        assert intent_id(again) == intent_id(payment)
        assert (await till.client.capture(order.payment_id)).outcome is Outcome.OK
        assert await at_stripe(till, again) == ("succeeded", 4500)
        assert await compare(till) == []
        assert await till.violated() == {}


async def test_captured_money_of_a_lost_payment_is_a_persons_to_refund(failover: Failover) -> None:
    """P09: whose money it is only a person can say: it is reported once, stays where it is, and may be refunded by hand."""
    async with failover.primary() as primary:
        await failover.copy(primary)
        payment = await primary.captured()
    async with failover.promoted() as till:
        fired("P09", await lost_rows(till, payment))
        assert await compare(till) == ["orphan_captured"]
        assert await at_stripe(till, payment) == ("succeeded", 4500)
        await till.at_stripe("POST", "/v1/refunds", payment_intent=intent_id(payment))
        assert await compare(till) == ["orphan_captured"]
        assert await at_stripe(till, payment) == ("succeeded", 0)
        assert await till.violated() == {}
