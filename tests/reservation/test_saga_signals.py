"""payment_service's messages: told twice, late, out of order or about something else, they move a saga once or not at all."""

import asyncio
from collections.abc import Sequence
from itertools import permutations
from uuid import uuid4

import pytest

from shared.payment_contract import PaymentEvent, PaymentStatus
from tests.figures import tell
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import TOTAL_MINOR, Bench, Story
from tests.scenarios import fired


async def test_the_same_message_twice_moves_once(bench: Bench) -> None:
    """W01, C19, I27: a redelivered message is ignored, before and after the saga has ended."""
    story = await bench.story()
    await bench.convert(story)
    event = bench.payments.pay(story.payment_id)
    told = await asyncio.gather(*(bench.engine.signal(event) for _ in range(5)))
    await bench.engine.drain(10)
    assert sorted(told) == [False] * 4 + [True]
    assert not await bench.engine.signal(event)
    rows = await bench.sql("SELECT * FROM payment_signals WHERE payment_id = :id", id=story.payment_id)
    assert len(rows) == 1
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_an_older_message_changes_nothing(bench: Bench) -> None:
    """W03, W04: `requires_action` told after `authorized` is stored and ignored; the newest version counts."""
    story = await bench.story()
    await bench.convert(story)
    older = bench.payments.change(story.payment_id, status=PaymentStatus.REQUIRES_ACTION)
    assert await bench.pay(story)
    version = (await bench.booking(story))["payment_version"]
    assert not await bench.engine.signal(older)
    booking = await bench.booking(story)
    assert (booking["payment"]["status"], booking["payment_version"]) == ("captured", version)
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_a_message_of_another_generation_never_moves_the_saga(bench: Bench) -> None:
    """A payment of an earlier or later generation is not this one's money."""
    story = await bench.story()
    await bench.convert(story)
    event = bench.payments.pay(story.payment_id)
    bench.payments.change(story.payment_id, status=PaymentStatus.REQUIRES_PAYMENT)
    before = await bench.journal(story)
    for generation in (0, 2):
        stranger = event.model_copy(update={"generation": generation, "payment_id": uuid4(), "version": 99})
        assert not await bench.engine.signal(stranger)
        await bench.engine.drain(10)
    assert await bench.journal(story) == before
    assert (await bench.booking(story))["payment"]["status"] == "requires_payment"
    await bench.run_to_rest(story)
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_a_message_about_no_booking_of_ours_is_ignored(bench: Bench) -> None:
    """W06: nothing is stored for a reservation that does not exist."""
    story = await bench.story()
    await bench.convert(story)
    stranger = bench.payments.event(story.payment_id).model_copy(
        update={"reservation_id": uuid4(), "payment_id": uuid4()}
    )
    assert not await bench.engine.signal(stranger)
    assert not await bench.sql("SELECT * FROM payment_signals WHERE payment_id = :id", id=stranger.payment_id)


async def test_a_message_before_the_answer_is_not_lost(bench: Bench) -> None:
    """W05, peers B2.38: `authorized` is told while the create call is still on its way; it is acted on as soon as that is back."""
    story = await bench.story()

    async def told_meanwhile(operation: str) -> None:
        if operation == "create":
            bench.payments.before = None
            created = bench.payments.create_paid(story.payment_id, story.hold_id, amount=TOTAL_MINOR)
            assert await bench.engine.signal(created)

    bench.payments.before = told_meanwhile
    booking = await bench.convert(story)
    assert booking["status"] == "confirmed"
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_an_older_answer_does_not_undo_a_newer_message(bench: Bench) -> None:
    """W03, W05: `authorized` overtakes the answer of the create, which still says `requires_payment`: the newer counts."""
    story = await bench.story()

    async def paid_meanwhile(operation: str) -> None:
        if operation == "create":
            bench.payments.after = None
            assert await bench.engine.signal(bench.payments.pay(story.payment_id))

    bench.payments.after = paid_meanwhile
    looks = bench.payments.counted()["get"]
    assert (await bench.convert(story))["status"] == "confirmed"
    assert bench.payments.counted()["get"] == looks  # what was told is enough
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_a_message_that_nobody_could_act_on_makes_the_saga_due(bench: Bench) -> None:
    """C17, I16: the process that took the message has no room (or dies): the saga falls due at once, for anybody."""
    for orchestrated in (True, False):
        await bench.set_orchestration(orchestrated)
        story = await bench.story()
        await bench.convert(story)
        full = bench.another_engine(saga_batch_size=0)
        assert await full.signal(bench.payments.pay(story.payment_id))
        assert await bench.engine.run_due() >= 1
        await bench.engine.drain(10)
        await assert_whole(bench, story, "confirmed", saga="completed")
    await bench.set_orchestration(True)


async def test_a_decline_is_shown_and_the_same_payment_can_still_be_paid(bench: Bench) -> None:
    """S11, peers B3.44: a declined card leaves the booking pending with its payment, its seats and its class of decline."""
    story = await bench.story()
    await bench.convert(story)
    assert await bench.engine.signal(bench.payments.change(story.payment_id, decline_class="card_declined"))
    await bench.engine.drain(10)
    booking = await bench.booking(story)
    assert (booking["status"], booking["payment"]["decline_class"]) == ("pending", "card_declined")
    bench.payments.change(story.payment_id, decline_class=None)
    await bench.pay(story)
    assert (await bench.booking(story))["payment"]["decline_class"] is None
    await assert_whole(bench, story, "confirmed", saga="completed")


async def test_a_message_keeps_what_it_does_not_tell(bench: Bench) -> None:
    """The client secret is told once, by the create; a later message without it does not take it away."""
    story = await bench.story()
    secret = (await bench.convert(story))["payment"]["client_secret"]
    await bench.engine.signal(bench.payments.change(story.payment_id, status=PaymentStatus.REQUIRES_ACTION))
    payment = (await bench.booking(story))["payment"]
    assert (payment["client_secret"], payment["status"]) == (secret, "requires_action")


def about_the_way(bench: Bench, story: Story) -> list[PaymentEvent]:
    """Return what is told of a payment until it is authorised, oldest first."""
    created = bench.payments.event(story.payment_id)
    challenged = bench.payments.change(story.payment_id, status=PaymentStatus.REQUIRES_ACTION)
    paid = bench.payments.pay(story.payment_id)
    return [created, challenged, paid]


async def told_thrice(bench: Bench, messages: Sequence[PaymentEvent], *, between: bool = True) -> None:
    """Tell each message three times; `between` two of them, let the engine do what it will."""
    for message in messages:
        for _ in range(3):
            await bench.engine.signal(message)
        if between:
            await bench.engine.drain(10)


async def test_every_order_of_messages_ends_in_the_same_booking(bench: Bench) -> None:
    """W03, W04, C19, I22, I27: all orders, each thrice, with an older generation's among them: one capture, confirmed."""
    orders = list(permutations(range(4)))
    for order in orders:
        story = await bench.story()
        await bench.convert(story)
        way = about_the_way(bench, story)
        stranger = way[-1].model_copy(update={"generation": 0, "payment_id": uuid4(), "version": 99})
        await told_thrice(bench, [[*way, stranger][index] for index in order])
        await assert_whole(bench, story, "confirmed", saga="completed")
    fired("W04", len(orders))
    tell(f"permutations of a booking's messages {len(orders)}/{len(orders)} end confirmed and captured once")


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
async def test_messages_that_are_early_or_late_end_in_the_same_booking(bench: Bench, order: tuple[int, ...]) -> None:
    """W05, I22: told while the create is still on its way, and told again when all is over: nothing is done twice."""
    story = await bench.story()
    way: list[PaymentEvent] = []

    async def told_meanwhile(operation: str) -> None:
        if operation == "create":
            bench.payments.after = None
            way.extend(about_the_way(bench, story))
            await told_thrice(bench, [way[index] for index in order], between=False)

    bench.payments.after = told_meanwhile
    await bench.convert(story)
    await bench.engine.drain(10)
    assert len(way) == 3
    fired("W05", len(way))
    await assert_whole(bench, story, "confirmed", saga="completed")
    before = {**await bench.booking(story), "seconds_left": None}
    await told_thrice(bench, [way[index] for index in order])
    assert {**await bench.booking(story), "seconds_left": None} == before
    await assert_whole(bench, story, "confirmed", saga="completed")
