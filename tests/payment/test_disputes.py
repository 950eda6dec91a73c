"""Disputes: the bank takes the money back and decides; our books follow, nothing is paid out twice, no booking moves."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared import crashpoints
from shared.payment_contract import Outcome, PaymentStatus, PaymentView
from tests.answers import answered, refused
from tests.observed_moves import makes
from tests.payment.line_to_stripe import says
from tests.payment.test_refunds import PENDING_REFUND_CARD
from tests.payment.till import Till, intent_id, view
from tests.scenarios import fired

INQUIRY_CARD = "4000000000001976"


async def dispute(till: Till, payment: PaymentView) -> str:
    """Let the guest's bank open a dispute; return Stripe's id of it."""
    await till.sandbox("POST", f"/payment_intents/{intent_id(payment)}/dispute", reason="fraudulent")
    (found,) = (await till.at_stripe("GET", "/v1/disputes", payment_intent=intent_id(payment)))["data"]
    return str(found["id"])


async def decide(till: Till, dispute_id: str, *, won: bool) -> None:
    word = "winning_evidence" if won else "losing_evidence"
    await till.at_stripe("POST", f"/v1/disputes/{dispute_id}", **{"evidence[uncategorized_text]": word})


async def hear(till: Till) -> None:
    """Deliver every event about disputes that Stripe ever made, and give them their effect."""
    types = ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
    await till.deliver_all(*(f"charge.dispute.{what}" for what in types))
    while await till.process():
        pass


async def shown(till: Till, payment_id: UUID) -> dict[str, Any]:
    detail: dict[str, Any] = answered(await till.admin("GET", f"/payments/{payment_id}"))
    return detail


def postings(detail: dict[str, Any]) -> list[str]:
    return [line["posting"] for line in detail["ledger"] if line["amount"] > 0]


async def test_a_dispute_that_is_won(till: Till) -> None:
    """S28, I8: opened, the money is held; won, it is ours again and the payment is what it was."""
    payment = await till.captured()
    opened = await dispute(till, payment)
    await hear(till)
    detail = await shown(till, payment.id)
    assert (detail["status"], detail["balances"]["disputed"], detail["balances"]["balance"]) == ("disputed", 4500, 0)
    await decide(till, opened, won=True)
    await hear(till)
    detail = await shown(till, payment.id)
    assert (detail["status"], detail["balances"]["balance"]) == ("captured", 4500)
    assert postings(detail)[2:] == ["dispute_opened", "dispute_won"]
    await till.tell_news()
    assert till.neighbour.told[-1].status is PaymentStatus.CAPTURED
    fired("S28", 1)


@makes("payment", "partially_refunded", "disputed")
async def test_a_dispute_that_is_lost(till: Till) -> None:
    """S28: the money stays with the guest; what was refunded before is not lost as well."""
    payment = await till.captured()
    await till.refund(payment, 1500)
    opened = await dispute(till, payment)
    await hear(till)
    await decide(till, opened, won=False)
    await hear(till)
    detail = await shown(till, payment.id)
    assert (detail["status"], detail["refunded"], detail["balances"]["balance"]) == ("dispute_lost", 1500, 0)
    assert detail["balances"]["guest"] == 0
    (line,) = await till.intents_of(payment.reservation_id)
    assert line["net"] == 0
    fired("S28", 1)


async def test_only_the_end_of_a_dispute_is_heard(till: Till) -> None:
    """S28: the first event that arrives is the last one; both steps are told, and late events change nothing."""
    payment = await till.captured()
    opened = await dispute(till, payment)
    await decide(till, opened, won=False)
    await till.deliver_all("charge.dispute.closed")
    await till.process()
    await till.deliver_all("charge.dispute.created", "charge.dispute.funds_withdrawn")
    while await till.process():
        pass
    detail = await shown(till, payment.id)
    assert (detail["status"], postings(detail)[2:]) == ("dispute_lost", ["dispute_opened", "dispute_lost"])
    rows = await till.sql("SELECT status FROM outbox WHERE payment_id = :id ORDER BY version", id=payment.id)
    assert [row["status"] for row in rows][-2:] == ["disputed", "dispute_lost"]
    fired("S28", 1)


async def test_what_is_disputed_is_not_refunded_as_well(till: Till) -> None:
    """S28: a cancel meets an open dispute: refused without asking Stripe; the same call asks it after that is won."""
    payment, refund_id = await till.captured(), uuid4()
    opened = await dispute(till, payment)
    await hear(till)
    asked = len(till.line.calls)
    answer = await till.refund(payment, 4500, refund_id)
    assert (answer.outcome, answer.error and answer.error.code) == (Outcome.DECLINED, "payment_disputed")
    assert len(till.line.calls) == asked
    await decide(till, opened, won=True)
    await hear(till)
    last = await till.refund(payment, 4500, refund_id)
    assert len(till.line.keys("/v1/refunds")) == 1
    # It is Stripe's to say; its sandbox refuses what was ever disputed, so a person is told, and the money is still here.
    assert (last.outcome, view(last).status) == (Outcome.DECLINED, PaymentStatus.REFUND_FAILED)
    assert (await shown(till, payment.id))["balances"]["balance"] == 4500
    fired("S28", 1)


async def test_after_the_dispute_less_may_be_asked_for_under_the_same_key(till: Till) -> None:
    """S28: refused while the dispute was open, nothing was begun: when less is owed by then, the same key carries it."""
    payment, refund_id = await till.captured(), uuid4()
    opened = await dispute(till, payment)
    await hear(till)
    refusal = await till.refund(payment, 4500, refund_id)
    assert refusal.error
    assert refusal.error.code == "payment_disputed"
    await decide(till, opened, won=True)
    await hear(till)
    answer = await till.refund(payment, 1500, refund_id)
    assert answer.error
    assert answer.error.code == "charge_disputed"  # the say of Stripe, whose sandbox refuses what was ever disputed
    assert len(till.line.keys("/v1/refunds")) == 1
    fired("S28", 1)


async def test_a_dispute_that_overtakes_a_refund(till: Till) -> None:
    """S28: we had not heard of the dispute; Stripe refuses the refund, and no money goes out twice."""
    payment = await till.captured()
    await dispute(till, payment)
    answer = await till.refund(payment, 4500)
    assert (answer.outcome, view(answer).status) == (Outcome.DECLINED, PaymentStatus.REFUND_FAILED)
    await hear(till)
    detail = await shown(till, payment.id)
    assert (detail["status"], detail["balances"]["balance"]) == ("disputed", 0)
    body = {"refund_id": str(uuid4()), "amount": 4501}
    refused(
        await till.post(f"/internal/v1/payments/{payment.id}/refunds", body, key="k"), 409, "REFUND_EXCEEDS_PAYMENT"
    )
    fired("S28", 1)


async def test_an_inquiry_moves_no_money(till: Till) -> None:
    """A bank that only asks has taken nothing: on record, and the payment is as it was."""
    payment = await till.created()
    await till.pay_with_number(payment, INQUIRY_CARD)
    await till.client.capture(payment.id)
    await hear(till)
    detail = await shown(till, payment.id)
    assert (detail["status"], detail["balances"]["balance"]) == ("captured", 4500)
    assert [one["status"] for one in detail["disputes"]] == ["inquiry"]


@pytest.mark.parametrize(
    ("asked", "end"),
    [
        pytest.param(asked, end, marks=makes("dispute", asked, end))
        for asked in ("inquiry", "inquiry_closed")
        for end in ("won", "lost")
    ],
)
async def test_an_inquiry_that_was_decided_before_the_next_look(till: Till, asked: str, end: str) -> None:
    """S28, I8: that the bank took the money was never seen, only how it ended: the books hold both steps of it."""
    payment = await till.created()
    await till.pay_with_number(payment, INQUIRY_CARD)
    await till.client.capture(payment.id)
    (inquiry,) = (await till.at_stripe("GET", "/v1/disputes", payment_intent=intent_id(payment)))["data"]
    if asked == "inquiry_closed":
        await till.at_stripe("POST", f"/v1/disputes/{inquiry['id']}/close")
    await hear(till)
    assert [one["status"] for one in (await shown(till, payment.id))["disputes"]] == [asked]
    assert await dispute(till, payment) == inquiry["id"]
    await decide(till, inquiry["id"], won=end == "won")
    await hear(till)
    detail = await shown(till, payment.id)
    ends = {"won": ("captured", 4500), "lost": ("dispute_lost", 0)}
    assert (detail["status"], detail["balances"]["balance"]) == ends[end]
    assert [one["status"] for one in detail["disputes"]] == [end]
    assert postings(detail)[2:] == ["dispute_opened", f"dispute_{end}"]
    fired("S28", 1)


@makes("payment", "refund_pending", "disputed")
@makes("payment", "disputed", "refund_pending")
async def test_a_dispute_begins_and_ends_while_a_refund_is_under_way(till: Till) -> None:
    """S28: the bank takes what the refund has left, and gives it back; the refund goes on, and arrives."""
    payment = await till.created()
    await till.pay_with_number(payment, PENDING_REFUND_CARD)
    await till.client.capture(payment.id)
    assert view(await till.refund(payment, 1500)).status is PaymentStatus.REFUND_PENDING
    opened = await dispute(till, payment)
    await hear(till)
    detail = await shown(till, payment.id)
    assert (detail["status"], detail["balances"]["disputed"], detail["balances"]["refunding"]) == (
        "disputed", 3000, 1500,
    )  # fmt: skip
    await decide(till, opened, won=True)
    await hear(till)
    assert (await shown(till, payment.id))["status"] == "refund_pending"
    (refund,) = (await till.at_stripe("GET", "/v1/refunds", payment_intent=intent_id(payment)))["data"]
    await till.sandbox("POST", f"/refunds/{refund['id']}/settle", succeeded=True)
    await till.deliver_all("refund.updated")
    await till.process()
    detail = await shown(till, payment.id)
    assert (detail["status"], detail["balances"]["balance"]) == ("partially_refunded", 3000)
    fired("S28", 1)


@makes("payment", "refunded", "disputed")
@makes("payment", "disputed", "refunded")
async def test_a_refund_fails_unheard_and_its_money_is_disputed(till: Till) -> None:
    """S27, S28: the dispute is heard of, and is over, while the refund still looks done; what is true is heard last."""
    payment = await till.captured()
    assert view(await till.refund(payment, 4500)).status is PaymentStatus.REFUNDED
    (refund,) = (await till.at_stripe("GET", "/v1/refunds", payment_intent=intent_id(payment)))["data"]
    await till.sandbox("POST", f"/refunds/{refund['id']}/settle", succeeded=False)
    opened = await dispute(till, payment)
    await hear(till)
    assert (await till.seen(payment.id)).status is PaymentStatus.DISPUTED
    await decide(till, opened, won=True)
    await hear(till)
    assert (await till.seen(payment.id)).status is PaymentStatus.REFUNDED
    await till.deliver_all("refund.failed")
    await till.process()
    detail = await shown(till, payment.id)
    assert (detail["status"], detail["refunded"], detail["balances"]["balance"]) == ("refund_failed", 0, 4500)
    fired("S27", 1)
    fired("S28", 1)


async def test_a_dispute_that_does_not_fit_is_told(till: Till) -> None:
    """I8: more than was captured, or a decision taken back: nothing is posted, the payment is marked for a person."""
    payment = await till.captured()
    opened = await dispute(till, payment)
    strange = (await till.at_stripe("GET", f"/v1/disputes/{opened}")) | {"amount": 999_999}
    till.line.meets(says(200, strange))
    await till.deliver_all("charge.dispute.created")
    await till.process()
    detail = await shown(till, payment.id)
    assert (detail["trouble"], postings(detail)) == ("dispute_mismatch", ["authorized", "captured"])
    assert await till.violated() == {"no-contradiction": 1}
    await till.deliver_all("charge.dispute.funds_withdrawn")
    await till.process()
    assert (await shown(till, payment.id))["trouble"] is None


class Ended(BaseException):
    """The process is no more."""


def _end() -> None:
    raise Ended


@pytest.mark.parametrize("edge", ["before", "after"])
async def test_the_look_at_a_dispute_may_end_anywhere(till: Till, monkeypatch: pytest.MonkeyPatch, edge: str) -> None:
    """S28, C14: the process ends around the question to Stripe; the event is due again and has its effect once."""
    payment = await till.captured()
    await dispute(till, payment)
    await till.deliver_all("charge.dispute.created")
    monkeypatch.setattr(crashpoints, "_armed", None)
    crashpoints.arm(f"fetch_hinted_dispute.{edge}", _end)
    ended = 0
    try:
        await till.process()
    except (Ended, BaseExceptionGroup):
        ended = 1
    finally:
        crashpoints.arm(None)
    fired("S28", ended)
    fired("C14", ended)
    await till.sql("UPDATE webhook_events SET lease_until = NULL")
    await hear(till)
    detail = await shown(till, payment.id)
    assert (detail["status"], postings(detail)[2:]) == ("disputed", ["dispute_opened"])


async def every_page(till: Till, book: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    after = ""
    while True:
        page = answered(await till.admin("GET", f"/stripe-export?book={book}{after}", roles=["viewer"]))
        rows += page["data"]
        if not page["has_more"]:
            return rows
        after = f"&starting_after={page['next_cursor']}"


async def test_stripes_side_is_exported_live(till: Till) -> None:
    """I10: intents of ours only, and the refunds and disputes of our payments, asked at this moment."""
    refunded, disputed = await till.captured(), await till.captured()
    await till.at_stripe("POST", "/v1/payment_intents", amount="100", currency="eur")  # somebody else's
    await till.refund(refunded, 1000)
    await dispute(till, disputed)
    intents = await every_page(till, "payment_intents")
    assert {row["payment_id"] for row in intents} == {str(refunded.id), str(disputed.id)}
    assert {(row["status"], row["received"]) for row in intents} == {("captured", 4500)}
    (refund,) = await every_page(till, "refunds")
    assert (refund["payment_intent"], refund["amount"]) == (intent_id(refunded), 1000)
    (opened,) = await every_page(till, "disputes")
    assert (opened["payment_intent"], opened["status"]) == (intent_id(disputed), "open")


async def test_the_export_says_when_stripe_is_away(till: Till) -> None:
    """An audit that could not be made is no clean one; a cursor that Stripe does not know is refused."""
    till.line.meets(says(500))
    refused(await till.admin("GET", "/stripe-export?book=refunds"), 503, "PROVIDER_AWAY")
    refused(await till.admin("GET", "/stripe-export?book=refunds&starting_after=re_nobody"), 422, "CURSOR_UNKNOWN")
    refused(await till.admin("GET", "/stripe-export?book=everything"), 422, "VALIDATION_FAILED")
    refused(await till.admin("GET", "/stripe-export?book=refunds", roles=[]), 403, "FORBIDDEN")


async def test_many_disputes_and_refunds_at_once(till: Till) -> None:
    """S28, S29: refunds race with the dispute of the same payment, ten times: never is more gone than came."""
    for _ in range(10):
        payment = await till.captured()
        await asyncio.gather(till.refund(payment, 2000), till.refund(payment, 2500), dispute(till, payment))
        await hear(till)
        detail = await shown(till, payment.id)
        (line,) = await till.intents_of(payment.reservation_id)
        assert detail["balances"]["balance"] == line["net"] >= 0
    fired("S28", 10)
