"""What an event settles at the door without a question, and all that is left to the worker, which asks."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest

from payment_service.store import webhook_events
from payment_service.webhooks import inbox
from shared import crashpoints
from shared.payment_contract import Outcome, PaymentView
from shared.payment_contract import PaymentStatus as Is
from tests.answers import answered
from tests.figures import tell
from tests.payment.till import Till, intent_id, open_till
from tests.scenarios import fired

CREATED = "payment_intent.created"
AUTHORIZED = "payment_intent.amount_capturable_updated"
CAPTURED = "payment_intent.succeeded"
CANCELED = "payment_intent.canceled"

Event = dict[str, Any]


@pytest.fixture
async def till(till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Till]:
    """payment_service as in production: events are settled at the door where they can be."""
    async with open_till(till_database_url, tmp_path, monkeypatch, settles_at_the_door=True) as till:
        await till.sweep()
        yield till
        assert await till.violated() == {}


async def paid(till: Till) -> tuple[PaymentView, Event]:
    """Return a payment whose card was taken in the browser, and the event that nobody has delivered yet."""
    payment = await till.created()
    await till.pay(payment)
    (event,) = await till.stripe_events(AUTHORIZED)
    return payment, event


async def status_of(till: Till, payment: PaymentView) -> tuple[Is, int]:
    (row,) = await till.sql("SELECT status, version FROM payments WHERE id = :id", id=payment.id)
    return Is(row["status"]), row["version"]


async def words(till: Till) -> list[tuple[str, str | None]]:
    return [(row["status"], row["reason"]) for row in await till.event_rows()]


async def test_an_authorisation_is_known_before_stripe_is_answered(till: Till) -> None:
    """No question is asked: the row, the news and the mark on the event are there with the 200, and it can be captured."""
    payment, event = await paid(till)
    asked = len(till.line.calls)
    answered(await till.deliver(event))
    assert await status_of(till, payment) == (Is.AUTHORIZED, 2)
    assert await words(till) == [("processed", None)]
    assert len(till.line.calls) == asked
    await till.tell_news()
    assert [(told.status, told.version) for told in till.neighbour.told][-1] == (Is.AUTHORIZED, 2)
    assert (await till.client.capture(payment.id)).outcome is Outcome.OK


async def test_what_is_known_is_not_asked_for(till: Till) -> None:
    """The events about our own calls tell nothing new: not one question, and nothing is told again."""
    payment = await till.captured()
    asked = len(till.line.calls)
    events = await till.stripe_events(CREATED, AUTHORIZED, CAPTURED)
    for event in events:
        answered(await till.deliver(event))
    assert await words(till) == [("processed", "nothing-new")] * 3
    assert len(till.line.calls) == asked
    assert await till.process() == 0
    assert await status_of(till, payment) == (Is.CAPTURED, 3)


async def test_what_is_nothing_to_us_is_stored_and_that_is_all(till: Till) -> None:
    """A type that nobody handles: ignored when it is stored, counted once more when it comes again, left to no worker."""
    payment = await till.created()
    await till.pay(payment)
    (event,) = await till.stripe_events("charge.succeeded")
    assert [answered(await till.deliver(event))["duplicate"] for _ in range(2)] == [False, True]
    assert await words(till) == [("ignored", "unhandled-type")]
    assert (await till.event_rows())[0]["deliveries"] == 2
    assert await till.process() == 0


@pytest.mark.parametrize("verb", ["create", "capture", "cancel"])
async def test_an_event_that_overtakes_our_answer_waits_for_it(till: Till, verb: str) -> None:
    """W05: Stripe tells of what our call has done before its answer is here: not one question more, and told once."""
    payment = await till.authorized() if verb == "capture" else await till.created()
    order, delivered = till.order(), list[asyncio.Task[Any]]()

    async def answers_late(request: Any, sandbox: Any) -> Any:
        answer = await sandbox.handle_async_request(request)
        (event,) = (await till.stripe_events({"create": CREATED, "capture": CAPTURED, "cancel": CANCELED}[verb]))[-1:]
        delivered.append(asyncio.create_task(till.deliver(event)))
        await asyncio.sleep(0.2)
        assert not delivered[0].done()
        return answer

    till.line.meets(answers_late)
    asked = len(till.line.calls)
    match verb:
        case "create":
            answer = await till.client.create(order)
        case "capture":
            answer = await till.client.capture(payment.id)
        case _:
            answer = await till.cancel(payment)
    assert answer.outcome is Outcome.OK
    answered(await delivered[0])
    assert (await words(till))[-1] == ("processed", "nothing-new")
    assert (len(till.line.calls) - asked, await till.process()) == (1, 0)
    fired("W05", 1)


async def test_an_answer_that_takes_too_long_is_not_waited_for(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is stored and acknowledged in time, for the worker to ask; Stripe must not think that we are away."""
    monkeypatch.setattr(inbox, "_ANSWER_WAIT_S", 0.05)
    payment = await till.authorized()

    async def answers_late(request: Any, sandbox: Any) -> Any:
        answer = await sandbox.handle_async_request(request)
        (event,) = await till.stripe_events(CAPTURED)
        answered(await till.deliver(event))
        assert await words(till) == [("received", None)]
        return answer

    till.line.meets(answers_late)
    assert (await till.client.capture(payment.id)).outcome is Outcome.OK
    assert await till.process() == 1
    assert await words(till) == [("processed", "nothing-new")]


async def captured_but_known_as(till: Till, status: Is) -> PaymentView:
    """Return a payment that is captured at Stripe, and of which our row knows no more than that."""
    if status is Is.CAPTURED:
        return await till.captured()
    payment = await till.created()
    await till.pay(payment)
    if status is Is.AUTHORIZED:
        await till.seen(payment.id)
    await till.at_stripe("POST", f"/v1/payment_intents/{intent_id(payment)}/capture")
    return payment


@pytest.mark.parametrize("known_as", [Is.REQUIRES_PAYMENT, Is.AUTHORIZED, Is.CAPTURED])
async def test_all_orders_end_in_the_same_place(till: Till, known_as: Is) -> None:
    """Each order of a booking's events, tripled, whatever our row knows already: told once per state."""
    for order in itertools.permutations(range(3)):
        await till.sweep()
        since = len(await till.stripe_events(CREATED, AUTHORIZED, CAPTURED))
        payment = await captured_but_known_as(till, known_as)
        events = (await till.stripe_events(CREATED, AUTHORIZED, CAPTURED))[since:]
        for index in order * 3:
            answered(await till.deliver(events[index]))
        while await till.process():
            await till.make_all_due()
        assert (await status_of(till, payment))[0] is Is.CAPTURED
        assert {status for status, _ in await words(till)} == {"processed"}
        assert await till.violated() == {}
    tell(f"door: 6 orders of 3 events, tripled, on a row that is {known_as}: one end")


async def test_fifty_deliveries_at_once_are_one_effect(till: Till) -> None:
    """Whoever is first settles it; the others count."""
    payment, event = await paid(till)
    answers = await asyncio.gather(*(till.deliver(event) for _ in range(50)))
    assert sorted(answered(answer)["duplicate"] for answer in answers) == [False] + [True] * 49
    assert await status_of(till, payment) == (Is.AUTHORIZED, 2)


def _amount(event: Event) -> None:
    event["data"]["object"]["amount"] += 1


def _currency(event: Event) -> None:
    event["data"]["object"]["currency"] = "jpy"


def _stranger(event: Event) -> None:
    event["data"]["object"]["metadata"]["payment_id"] = "0199aaaa-0000-7000-8000-000000000001"


def _not_yet(event: Event) -> None:
    event["data"]["object"]["status"] = "requires_action"


def _unreadable(event: Event) -> None:
    event["data"]["object"]["amount"] = "much"


def _real_money(event: Event) -> None:
    event["livemode"] = True


@pytest.mark.parametrize("change", [_amount, _currency, _stranger, _not_yet, _unreadable, _real_money])
async def test_what_does_not_fit_to_the_letter_is_not_believed(till: Till, change: Callable[[Event], None]) -> None:
    """The picture in the event is not our payment's: nothing happens at the door, a worker looks."""
    payment, event = await paid(till)
    changed = deepcopy(event)
    change(changed)
    answered(await till.deliver(changed))
    assert await status_of(till, payment) == (Is.REQUIRES_PAYMENT, 1)
    assert await words(till) == [("received", None)]
    await till.process()
    if change is not _real_money:
        assert await status_of(till, payment) == (Is.AUTHORIZED, 2)


async def test_a_payment_in_somebodys_hands_is_left_to_the_worker(till: Till) -> None:
    """The door waits for nobody: what is locked is settled a moment later, by a question."""
    payment, event = await paid(till)
    async with till.parts.database.transaction("test") as tx:
        await tx.exec_driver_sql("SELECT 1 FROM payments FOR UPDATE")
        answered(await till.deliver(event))
    assert await words(till) == [("received", None)]
    assert await till.process() == 1
    assert await status_of(till, payment) == (Is.AUTHORIZED, 2)


async def test_an_event_is_taken_out_of_a_workers_hands(till: Till) -> None:
    """The comparison found it first and a worker has it, or was killed with it: who delivers it waits for neither."""
    payment, event = await paid(till)
    async with till.parts.database.transaction("test") as tx:
        await webhook_events.store_missing(tx, [inbox.read_delivery(orjson.dumps(event)).hint])
        held = await webhook_events.claim(tx, limit=9, lease_s=60)
    assert answered(await till.deliver(event))["duplicate"]
    assert await status_of(till, payment) == (Is.AUTHORIZED, 2)
    assert await words(till) == [("processed", None)]
    assert await till.violated() == {}, "what is finished is nobody's"
    async with till.parts.database.transaction("test") as tx:
        assert await webhook_events.still_mine(tx, held, lease_s=60) == []
    assert await till.process() == 0


async def test_old_news_in_a_workers_hands_is_left_to_it(till: Till) -> None:
    """Nothing is left to do of it but the mark, so it is acknowledged; the worker, or the next one, marks it."""
    await till.created()
    (event,) = await till.stripe_events(CREATED)
    async with till.parts.database.transaction("test") as tx:
        await webhook_events.store_missing(tx, [inbox.read_delivery(orjson.dumps(event)).hint])
        assert len(await webhook_events.claim(tx, limit=9, lease_s=60)) == 1
    assert answered(await till.deliver(event))["duplicate"]
    assert await words(till) == [("processing", None)]
    assert await till.violated() == {}
    await till.sql("UPDATE webhook_events SET lease_until = clock_timestamp()")
    assert await till.process() == 1
    assert await words(till) == [("processed", "nothing-new")]


async def test_an_authorisation_that_is_gone_takes_nothing(till: Till) -> None:
    """It was cancelled at Stripe before its event came: the capture is refused, and the row learns the truth."""
    payment, event = await paid(till)
    await till.at_stripe("POST", f"/v1/payment_intents/{intent_id(payment)}/cancel")
    answered(await till.deliver(event))
    assert await status_of(till, payment) == (Is.AUTHORIZED, 2)
    answer = await till.client.capture(payment.id)
    assert (answer.outcome, answer.payment and answer.payment.status) == (Outcome.DECLINED, Is.CANCELED)
    (line,) = await till.intents_of(payment.reservation_id)
    assert line["net"] == 0
    await till.deliver_all(CANCELED)
    assert await words(till) == [("processed", None), ("processed", "nothing-new")]


async def test_an_old_event_moves_nothing_back(till: Till) -> None:
    """The authorisation is told after the payment was cancelled, or captured: old news."""
    payment, event = await paid(till)
    await till.cancel(payment)
    answered(await till.deliver(event))
    assert (await status_of(till, payment))[0] is Is.CANCELED
    assert await words(till) == [("processed", "nothing-new")]


async def test_a_capture_that_we_do_not_know_is_looked_at(till: Till) -> None:
    """An event that tells more than we know, and is no authorisation, is a question: also the end against our word."""
    payment, _ = await paid(till)
    await till.at_stripe("POST", f"/v1/payment_intents/{intent_id(payment)}/capture")
    await till.deliver_all(CAPTURED)
    assert await words(till) == [("received", None)]
    await till.process()
    assert (await status_of(till, payment))[0] is Is.CAPTURED


@pytest.mark.parametrize("point", ["store_event.before_commit", "store_event.after_commit"])
async def test_row_effect_and_mark_are_one(till: Till, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """The process ends on either side of the commit: event, effect and mark are there, or none is."""

    class Ended(BaseException):
        """The process ends here."""

    def end() -> None:
        raise Ended

    payment, event = await paid(till)
    monkeypatch.setattr(crashpoints, "_armed", None)
    crashpoints.arm(point, end)
    with pytest.raises((Ended, BaseExceptionGroup)):
        await till.deliver(event)
    crashpoints.arm(None)
    kept = point.endswith("after_commit")
    assert await status_of(till, payment) == ((Is.AUTHORIZED, 2) if kept else (Is.REQUIRES_PAYMENT, 1))
    assert await words(till) == ([("processed", None)] if kept else [])
    answered(await till.deliver(event))
    assert await status_of(till, payment) == (Is.AUTHORIZED, 2)
