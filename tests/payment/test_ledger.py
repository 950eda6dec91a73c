"""The ledger: two entries per fact, written with it, unchangeable, and enough to know where all money is."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from payment_service.states import POSTINGS
from shared import crashpoints
from shared.payment_contract import Outcome, PaymentStatus, PaymentView
from tests.answers import answered, refused, until_it_is_answered
from tests.architecture.crash_points import points_of_room
from tests.figures import tell
from tests.payment.till import Till, intent_id, open_till, view
from tests.scenarios import fired

REFUND_FAILS_LATER = "4000000000005126"
HISTORY = ("ledger_entries", "reconciliation_findings", "outbox", "payment_calls")


async def shown(till: Till, payment_id: UUID) -> dict[str, Any]:
    detail: dict[str, Any] = answered(await till.admin("GET", f"/payments/{payment_id}"))
    return detail


def told(detail: dict[str, Any]) -> list[tuple[str, int]]:
    """Return what was posted, in order, each transaction once."""
    return [(line["posting"], line["amount"]) for line in detail["ledger"] if line["amount"] > 0]


async def paid_back_in_vain(till: Till) -> PaymentView:
    """Make a refund that Stripe calls done and, days later, failed."""
    payment = await till.created()
    await till.pay_with_number(payment, REFUND_FAILS_LATER)
    await till.client.capture(payment.id)
    await till.refund(payment, 4500)
    await till.sandbox("POST", "/clock", advance_s=3 * 24 * 3600)
    await till.deliver_all("refund.failed", "refund.updated")
    await till.process()
    return payment


async def test_every_fact_is_two_entries(till: Till) -> None:
    """I8: authorised, captured, given back in part; each transaction sums to zero, and the balance is what is left."""
    payment = await till.captured(amount=4500)
    await till.refund(payment, 1500)
    detail = await shown(till, payment.id)
    assert told(detail) == [
        ("authorized", 4500),
        ("captured", 4500),
        ("refund_requested", 1500),
        ("refund_settled", 1500),
    ]
    assert detail["balances"] == {"guest": -3000, "reserved": 0, "balance": 3000, "refunding": 0, "disputed": 0}
    sums: dict[str, int] = {}
    for line in detail["ledger"]:
        sums[line["transaction_id"]] = sums.get(line["transaction_id"], 0) + line["amount"]
    assert len(sums) == 4
    assert set(sums.values()) == {0}
    assert [refund["amount"] for refund in detail["refunds"]] == [1500]


async def test_what_was_only_reserved_is_let_go(till: Till) -> None:
    """A cancel before the capture returns what was reserved; a payment that nobody paid has no ledger at all."""
    reserved, untouched = await till.authorized(), await till.created()
    assert (await shown(till, reserved.id))["balances"]["reserved"] == 4500
    await till.cancel(reserved)
    await till.cancel(untouched)
    assert told(await shown(till, reserved.id)) == [("authorized", 4500), ("voided", 4500)]
    assert (await shown(till, untouched.id))["ledger"] == []


async def test_a_refund_that_failed_is_reversed(till: Till) -> None:
    """S27: refund.failed days later: the money is ours again, the payment says so, and a new refund under a new id goes."""
    payment = await paid_back_in_vain(till)
    detail = await shown(till, payment.id)
    assert (detail["status"], detail["balances"]["balance"]) == ("refund_failed", 4500)
    assert told(detail)[2:] == [("refund_requested", 4500), ("refund_settled", 4500), ("refund_reversed", 4500)]
    await till.tell_news()
    assert till.neighbour.told[-1].status is PaymentStatus.REFUND_FAILED
    fired("S27", 1)
    # The card takes no refund at all, so the next one is asked for and ends the same way: never is the sum exceeded.
    again = await till.refund(payment, 4500)
    assert (again.outcome, view(again).refunded) == (Outcome.OK, 4500)
    body = {"refund_id": str(uuid4()), "amount": 1}
    refused(
        await till.post(f"/internal/v1/payments/{payment.id}/refunds", body, key="k"), 409, "REFUND_EXCEEDS_PAYMENT"
    )


async def test_two_cancels_are_one_refund(till: Till) -> None:
    """K05: one refund id comes twice at the same time, twenty times over: one refund, one posting, one sum at Stripe."""
    rounds = 20
    for _ in range(rounds):
        payment, refund_id = await till.captured(), uuid4()
        path, body = f"/internal/v1/payments/{payment.id}/refunds", {"refund_id": str(refund_id), "amount": 4500}
        ways = [partial(till.post, path, body, key=f"{refund_id}:{n}") for n in range(2)]
        answers = await asyncio.gather(*map(until_it_is_answered, ways))
        outcomes = [answered(answer)["outcome"] for answer in answers]
        assert "ok" in outcomes, outcomes
        assert set(outcomes) <= {"ok", "not_sent", "unknown"}, outcomes
        last = answered(await till.post(path, body, key=f"{refund_id}:again"))
        assert (last["outcome"], last["payment"]["refunded"]) == ("ok", 4500)
        (line,) = await till.intents_of(payment.reservation_id)
        assert (line["net"], line["refunded"]) == (0, 4500)
        detail = await shown(till, payment.id)
        assert (len(detail["refunds"]), len(detail["ledger"])) == (1, 8)
    fired("K05", rounds)


@pytest.mark.parametrize(("currency", "amount"), [("JPY", 500), ("KWD", 12_340), ("EUR", 4_500)])
async def test_minor_units_of_every_kind(till: Till, currency: str, amount: int) -> None:
    """I7: no decimals, three of them, two of them: the same integers here, at Stripe and in the ledger."""
    payment = await till.captured(currency=currency, amount=amount)
    await till.refund(payment, amount // 10)
    (line,) = await till.intents_of(payment.reservation_id)
    left = amount - amount // 10
    assert (line["captured"], line["net"]) == (amount, left)
    assert (await shown(till, payment.id))["balances"]["balance"] == left
    totals = answered(await till.admin("GET", "/ledger"))["data"]
    ours = {total["account"]: total["amount"] for total in totals if total["currency"] == currency}
    assert ours == {"guest": -left, "reserved": 0, "balance": left, "refunding": 0}


async def test_money_that_is_taken_at_once_was_reserved_for_a_moment(till: Till) -> None:
    """Automatic capture skips a status and no posting; the capture that the saga asks for changes nothing."""
    payment = await till.created(till.order(capture_method="automatic"))
    await till.pay(payment)
    await till.deliver_all("payment_intent.succeeded")
    await till.process()
    assert (await till.client.capture(payment.id)).outcome is Outcome.OK
    assert told(await shown(till, payment.id)) == [("authorized", 4500), ("captured", 4500)]


async def test_a_person_at_stripe_moves_the_ledger_too(till: Till) -> None:
    """S30: a refund in part and a cancel made in the dashboard are posted like our own."""
    captured, authorized = await till.captured(), await till.authorized()
    await till.at_stripe("POST", "/v1/refunds", payment_intent=intent_id(captured), amount=4000)
    await till.at_stripe("POST", f"/v1/payment_intents/{intent_id(authorized)}/cancel")
    await till.deliver_all("refund.created", "payment_intent.canceled")
    await till.process()
    assert (await shown(till, captured.id))["balances"]["balance"] == 500
    assert (await shown(till, authorized.id))["balances"]["reserved"] == 0


async def test_an_authorisation_that_ran_out_is_voided(till: Till) -> None:
    """S15: a week passes before the capture; Stripe has let the money go, and so has the ledger."""
    payment = await till.authorized()
    await till.sandbox("POST", "/clock", advance_s=8 * 24 * 3600)
    answer = await till.client.capture(payment.id)
    assert (answer.outcome, view(answer).status) == (Outcome.DECLINED, PaymentStatus.CANCELED)
    detail = await shown(till, payment.id)
    assert (told(detail)[-1], detail["balances"]["reserved"]) == (("voided", 4500), 0)
    fired("S15", 1)


@pytest.mark.parametrize("table", HISTORY)
@pytest.mark.parametrize("how", ["UPDATE {} SET payment_id = payment_id", "DELETE FROM {}", "TRUNCATE {}"])
async def test_history_cannot_be_changed(till: Till, table: str, how: str) -> None:
    """I9: whoever owns the tables: changing, deleting and emptying are refused by the database."""
    await till.captured()
    before = await till.sql(f"SELECT count(*) AS rows FROM {table}")  # noqa: S608
    with pytest.raises(IntegrityError, match="is history"):
        await till.sql(how.format(table))
    assert await till.sql(f"SELECT count(*) AS rows FROM {table}") == before  # noqa: S608


async def test_half_a_transaction_cannot_be_written(till: Till) -> None:
    """I8: an entry without its counterpart is refused by the database itself."""
    payment = await till.captured()
    with pytest.raises(IntegrityError, match="sum to zero"):
        await till.sql(
            """INSERT INTO ledger_entries (transaction_id, payment_id, posting, cause, account, amount, currency)
               VALUES (:id, :id, 'captured', 'again', 'balance', 1, 'EUR')""",
            id=payment.id,
        )


def test_every_posting_moves_money_between_two_accounts() -> None:
    """What leaves one account arrives at another, and what one posting does another can undo."""
    assert all(source != target for source, target in POSTINGS.values())
    ways = set(POSTINGS.values())
    assert {(source, target) for source, target in ways if (target, source) not in ways} == {
        ("reserved", "balance"),
        ("refunding", "guest"),
        ("guest", "balance"),
        ("disputed", "guest"),
    }


async def a_bit_of_everything(till: Till) -> None:
    await till.authorized()
    await till.refund(await till.captured(), 1500)
    await till.cancel(await till.created())
    await paid_back_in_vain(till)


async def entries(till: Till) -> Sequence[Any]:
    return await till.sql(
        """SELECT payment_id, cause, account, sum(amount) AS amount FROM ledger_entries
           GROUP BY 1, 2, 3 HAVING sum(amount) <> 0 ORDER BY 1, 2, 3"""
    )


class Ended(BaseException):
    """The process is no more."""


def _end() -> None:
    raise Ended


@pytest.fixture
async def before_the_ledger(
    payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Till, Sequence[Any]]]:
    """A till whose payments an older release made: no entry of theirs was ever written. With what should be there."""
    async with open_till(payment_database_url, tmp_path, monkeypatch) as till:
        await a_bit_of_everything(till)
        wanted = await entries(till)
        await till.forge("DELETE FROM ledger_entries", "UPDATE payments SET posted_version = 0")
        yield till, wanted


async def test_what_was_there_before_the_ledger_is_posted(before_the_ledger: tuple[Till, Sequence[Any]]) -> None:
    """I8: payments of an older release get their entries by a job, once, with the same balances."""
    till, wanted = before_the_ledger
    assert await till.run("post_missing") == 4
    assert await till.run("post_missing") == 0
    balances = await till.sql("SELECT account, sum(amount) AS amount FROM ledger_entries GROUP BY 1 ORDER BY 1")
    assert {row["account"]: row["amount"] for row in balances if row["amount"]} == {
        "balance": sum(row["amount"] for row in wanted if row["account"] == "balance"),
        "guest": sum(row["amount"] for row in wanted if row["account"] == "guest"),
        "reserved": 4500,
    }
    assert await till.violated() == {}
    (count,) = await till.sql("SELECT count(*) AS entries FROM ledger_entries")
    tell(f"ledger made up for: payments=4 entries={count['entries']}")


@pytest.mark.parametrize("point", points_of_room("payment_service.payments.ledger"))
async def test_making_up_may_end_anywhere(
    before_the_ledger: tuple[Till, Sequence[Any]], monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The process ends while it posts what was missing; the next one leaves the same ledger."""
    till, _wanted = before_the_ledger
    monkeypatch.setattr(crashpoints, "_armed", None)
    crashpoints.arm(point, _end)
    with pytest.raises(Ended):
        await till.run("post_missing")
    crashpoints.arm(None)
    while await till.run("post_missing"):
        pass
    assert await till.violated() == {}
