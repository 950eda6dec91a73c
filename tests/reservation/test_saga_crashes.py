"""The process dies at every boundary of every path, and again while it recovers; another one ends what was begun.

Prints how many crashes were survived; `residue.assert_whole` checks each.
"""

import random
from collections.abc import Callable, Sequence

import pytest

from tests.doubles import scripted_payments as acts
from tests.figures import tell
from tests.reservation.crashing import Crash, Part, cancelling, leaving, listening, paying, play, taking_back
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import Bench, Story
from tests.scenarios import fired

Path = Callable[[Bench, Story], Sequence[Part]]

# path, its end (booking, saga), and whether the guest pays while it recovers
PATHS: dict[str, tuple[Path, str, str, bool]] = {
    "paying": (paying, "confirmed", "completed", True),
    "leaving": (leaving, "failed", "compensated", False),
    "taking_back": (taking_back, "failed", "compensated", False),
    "cancelling": (cancelling, "cancelled", "compensated", False),
}
PAIRS = 12
SEED = 20_261_123


async def begin(bench: Bench, path: str) -> tuple[Story, Sequence[Part]]:
    bench.reset()
    if path == "taking_back":
        bench.payments.always("capture", acts.DECLINED)
    story = await bench.story()
    if path == "cancelling":
        await bench.convert(story)
        await bench.run_to_rest(story)
    return story, PATHS[path][0](bench, story)


async def leases_run_out(bench: Bench) -> None:
    await bench.sql("UPDATE sagas SET lease_until = NULL WHERE due_at IS NOT NULL")


async def recover(bench: Bench, story: Story, parts: Sequence[Part], path: str) -> None:
    """Another process, the same calls again, until there is nothing left to do; check that it all adds up."""
    _, booking, saga, pays = PATHS[path]
    await leases_run_out(bench)
    await play(bench, parts, bench.another_engine())
    await bench.run_to_rest(story, pays=pays)
    await assert_whole(bench, story, booking, saga=saga)
    if path in {"taking_back", "cancelling"}:
        entry = bench.entry(story)
        assert entry.refunded == entry.captured


async def points_of(bench: Bench, path: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Walk a path once without a crash and return the crash points on it."""
    story, parts = await begin(bench, path)
    with listening(monkeypatch) as points:
        assert await play(bench, parts, bench.another_engine())
    await recover(bench, story, parts, path)
    return points


# The confirming transaction is the last of those that write a saga's progress; each of them is killed.
_SCENARIOS = {
    "C04": "start_saga.after_commit",
    "C05": "create_payment_intent.after",
    "C08": "capture_payment.",
    "C09": "saga_progress.before_commit",
    "C10": "cancel_payment_intent.after",
    "C15": "refund_payment.after",
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_crash_anywhere_is_survived(bench: Bench, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """C04, C05, C08, C09, C10, C15, peers B5.73: every crash point of every path, once: the next process ends the booking right."""
    points = await points_of(bench, path, monkeypatch)
    assert len(points) >= 10, points
    for point in points:
        story, parts = await begin(bench, path)
        crash = Crash(point)
        with crash.planned():
            assert not await play(bench, parts, bench.another_engine(), crash), f"{point} was not reached"
        await recover(bench, story, parts, path)
    tell(f"saga crashes path={path} points={len(points)} recovered={len(points)} violations=0")
    for scenario, place in _SCENARIOS.items():
        if times := sum(point.startswith(place) for point in points):
            fired(scenario, times)


@pytest.mark.parametrize("path", ["paying", "leaving"])
async def test_a_crash_while_recovering_is_survived(bench: Bench, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """C11: a sample of pairs; the process that recovers dies too, the third one ends the booking right."""
    points = await points_of(bench, path, monkeypatch)
    dice, twice = random.Random(SEED), 0
    for _ in range(PAIRS):
        first, second = dice.choice(points), dice.choice(points)
        story, parts = await begin(bench, path)
        crash = Crash(first)
        with crash.planned():
            await play(bench, parts, bench.another_engine(), crash)
        again = Crash(second)
        with again.planned():
            await leases_run_out(bench)
            await play(bench, parts, bench.another_engine(), again)
        twice += crash.fired and again.fired
        await recover(bench, story, parts, path)
    assert twice >= PAIRS // 3, twice
    tell(f"saga crash pairs path={path} seed={SEED} tried={PAIRS} both_fired={twice} violations=0")
    fired("C11", twice)


@pytest.mark.parametrize("act", [acts.DIES_BEFORE, acts.DIES_AFTER], ids=lambda act: act.name)
@pytest.mark.parametrize("operation", ["create", "get", "capture"])
async def test_every_step_forward_may_run_twice(bench: Bench, operation: str, act: acts.Act) -> None:
    """C05, C08, S22: the caller dies before or after the effect of a step; the step runs again and has one effect."""
    story = await bench.story()
    bench.payments.script(operation, act)
    asked = bench.payments.counted()[operation]
    await bench.convert(story)
    await bench.turn()
    await bench.turn()  # the first look of all is a turn after the create
    await bench.run_to_rest(story)
    assert bench.payments.counted()[operation] >= asked + 2
    await assert_whole(bench, story, "confirmed", saga="completed")


@pytest.mark.parametrize("act", [acts.DIES_BEFORE, acts.DIES_AFTER], ids=lambda act: act.name)
@pytest.mark.parametrize("operation", ["cancel", "refund"])
async def test_every_step_back_may_run_twice(bench: Bench, operation: str, act: acts.Act) -> None:
    """C10, C15: the caller dies before or after an undo; it runs again, and seats and money are back exactly once."""
    path = "leaving" if operation == "cancel" else "taking_back"
    story, parts = await begin(bench, path)
    bench.payments.script(operation, act)
    await play(bench, parts, bench.another_engine())
    await recover(bench, story, parts, path)
    assert (operation, act.name) in bench.payments.calls
