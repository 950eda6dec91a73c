"""A confirmed booking that is cancelled walks the whole page back, and each call on its way meets every fault.

`test_saga_matrix` reaches each undo from a booking that never became final; here all of them run, one after the other.
"""

import asyncio

import pytest

from reservation_service.saga.desk import SagaDesk, Word
from shared.payment_contract import PaymentStatus
from tests.doubles import scripted_payments as acts
from tests.figures import tell
from tests.reservation.residue import Tally, assert_whole
from tests.reservation.saga_bench import TOTAL_MINOR, Bench, Story
from tests.reservation.test_saga_matrix import ANSWERS, OUTSIDE_FAULTS, PAGE, Standstill
from tests.scenarios import fired

# The two calls of the walk: refund_payment looks first and then orders. cancel_payment_intent finds nothing to cancel in
# a payment whose money was taken, so it calls nobody; the other two undos are our database's.
OPERATIONS = ("get", "refund")
BACK = ["confirm_reservation", "capture_payment", "create_payment_intent", "create_hold"]
MATRIX = [(operation, fault) for operation in OPERATIONS for fault in OUTSIDE_FAULTS]
_GIVE_UP = {"refused", "fails_for_ever"}


@pytest.fixture(scope="module")
def totals() -> Tally:
    """What has been injected, and what it left behind."""
    return Tally()


async def confirmed(bench: Bench) -> Story:
    story = await bench.story()
    await bench.convert(story)
    await bench.run_to_rest(story)
    assert (await bench.booking(story))["status"] == "confirmed"
    return story


async def undone(bench: Bench, story: Story) -> list[str]:
    return [step for step, direction, event in await bench.journal(story) if (direction, event) == ("undo", "done")]


@pytest.mark.parametrize(("operation", "fault"), MATRIX)
async def test_the_whole_walk_back_meets_every_fault(bench: Bench, totals: Tally, operation: str, fault: str) -> None:
    """S03, S05, S22, C15, C18: whatever meets a call, the seats are free at once and the money goes back once, or a person is asked."""
    totals.injections += 1
    totals.residue.append(f"{operation} {fault}")
    story, engine = await confirmed(bench), bench.another_engine(internal_call_timeout_s=0.3)
    began = len(bench.payments.calls)
    if fault == "twice":
        await _cancelled_by_two(bench, story, operation)
    elif fault == "hung":
        standstill = Standstill(bench, operation, after=False)
        await bench.cancel(story, engine=engine)
        assert standstill.reached.is_set()
    elif fault == "fails_for_ever":
        bench.payments.always(operation, acts.BUSY)
        await bench.cancel(story, engine=engine)
    else:
        bench.payments.script(operation, *ANSWERS[fault])
        await bench.cancel(story, engine=engine)
    assert await bench.taken(story) == 0
    await bench.run_to_rest(story, pays=False)
    made = [name for name, _ in bench.payments.calls[began:]]
    assert operation in made, "the fault met nobody"
    assert "cancel" not in made, "there is nothing to cancel in money that was taken"
    await _assert_ended(bench, story, "needs_attention" if fault in _GIVE_UP else "compensated")
    totals.residue.pop()


async def _assert_ended(bench: Bench, story: Story, saga: str) -> None:
    await assert_whole(bench, story, "cancelled", saga=saga)
    refunds = [one.amount for one in bench.payments.refunds_of(story.payment_id)]
    if saga == "compensated":
        assert (await undone(bench, story), refunds) == (BACK, [TOTAL_MINOR])
        assert bench.entry(story).status is PaymentStatus.REFUNDED
    else:
        assert (await undone(bench, story), refunds) == (BACK[:1], [])
        assert (await bench.the_saga(story))["reason"].startswith("refund_payment: ")


async def _cancelled_by_two(bench: Bench, story: Story, operation: str) -> None:
    """One worker stands still with the answer on its way, another one takes over and ends it; then the first wakes."""
    sleeper, standstill = bench.another_engine(), Standstill(bench, operation, after=True)
    standing = asyncio.create_task(bench.cancel(story, engine=sleeper))
    await asyncio.wait_for(standstill.reached.wait(), 10)
    await bench.run_to_rest(story, pays=False)
    before = await bench.journal(story)
    standstill.over.set()
    await standing
    await sleeper.drain(10)
    assert await bench.journal(story) == before
    fired("C18", 1)


@pytest.mark.parametrize("word", ["told", "lost"])
async def test_a_refund_on_its_way_is_waited_for(bench: Bench, word: str) -> None:
    """S03: accepted, pending, then there; whether the message of that comes or is lost, the walk ends, and ordered once."""
    story = await confirmed(bench)
    bench.payments.refunds_take_time = True
    await bench.cancel(story)
    assert ((await bench.the_saga(story))["status"], await bench.taken(story)) == ("unwinding", 0)
    await bench.turn()
    arrived = bench.payments.settle_refund(story.payment_id)
    if word == "told":
        await bench.engine.signal(arrived)
        await bench.engine.drain(10)
    await bench.run_to_rest(story, pays=False)
    await _assert_ended(bench, story, "compensated")


@pytest.mark.parametrize("after", [False, True], ids=["refused then ordered", "failed then ordered"])
async def test_a_person_finishes_the_walk(bench: Bench, after: bool) -> None:
    """S27: where the walk stopped, `retry` goes on from there, and every undo is done once."""
    story = await confirmed(bench)
    if after:
        bench.payments.refunds_take_time = True
    else:
        bench.payments.script("refund", acts.DECLINED)
    await bench.cancel(story)
    if after:
        await bench.engine.signal(bench.payments.settle_refund(story.payment_id, "failed"))
        await bench.engine.drain(10)
        fired("S27", 1)
    assert (await bench.the_saga(story))["status"] == "needs_attention"
    bench.payments.heal()
    desk = SagaDesk(bench.database, PAGE, bench.engine, bench.engine._metrics)
    await desk.retry((await bench.the_saga(story))["id"], Word("olga", "the bank is back"))
    await bench.engine.drain(10)
    await bench.run_to_rest(story, pays=False)
    assert (await undone(bench, story), bench.entry(story).refunded) == (BACK, TOTAL_MINOR)
    await assert_whole(bench, story, "cancelled", saga="compensated")


def test_the_walk_met_everything(totals: Tally) -> None:
    """Each call of the walk met each fault, and none left anything."""
    assert totals.injections == len(MATRIX) == len(OPERATIONS) * len(OUTSIDE_FAULTS), "run the whole file"
    assert not totals.residue, totals.residue
    tell(f"saga injections walking back from confirmed {len(MATRIX)}/{len(MATRIX)} residue=0")
