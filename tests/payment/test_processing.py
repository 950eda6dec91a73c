"""Stored events get their effect once, in any order, after any crash; what cannot be helped is buried with a reason."""

import asyncio
import itertools
from typing import Any

import pytest

from payment_service.store import webhook_events
from payment_service.webhooks import processing
from shared import crashpoints
from shared.payment_contract import PaymentStatus
from tests.answers import answered, refused
from tests.payment.line_to_stripe import loses_the_answer, never_connects, says, tells
from tests.payment.till import Till, intent_id
from tests.scenarios import fired

ABOUT_THE_WAY = (
    "payment_intent.created",
    "payment_intent.amount_capturable_updated",
    "payment_intent.succeeded",
)


async def outcomes(till: Till) -> dict[str, tuple[str, str | None]]:
    """Return status and reason of each stored event by type."""
    return {row["type"]: (row["status"], row["reason"]) for row in await till.event_rows()}


async def test_an_authorisation_becomes_known_by_its_event(till: Till) -> None:
    """The guest paid in the browser; the event leads to a look at Stripe, a new status and news for the neighbour."""
    payment = await till.created()
    await till.pay(payment)
    await till.deliver_all("payment_intent.amount_capturable_updated")
    assert await till.process() == 1
    await till.tell_news()
    assert [(event.status, event.version) for event in till.neighbour.told][-1] == (PaymentStatus.AUTHORIZED, 2)
    (row,) = await till.event_rows()
    assert (row["status"], row["payment_id"]) == ("processed", str(payment.id))
    assert row["processed_at"] is not None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_events_may_come_in_any_order(till: Till, order: tuple[int, ...]) -> None:
    """W03, W04: created, authorised and captured in each of the six orders end in the same place, told once each."""
    payment = await till.captured()
    events = await till.stripe_events(*ABOUT_THE_WAY)
    for index in order:
        answered(await till.deliver(events[index]))
        await till.process()
    assert {status for status, _ in (await outcomes(till)).values()} == {"processed"}
    rows = await till.sql("SELECT status, version FROM payments WHERE id = :id", id=payment.id)
    assert [(row["status"], row["version"]) for row in rows] == [("captured", 3)]
    if overtaken := sum(one > other for one, other in itertools.combinations(order, 2)):
        fired("W03", overtaken)
        fired("W04", overtaken)


async def test_an_answer_to_an_older_question_loses(till: Till) -> None:
    """Two looks overtake each other: the one that was asked later is believed, whoever arrives last."""
    payment = await till.created()
    (created,) = await till.stripe_events("payment_intent.created")
    await till.pay(payment, "pm_card_visa_chargeDeclined")
    (declined,) = await till.stripe_events("payment_intent.payment_failed")
    gate, arrived = asyncio.Event(), asyncio.Event()

    async def old_picture(request: Any, _sandbox: Any) -> Any:
        arrived.set()
        await gate.wait()
        return await tells(last_payment_error=None)(request, till.line.sandbox)

    till.line.meets(old_picture)
    answered(await till.deliver(created))
    slow = asyncio.create_task(till.process())
    await arrived.wait()
    answered(await till.deliver(declined))
    await till.process()
    gate.set()
    await slow
    rows = await till.sql("SELECT decline_class FROM payments WHERE id = :id", id=payment.id)
    assert [row["decline_class"] for row in rows] == ["card_declined"]


async def test_an_event_before_our_own_answer_finds_its_payment(till: Till) -> None:
    """W05: the create's answer got lost, so the row knows no intent yet; the metadata binds them."""
    order = till.order()
    till.line.meets(loses_the_answer)
    await till.client.create(order)
    await till.deliver_all("payment_intent.created")
    await till.process()
    assert (await till.seen(order.payment_id)).status is PaymentStatus.REQUIRES_PAYMENT
    assert await outcomes(till) == {"payment_intent.created": ("processed", None)}
    fired("W05", till.line.met)


async def test_an_intent_that_is_not_ours_is_left_alone(till: Till) -> None:
    """W06: another system uses the same Stripe account: ignored, with the reason."""
    await till.at_stripe("POST", "/v1/payment_intents", amount="100", currency="eur")
    await till.deliver_all("payment_intent.created")
    await till.process()
    assert await outcomes(till) == {"payment_intent.created": ("ignored", "foreign")}


async def test_an_intent_of_ours_without_a_row_is_tried_again_and_then_dead(till: Till) -> None:
    """W05, peers B2.28: its row may still come; it is tried with growing waits, and an operator gets what never fits."""
    metadata = {"metadata[payment_id]": "0199aaaa-0000-7000-8000-000000000001"}
    await till.at_stripe("POST", "/v1/payment_intents", amount="100", currency="eur", **metadata)
    await till.deliver_all("payment_intent.created")
    waits = []
    for _ in range(12):
        assert await till.process() == 1
        (row,) = await till.sql("SELECT extract(epoch FROM due_at - clock_timestamp()) AS wait_s FROM webhook_events")
        waits.append(float(row["wait_s"] or 0))
        await till.make_all_due()
    assert await till.process() == 0
    assert await outcomes(till) == {"payment_intent.created": ("dead", "unknown-object")}
    assert 0.4 < waits[0] < 1.1
    assert 25 < waits[9] < 60.1
    fired("W05", len(waits))


async def test_stripe_away_is_no_fault_of_the_event(till: Till) -> None:
    """Peers B2.20: however often Stripe cannot be asked, the event is not buried for it within three days; then it is."""
    payment = await till.created()
    await till.deliver_all("payment_intent.created")
    for _ in range(15):
        till.line.meets(never_connects)
        await till.make_all_due()
        await till.process()
    assert await outcomes(till) == {"payment_intent.created": ("received", "provider-away")}
    await till.make_all_due()
    await till.process()
    assert await outcomes(till) == {"payment_intent.created": ("processed", "nothing-new")}

    await till.pay(payment)
    await till.deliver_all("payment_intent.amount_capturable_updated")
    await till.sql("UPDATE webhook_events SET received_at = received_at - interval '80 hours'")
    till.line.meets(says(500))
    await till.process()
    assert (await outcomes(till))["payment_intent.amount_capturable_updated"] == ("dead", "provider-away")


async def test_an_object_that_is_gone_is_dead_at_once(till: Till) -> None:
    """Stripe says that there is no such thing: no later try would end differently."""
    subject = {"object": "payment_intent", "id": "pi_gone"}
    event = {"id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "data": {"object": subject}}
    answered(await till.deliver(event))
    await till.process()
    assert await outcomes(till) == {"payment_intent.succeeded": ("dead", "object-missing")}


async def test_a_wrong_amount_goes_to_a_person(till: Till) -> None:
    """W17: the event is dead with the reason, the payment keeps its status and is marked, the audit finds it."""
    payment = await till.created()
    await till.pay(payment)
    await till.deliver_all("payment_intent.amount_capturable_updated")
    till.line.meets(tells(amount=1))
    await till.process()
    assert await outcomes(till) == {"payment_intent.amount_capturable_updated": ("dead", "amount_mismatch")}
    assert await till.violated() == {"no-contradiction": 1}
    rows = await till.sql("SELECT status FROM payments")
    assert [row["status"] for row in rows] == ["requires_payment"]
    assert (await till.seen(payment.id)).status is PaymentStatus.AUTHORIZED  # Stripe tells the truth again
    fired("W17", till.line.met)


async def test_a_second_intent_of_one_payment_is_a_strangers_trouble(till: Till) -> None:
    """Somebody copied our metadata onto another intent: its event is dead, our payment is untouched."""
    payment = await till.created()
    metadata = {"metadata[payment_id]": str(payment.id)}
    await till.at_stripe("POST", "/v1/payment_intents", amount="4500", currency="eur", **metadata)
    first, second = await till.stripe_events("payment_intent.created")
    assert first["data"]["object"]["id"] == intent_id(payment)
    answered(await till.deliver(second))
    await till.process()
    assert await outcomes(till) == {"payment_intent.created": ("dead", "identity_mismatch")}


async def test_a_poisonous_event_is_buried_and_blocks_nobody(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """W13: a handler that always fails is tried so often, then dead; the others go on; no message of it is kept."""
    payment = await till.created()

    async def trips(*_arguments: object) -> Any:
        raise RuntimeError("pi_secret_canary")

    handlers = dict(processing.HANDLERS) | {"payment_intent.created": trips}
    monkeypatch.setattr(processing, "HANDLERS", handlers)
    await till.pay(payment)
    await till.deliver_all("payment_intent.created", "payment_intent.amount_capturable_updated")
    for _ in range(13):
        await till.make_all_due()
        await till.process()
    assert await outcomes(till) == {
        "payment_intent.created": ("dead", "handler-failed"),
        "payment_intent.amount_capturable_updated": ("processed", None),
    }
    dead = next(row for row in await till.event_rows() if row["status"] == "dead")
    assert (dead["last_error"], dead["attempts"]) == ("RuntimeError", 12)
    fired("W13", dead["attempts"])


async def test_an_event_that_kills_its_worker_each_time_is_buried(till: Till) -> None:
    """I13: the process died so often while it held this event that nobody takes it in hand again."""
    await till.created()
    await till.deliver_all("payment_intent.created")
    await till.sql("UPDATE webhook_events SET attempts = 12")
    await till.process()
    assert await outcomes(till) == {"payment_intent.created": ("dead", "worker-died")}


async def test_a_killed_workers_event_is_taken_up_again(till: Till) -> None:
    """C12, peers B2.23: claimed and never finished: nobody touches it while the lease runs, then somebody does."""
    await till.created()
    await till.deliver_all("payment_intent.created")
    async with till.parts.database.transaction("test") as tx:
        lost = await webhook_events.claim(tx, limit=1, lease_s=45)
    assert await till.process() == 0
    (row,) = await till.event_rows()
    assert row["status"] == "processing"
    await till.sql("UPDATE webhook_events SET lease_until = clock_timestamp() - interval '1 second'")
    assert await till.process() == 1
    async with till.parts.database.transaction("test") as tx:
        assert not await webhook_events.still_mine(tx, lost, lease_s=45)
    fired("C12", lost[0].attempts)


async def test_a_frozen_worker_writes_nothing(till: Till) -> None:
    """C18, I19: it wakes up after another worker has taken over, and its late picture is not applied."""
    payment = await till.created()
    await till.pay(payment)
    (event,) = await till.stripe_events("payment_intent.amount_capturable_updated")

    async def freeze(request: Any, sandbox: Any) -> Any:
        response = await sandbox.handle_async_request(request)
        await till.sql("UPDATE webhook_events SET lease_epoch = lease_epoch + 1")
        return response

    till.line.meets(freeze)
    answered(await till.deliver(event))
    await till.process()
    rows = await till.sql("SELECT status FROM payments")
    assert [row["status"] for row in rows] == ["requires_payment"]
    await till.sql("UPDATE webhook_events SET lease_until = NULL")
    await till.process()
    assert await outcomes(till) == {"payment_intent.amount_capturable_updated": ("processed", None)}
    fired("C18", till.line.met)


@pytest.mark.parametrize(
    "point", ["claim_events.before_commit", "apply_event.before_commit", "apply_event.after_commit"]
)
async def test_effect_and_mark_are_one(till: Till, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """C14, I15: the worker ends before or after any commit: the effect is there with the mark, or neither is."""

    class Ended(BaseException):
        """The process ends here."""

    def end() -> None:
        raise Ended

    payment = await till.created()
    await till.pay(payment)
    await till.deliver_all("payment_intent.amount_capturable_updated")
    monkeypatch.setattr(crashpoints, "_armed", None)
    crashpoints.arm(point, end)
    with pytest.raises((Ended, BaseExceptionGroup)):
        await till.process()
    crashpoints.arm(None)
    rows = await till.sql("SELECT p.status AS payment, e.status AS event FROM payments p, webhook_events e")
    assert {(row["payment"], row["event"]) for row in rows} <= {
        ("requires_payment", "received"),
        ("authorized", "processed"),
    }
    await till.sql("UPDATE webhook_events SET lease_until = NULL")
    await till.process()
    rows = await till.sql("SELECT status, version FROM payments")
    assert [(row["status"], row["version"]) for row in rows] == [("authorized", 2)]
    fired("C14", 1)


async def test_a_refund_that_fails_later_is_told(till: Till) -> None:
    """S27: the money came back to us days later: the payment says so, and the amount is refundable again."""
    payment = await till.created()
    await till.pay_with_number(payment, "4000000000005126")
    await till.client.capture(payment.id)
    await till.refund(payment, 4500)
    (refund,) = (await till.at_stripe("GET", "/v1/refunds", payment_intent=intent_id(payment)))["data"]
    await till.sandbox("POST", f"/refunds/{refund['id']}/settle", succeeded=False)
    await till.deliver_all("refund.failed")
    await till.process()
    seen = await till.seen(payment.id)
    assert (seen.status, seen.refunded) == (PaymentStatus.REFUND_FAILED, 0)
    await till.tell_news()
    assert till.neighbour.told[-1].status is PaymentStatus.REFUND_FAILED
    fired("S27", [event.status for event in till.neighbour.told].count(PaymentStatus.REFUND_FAILED))


async def test_a_charges_event_brings_in_all_refunds(till: Till) -> None:
    """`charge.refunded` does not say which refund it was: all of them are looked at."""
    payment = await till.captured()
    for amount in (1000, 500):
        await till.at_stripe("POST", "/v1/refunds", payment_intent=intent_id(payment), amount=amount)
    (event, *_) = await till.stripe_events("charge.refunded")
    answered(await till.deliver(event))
    await till.process()
    assert (await till.seen(payment.id)).refunded == 1500


async def test_a_dead_event_can_be_sent_round_again(till: Till) -> None:
    """W14: after the fix an operator replays it, twice at once even: one effect; a processed one is 409."""
    payment = await till.created()
    await till.deliver_all("payment_intent.created")
    till.line.meets(says(404, {"error": {"type": "invalid_request_error", "code": "resource_missing"}}))
    await till.process()
    (dead,) = await till.event_rows()
    assert dead["status"] == "dead"
    path = f"/webhook-events/{dead['id']}/replay"
    refused(await till.admin("POST", path, roles=["viewer"]), 403, "FORBIDDEN")
    answers = await asyncio.gather(*(till.admin("POST", path) for _ in range(2)))
    assert {answered(answer)["status"] for answer in answers} == {"received"}
    await till.process()
    (row,) = await till.event_rows()
    assert (row["status"], row["payment_id"]) == ("processed", str(payment.id))
    refused(await till.admin("POST", path), 409, "EVENT_ALREADY_PROCESSED")
