"""What is not known is not failure: a booking lives on until somebody knows, and nothing is let go before its money."""

import asyncio

import pytest

from shared.payment_contract import Outcome, PaymentStatus
from tests.doubles.scripted_payments import ANSWER_LOST, DECLINED, TIMEOUT, UNKNOWN, UNKNOWN_APPLIED, Act
from tests.reservation.saga_bench import SEATS, TOTAL_MINOR, Bench
from tests.scenarios import fired


@pytest.mark.parametrize("trouble", [UNKNOWN_APPLIED, UNKNOWN, ANSWER_LOST, TIMEOUT], ids=lambda act: act.name)
async def test_an_unknown_outcome_undoes_nothing(bench: Bench, trouble: Act) -> None:
    """S01, S05: whether or not the payment was set up, the seats stay and the same payment is asked for again."""
    bench.payments.script("create", trouble)
    story = await bench.story()
    await bench.convert(story)
    assert (await bench.booking(story))["status"] == "pending"
    assert await bench.taken(story) == SEATS

    await bench.run_to_rest(story)
    assert (await bench.booking(story))["status"] == "confirmed"
    assert bench.payments.counted()["cancel"] == 0
    assert (bench.entry(story).captures, bench.entry(story).captured) == (1, TOTAL_MINOR)
    fired("S05" if trouble is TIMEOUT else "S01", bench.payments.calls.count(("create", trouble.name)))


async def test_an_unpaid_booking_lets_go_of_its_payment_before_its_seats(bench: Bench) -> None:
    """S12, I11: when the time to pay is over the payment is cancelled first, else money could come for resold seats."""
    story = await bench.story()
    await bench.convert(story)
    taken_then: list[int] = []

    async def note(operation: str) -> None:
        if operation == "cancel":
            taken_then.append(await bench.taken(story))

    bench.payments.before = note
    await bench.pass_deadline(story)
    await bench.turn()
    assert taken_then == [SEATS]
    assert bench.entry(story).status is PaymentStatus.CANCELED
    assert (await bench.booking(story))["status"] == "failed"
    assert await bench.taken(story) == 0


async def test_money_that_was_taken_all_the_same_is_given_back(bench: Bench) -> None:
    """I5, I18: a capture is refused and has happened after all: unwinding refunds all of it, then the seats go back."""
    bench.payments.script("capture", Act("taken", applies=True, outcome=Outcome.DECLINED, code="card_declined"))
    story = await bench.story()
    await bench.convert(story)
    await bench.pay(story)
    await bench.run_to_rest(story, pays=False)
    entry = bench.entry(story)
    assert (entry.captured, entry.refunded) == (TOTAL_MINOR, TOTAL_MINOR)
    assert (await bench.the_saga(story))["status"] == "compensated"
    assert (await bench.booking(story))["status"] == "failed"
    assert await bench.taken(story) == 0


async def test_a_worker_that_was_frozen_changes_nothing(bench: Bench) -> None:
    """C18, I19: it wakes up after its lease, with bad news that is no longer true; the booking does not even notice."""
    story, frozen, thaw = await bench.story(), asyncio.Event(), asyncio.Event()
    await bench.convert(story)
    bench.payments.script("capture", DECLINED)

    async def freeze(operation: str) -> None:
        if operation == "capture" and not frozen.is_set():
            frozen.set()
            await thaw.wait()

    bench.payments.before = freeze
    await bench.engine.signal(bench.payments.pay(story.payment_id))
    async with asyncio.timeout(10):
        await frozen.wait()

    successor = bench.another_engine()
    await bench.turn(successor)
    assert (await bench.booking(story))["status"] == "confirmed"
    journal = await bench.journal(story)

    thaw.set()
    await bench.engine.drain(10)
    await bench.turn(successor)
    assert await bench.journal(story) == journal
    assert (await bench.booking(story))["status"] == "confirmed"
    assert (await bench.the_saga(story))["status"] == "completed"
    assert bench.payments.counted()["refund"] == 0
    fired("C18", int(frozen.is_set()))
