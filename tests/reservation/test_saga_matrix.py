"""Every step and every undo of the page meets every fault: the list is made from the page, so a new step enlarges it.

`test_saga_injection` looks closer at what each answer of payment_service leads to; here nothing may be left out.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from reservation_service.saga.definition import LocalAct, LocalStep, Pause
from reservation_service.saga.engine import Engine
from reservation_service.saga.reservation_saga import reservation_saga
from reservation_service.saga.steps import Steps
from reservation_service.store import reservations
from tests.doubles import scripted_payments as acts
from tests.doubles.scripted_payments import Died
from tests.figures import tell
from tests.reservation.residue import Tally, assert_whole
from tests.reservation.saga_bench import Bench, Story
from tests.scenarios import fired

PAGE = reservation_saga(Steps(None, async_payment_max_s=0))  # type: ignore[arg-type]  # nothing outside is called here

OUTSIDE_FAULTS = (
    "twice", "refused", "fails_then_works", "fails_for_ever", "lost_applied", "lost_not_applied", "crash_before",
    "crash_after", "hung",
)  # fmt: skip
# A step of our own database is one transaction: no answer can be refused, lost or late, it only happens or does not.
OUR_FAULTS = ("twice", "crash_before", "crash_after")

OUTSIDE = [
    (part.name, direction)
    for part in PAGE.parts
    if not isinstance(part, LocalStep)
    for direction in (("ask",) if isinstance(part, Pause) else ("do", "undo"))
]
OURS = [(part.name, direction) for part in PAGE.parts if isinstance(part, LocalStep) for direction in ("do", "undo")]
MATRIX = [(node, fault) for node in OUTSIDE for fault in OUTSIDE_FAULTS] + [
    (node, fault) for node in OURS for fault in OUR_FAULTS
]

Drive = Callable[[Bench, Story, Engine], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Way:
    """How one outside node is reached: what is done first, what then meets the fault, and how it ends without one."""

    operation: str
    prepare: Drive
    meet: Drive
    ends: tuple[str, str]
    refused: tuple[str, str]
    for_ever: tuple[str, str]


async def nothing(_bench: Bench, _story: Story, _engine: Engine) -> None:
    """A hold is all that is needed."""


async def convert(bench: Bench, story: Story, engine: Engine) -> None:
    await bench.convert(story, engine=engine)


async def time_runs_out(bench: Bench, story: Story, engine: Engine) -> None:
    await bench.convert(story, engine=engine)
    await bench.pass_deadline(story)


async def charged_unheard(bench: Bench, story: Story, engine: Engine) -> None:
    await bench.convert(story, engine=engine)
    bench.payments.script("capture", acts.UNKNOWN_APPLIED, acts.DECLINED)
    await bench.pay(story, engine=engine)


async def pay(bench: Bench, story: Story, engine: Engine) -> None:
    await bench.pay(story, engine=engine)


async def turn(bench: Bench, _story: Story, engine: Engine) -> None:
    await bench.turn(engine)


CONFIRMED, FAILED = ("confirmed", "completed"), ("failed", "compensated")
STOPPED, STOPPED_WITHOUT_SEATS = ("needs_attention", "needs_attention"), ("failed", "needs_attention")
WAYS = {
    ("create_payment_intent", "do"): Way("create", nothing, convert, CONFIRMED, FAILED, FAILED),
    ("create_payment_intent", "undo"): Way("cancel", time_runs_out, turn, FAILED, STOPPED, STOPPED_WITHOUT_SEATS),
    ("payment_authorized", "ask"): Way("get", convert, turn, CONFIRMED, CONFIRMED, CONFIRMED),
    ("capture_payment", "do"): Way("capture", convert, pay, CONFIRMED, FAILED, STOPPED),
    ("capture_payment", "undo"): Way("refund", charged_unheard, turn, FAILED, STOPPED, STOPPED),
}
ANSWERS = {
    "refused": (acts.DECLINED,),
    "fails_then_works": (acts.BUSY, acts.NO_CONNECTION, acts.BUSY),
    "lost_applied": (acts.ANSWER_LOST,),
    "lost_not_applied": (acts.TIMEOUT,),
    "crash_before": (acts.DIES_BEFORE,),
    "crash_after": (acts.DIES_AFTER,),
}


@pytest.fixture(scope="module")
def totals() -> Tally:
    """What has been injected, and what it left behind."""
    return Tally()


def name_of(value: object) -> str:
    return "-".join(value) if isinstance(value, tuple) else str(value)


class Standstill:
    """The first call of an operation stands still: `hung` before it has any effect, `twice` with its answer on the way."""

    def __init__(self, bench: Bench, operation: str, *, after: bool) -> None:
        self.reached, self.over = asyncio.Event(), asyncio.Event()
        self._operation = operation
        if after:
            bench.payments.after = self._stand
        else:
            bench.payments.before = self._stand

    async def _stand(self, operation: str) -> None:
        if operation == self._operation and not self.reached.is_set():
            self.reached.set()
            await self.over.wait()


@pytest.mark.parametrize(("node", "fault"), MATRIX, ids=name_of)
async def test_every_node_meets_every_fault(bench: Bench, totals: Tally, node: tuple[str, str], fault: str) -> None:
    """S01, S02, S03, S04, S05, S22, C04, C05, C08, C10, C15, C18, C20: whatever meets whom, it ends whole."""
    totals.injections += 1
    totals.residue.append(f"{node} {fault}")
    if node in OURS:
        await meets_ours(bench, node, fault)
    else:
        await meets_outside(bench, WAYS[node], fault)
    totals.residue.pop()


async def meets_outside(bench: Bench, way: Way, fault: str) -> None:
    story, engine = await bench.story(), bench.another_engine(internal_call_timeout_s=0.3)
    await way.prepare(bench, story, engine)
    asked = bench.payments.counted()[way.operation]
    if fault == "twice":
        await _run_by_two(bench, story, way)
    elif fault == "hung":
        standstill = Standstill(bench, way.operation, after=False)
        await way.meet(bench, story, engine)
        assert standstill.reached.is_set()
    elif fault == "fails_for_ever":
        bench.payments.always(way.operation, acts.BUSY)
        await way.meet(bench, story, engine)
        if way.operation != "get":  # a look that fails for ever is made up for by the message
            await bench.pass_grace(story)
    else:
        bench.payments.script(way.operation, *ANSWERS[fault])
        await way.meet(bench, story, engine)
    pays = fault == "refused" or way.ends == CONFIRMED
    await bench.run_to_rest(story, pays=pays)
    assert bench.payments.counted()[way.operation] > asked, "the fault met nobody"
    ends = {"refused": way.refused, "fails_for_ever": way.for_ever}.get(fault, way.ends)
    await assert_whole(bench, story, ends[0], saga=ends[1])
    assert sum(entry.captures for entry in bench.payments.of(story.hold_id)) <= 1


async def _run_by_two(bench: Bench, story: Story, way: Way) -> None:
    """One worker stands still with the answer on its way, another one takes over and ends it; then the first wakes."""
    sleeper, standstill = bench.another_engine(), Standstill(bench, way.operation, after=True)
    standing = asyncio.create_task(way.meet(bench, story, sleeper))
    await asyncio.wait_for(standstill.reached.wait(), 10)
    await bench.run_to_rest(story, pays=way.ends == CONFIRMED)
    before = await bench.journal(story)
    standstill.over.set()
    await standing
    await sleeper.drain(10)
    assert await bench.journal(story) == before


async def meets_ours(bench: Bench, node: tuple[str, str], fault: str) -> None:
    """Do a local act around a crash, or twice: the booking, its seats and its events are as after doing it once."""
    name, direction = node
    part = next(part for part in PAGE.parts if part.name == name)
    assert isinstance(part, LocalStep)
    act = part.do if direction == "do" else part.undo
    story = await _before(bench, node)
    untouched = await _seen(bench, story)
    if fault == "crash_before":
        with pytest.raises(Died):
            await _act_once(bench, story, act, dies=True)
        assert await _seen(bench, story) == untouched
    await _act_once(bench, story, act)
    done = await _seen(bench, story)
    if fault != "crash_before":
        await _act_once(bench, story, act)  # the process died after its commit, or somebody was faster
        assert await _seen(bench, story) == done
    assert (done == untouched) is (name == "create_hold" and direction == "do")
    await _close(bench, story)


async def _before(bench: Bench, node: tuple[str, str]) -> Story:
    story = await bench.story()
    await bench.convert(story)
    if node == ("confirm_reservation", "do"):
        captured = bench.payments.change(bench.entry(story).id, captured=bench.entry(story).amount)
        await bench.engine.signal(captured)
    if node == ("confirm_reservation", "undo"):
        await bench.run_to_rest(story)
    return story


async def _act_once(bench: Bench, story: Story, act: LocalAct, *, dies: bool = False) -> None:
    async with bench.database.transaction("test") as tx:
        booking = await reservations.lock_booking(tx, story.hold_id)
        assert booking is not None
        await act(tx, booking, await bench.the_saga(story))
        if dies:
            raise Died


async def _seen(bench: Bench, story: Story) -> tuple[object, ...]:
    booking = await bench.booking(story)
    events = await bench.sql("SELECT to_status FROM reservation_events WHERE reservation_id = :id", id=story.hold_id)
    return booking["status"], booking["seats_pinned"], await bench.taken(story), [row["to_status"] for row in events]


async def _close(bench: Bench, story: Story) -> None:
    """End the saga that was passed over, so that the audit sees a whole booking."""
    await bench.engine.drain(10)
    if (await bench.booking(story))["status"] == "cancelled":
        async with bench.database.transaction("test") as tx:
            turn = await bench.engine.walk_back(tx, (await bench.the_saga(story))["id"])
        await bench.engine.drive(turn)
        await bench.run_to_rest(story)
    if (await bench.booking(story))["status"] == "pending":
        await bench.run_to_rest(story)
    if (await bench.the_saga(story))["due_at"] is not None:
        for status in ("running", "needs_attention"):
            ended = (
                "UPDATE sagas SET due_at = NULL, status = :status, reason = 'passed over' WHERE reservation_id = :id"
            )
            await bench.sql(ended, id=story.hold_id, status=status)


def test_the_list_is_the_page(totals: Tally) -> None:
    """The matrix has every node of the page; each one's way is known, each cell was tried, and none left anything."""
    steps = [part for part in PAGE.parts if not isinstance(part, Pause)]
    remote = [step for step in steps if not isinstance(step, LocalStep)]
    pauses = len(PAGE.parts) - len(steps)
    nodes = 2 * len(remote) + pauses
    wanted = nodes * len(OUTSIDE_FAULTS) + 2 * (len(steps) - len(remote)) * len(OUR_FAULTS)
    assert len(MATRIX) == wanted
    assert set(WAYS) == set(OUTSIDE)
    assert totals.injections == wanted, "run the whole file"
    assert not totals.residue, totals.residue
    tell(f"saga injections {wanted}/{wanted} nodes={nodes + len(OURS)} residue=0")
    fired("C18", len(OUTSIDE))
    fired("S05", len(OUTSIDE))
