"""What no webhook told is found by comparing Stripe's book with ours; nothing is done twice, and nobody's but ours."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shared import crashpoints
from shared.payment_contract import Outcome, PaymentStatus
from tests.answers import answered
from tests.architecture.crash_points import points_of_room
from tests.payment.line_to_stripe import Meeting, loses_the_answer, loses_the_question, never_connects
from tests.payment.till import Till, given_back_by_hand, intent_id, open_till, view
from tests.scenarios import fired

POINTS = points_of_room("payment_service.payments.reconciliation") + points_of_room(
    "payment_service.api.reconciliation"
)


class Ended(BaseException):
    """The process ends here."""


def _end() -> None:
    raise Ended


@pytest.fixture
async def office(till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Till]:
    """A till whose comparisons look at everything at once instead of waiting for it to settle."""
    at_once = {"reconcile_settle_seconds": 0, "orphan_after_seconds": 0.001, "reconcile_interval_seconds": 0.001}
    async with open_till(till_database_url, tmp_path, monkeypatch, **at_once) as till:
        await till.sweep()
        yield till
        assert await till.violated() == {}


async def compare(till: Till) -> None:
    """Let one comparison of each kind be made, whenever the last one was."""
    answered(await till.admin("POST", "/reconciliation/run"), 202)
    await till.run("compare_with_stripe")


async def seen_by_comparing(till: Till) -> dict[str, Any]:
    shown: dict[str, Any] = answered(await till.admin("GET", "/reconciliation", roles=("viewer",)))
    return {one["name"]: one for one in shown["comparisons"]} | {"findings": shown["findings"]}


async def stored_status(till: Till, payment_id: object) -> str:
    (row,) = await till.sql("SELECT status FROM payments WHERE id = :id", id=payment_id)
    return str(row["status"])


async def test_events_that_nobody_delivered_are_found(office: Till) -> None:
    """S26, I14: the guest paid and no webhook came at all; the list of events has it, and it has its effect once."""
    payment = await office.created()
    await office.pay(payment)
    await compare(office)
    rows = await office.event_rows()
    fired("S26", sum(row["deliveries"] == 0 for row in rows))
    while await office.process():
        pass
    assert await stored_status(office, payment.id) == "authorized"
    await compare(office)
    assert len(await office.event_rows()) == len(rows), "what was found once is not found again"
    assert (await seen_by_comparing(office))["events"]["found"] == len(rows)


async def test_a_delivery_after_the_comparison_is_a_duplicate(office: Till) -> None:
    """W01: an event that the comparison has stored may still be delivered; there is one row, and one effect."""
    payment = await office.created()
    await office.pay(payment)
    await compare(office)
    found = [row["type"] for row in await office.event_rows()]
    for event in await office.stripe_events(*found):
        assert answered(await office.deliver(event)) == {"received": True, "duplicate": True}
    assert [row["deliveries"] for row in await office.event_rows()] == [1] * len(found)


async def test_payments_are_asked_about_without_any_event(office: Till) -> None:
    """S26: even when Stripe never made an event, the payment's own state is asked for and told on."""
    payment = await office.created()
    await office.pay(payment)
    assert await office.run("ask_unsettled") == 1
    assert await stored_status(office, payment.id) == "authorized"
    await office.tell_news()
    assert [event.status for event in office.neighbour.told][-1] is PaymentStatus.AUTHORIZED


async def test_settled_payments_are_left_alone(office: Till) -> None:
    """Asking costs calls: captured and cancelled payments are not asked about."""
    await office.captured()
    await office.cancel(await office.created())
    assert await office.run("ask_unsettled") == 0


async def test_a_pending_refund_is_asked_about(office: Till) -> None:
    """S03: a refund that Stripe finished in silence is shown as finished."""
    payment = await office.captured()
    await office.refund(payment, 500)
    await office.sql("UPDATE refunds SET status = 'pending'")
    await office.sql("UPDATE payments SET status = 'refund_pending', refunded = 0")
    assert await office.run("ask_unsettled") == 1
    assert await stored_status(office, payment.id) == "partially_refunded"
    await office.sweep()  # statuses were written by hand, so the news cannot add up


@pytest.mark.parametrize(("met", "refunded"), [(loses_the_question, 2000), (loses_the_answer, 4000)])
async def test_a_refund_that_nobody_asks_about_any_more_is_settled(office: Till, met: Meeting, refunded: int) -> None:
    """S30, C04: the fate of ours is unknown, somebody gave as much back by hand, and whoever asked is content with that.

    While Stripe keeps the key, the refund may still be asked for; a day later what Stripe does not show has not happened.
    """
    payment, refund_id = await office.captured(), uuid4()
    office.line.meets(met)
    assert (await office.refund(payment, 2000, refund_id)).outcome is Outcome.UNKNOWN
    await given_back_by_hand(office, payment, 2000)
    await office.sql("UPDATE payment_calls SET asked_at = asked_at - interval '22 hours'")
    await office.run("ask_unsettled")
    assert (await office.seen(payment.id)).refunded == refunded
    assert await stored_status(office, payment.id) == ("refund_pending" if refunded == 2000 else "partially_refunded")
    await office.sql("UPDATE payment_calls SET asked_at = asked_at - interval '2 hours'")
    await office.run("ask_unsettled")
    assert await stored_status(office, payment.id) == "partially_refunded"
    assert await office.run("ask_unsettled") == 0
    assert view(await office.refund(payment, 500)).refunded == refunded + 500


async def test_a_lost_create_is_adopted(office: Till) -> None:
    """S01: the create's answer was lost and nobody came back for it: its intent is bound to the payment."""
    order = office.order()
    office.line.meets(loses_the_answer)
    answer = await office.client.create(order)
    fired("S01", int(answer.payment is None or answer.payment.client_secret is None))
    await compare(office)
    assert await stored_status(office, order.payment_id) == "requires_payment"
    assert [finding["kind"] for finding in (await seen_by_comparing(office))["findings"]] == ["adopted"]


async def test_an_orphan_is_cancelled(office: Till) -> None:
    """P09, I10, I11: the database came back without a payment; the guest's authorisation is given back, once."""
    payment = await office.authorized()
    intent = intent_id(payment)
    await office.sweep()
    fired("P09", int(not await office.sql("SELECT FROM payments")))
    for _ in range(2):
        await compare(office)
        assert (await office.at_stripe("GET", f"/v1/payment_intents/{intent}"))["status"] == "canceled"
    findings = (await seen_by_comparing(office))["findings"]
    assert [(one["kind"], one["stripe_id"], one["amount"]) for one in findings] == [("orphan_canceled", intent, 4500)]


async def test_a_captured_orphan_is_a_persons_matter(office: Till) -> None:
    """P09: money that was taken for a payment nobody knows is reported, and not moved by a machine."""
    payment = await office.captured()
    await office.sweep()
    await compare(office)
    findings = (await seen_by_comparing(office))["findings"]
    assert [one["kind"] for one in findings] == ["orphan_captured"]
    intent = await office.at_stripe("GET", f"/v1/payment_intents/{intent_id(payment)}")
    assert (intent["status"], intent["amount_received"]) == ("succeeded", 4500)


async def test_intents_of_others_are_not_touched(office: Till) -> None:
    """W06: an intent of another system on the account stays as it is, even if it copies our metadata."""
    metadata = {"metadata[payment_id]": "0199aaaa-0000-7000-8000-000000000001", "metadata[system]": "another"}
    made = await office.at_stripe("POST", "/v1/payment_intents", amount="100", currency="eur", **metadata)
    await compare(office)
    assert (await office.at_stripe("GET", f"/v1/payment_intents/{made['id']}"))["status"] == "requires_payment_method"
    assert (await seen_by_comparing(office))["findings"] == []


async def test_an_interrupted_comparison_goes_on_where_it_was(office: Till) -> None:
    """S21: Stripe is away in the middle: nothing is called complete, and the next turn ends it."""
    await office.created()
    office.line.meets(never_connects, never_connects)
    await compare(office)
    told = await seen_by_comparing(office)
    assert {told[name]["last_error"] for name in ("events", "intents")} == {"provider_unreachable"}
    assert told["events"]["finished_at"] is None
    fired("S21", 1)
    await compare(office)
    told = await seen_by_comparing(office)
    assert told["events"]["last_error"] is None
    assert told["events"]["found"] > 0


async def test_only_one_process_compares(office: Till) -> None:
    """K08: while one worker holds the lease of a comparison, another finds nothing to do."""
    await compare(office)
    await office.sql("UPDATE reconciliation_passes SET due_at = now(), lease_until = now() + interval '1 minute'")
    before = await seen_by_comparing(office)
    await office.created()
    await office.run("compare_with_stripe")
    assert await seen_by_comparing(office) == before


async def test_guests_have_no_business_here(office: Till) -> None:
    """X02: the comparison is shown to viewers and started by operators only."""
    assert (await office.admin("GET", "/reconciliation", roles=())).status_code == 403
    assert (await office.admin("POST", "/reconciliation/run", roles=("viewer",))).status_code == 403


async def _everything_at_once(till: Till) -> None:
    """Leave one of each kind behind: events nobody delivered, a silent payment and refund, a lost create, an orphan."""
    paid, refunded, lost = await till.created(), await till.captured(), till.order()
    await till.pay(paid)
    await till.refund(refunded, 500)
    await till.sql("UPDATE refunds SET status = 'pending'")
    await till.sql("UPDATE payments SET status = 'refund_pending', refunded = 0 WHERE id = :id", id=refunded.id)
    till.line.meets(loses_the_answer)
    await till.client.create(lost)
    orphan = {"metadata[payment_id]": "0199aaaa-0000-7000-8000-000000000001", "metadata[system]": "holdfast"}
    await till.at_stripe("POST", "/v1/payment_intents", amount="100", currency="eur", **orphan)


async def _compare_and_ask(till: Till) -> None:
    await compare(till)
    await till.run("ask_unsettled")


async def drift(till: Till) -> dict[str, float]:
    """Return what the metric of drift counts, by kind."""
    page = (await till.http.get("/metrics")).text
    lines = [line for line in page.splitlines() if line.startswith("payment_reconciliation_drift_total{")]
    return {line.partition('kind="')[2].partition('"')[0]: float(line.split()[-1]) for line in lines}


async def test_drift_is_counted_by_kind(office: Till) -> None:
    """S26, I10: a quiet day shows none; then what only the comparison told is counted, each once, and not again."""
    payment = await office.created()
    await office.deliver_all()
    while await office.process():
        pass
    await _compare_and_ask(office)
    assert set((await drift(office)).values()) == {0}, "everything that happened was told"

    await office.pay(payment)
    await _everything_at_once(office)
    fired("S26", len(await office.stripe_events()) - len(await office.event_rows()))
    for _ in range(2):  # cancelling the orphan made an event of its own
        await _compare_and_ask(office)
    found = await drift(office)
    assert (found["intent"], found["orphan"]) == (1, 1), found
    assert found["payment"] >= 2, "two guests paid and one refund went through, in silence"
    assert found["event"] == sum(row["deliveries"] == 0 for row in await office.event_rows())
    await office.sql("UPDATE payments SET refreshed_at = NULL")
    await _compare_and_ask(office)
    assert await drift(office) == found
    await office.sweep()  # a status was written by hand, so the news cannot add up


@pytest.mark.parametrize("point", POINTS)
async def test_a_comparison_may_end_anywhere(office: Till, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """C19, C16: the process ends at each durable boundary of a comparison; the next one ends with the same books."""
    await _everything_at_once(office)
    if point.startswith("interrupt_pass"):
        office.line.meets(never_connects)
    ends = 0
    monkeypatch.setattr(crashpoints, "_armed", None)
    crashpoints.arm(point, _end)
    try:
        await _compare_and_ask(office)
    except (Ended, BaseExceptionGroup):
        ends += 1
    finally:
        crashpoints.arm(None)
    fired("C16", ends)
    await office.sql("UPDATE reconciliation_passes SET lease_until = NULL")
    await office.sql("UPDATE payments SET refreshed_at = NULL")
    await _compare_and_ask(office)
    while await office.process():
        pass
    statuses = await office.sql("SELECT status, count(*) AS number FROM payments GROUP BY status ORDER BY status")
    assert [(row["status"], row["number"]) for row in statuses] == [
        ("authorized", 1),
        ("partially_refunded", 1),
        ("requires_payment", 1),
    ]
    findings = (await seen_by_comparing(office))["findings"]
    assert sorted(one["kind"] for one in findings) == ["adopted", "orphan_canceled"]
    await office.sweep()  # a status was written by hand, so the news cannot add up
