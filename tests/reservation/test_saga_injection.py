"""Every node of the page meets every fault; whatever happens, the booking ends whole or says what a person must do."""

import pytest

from shared.payment_contract import PaymentStatus
from tests.doubles import scripted_payments as acts
from tests.doubles.scripted_payments import PASSING_TROUBLE, Act
from tests.figures import tell
from tests.reservation.residue import Tally, assert_whole
from tests.reservation.saga_bench import SEATS, TOTAL_MINOR, Bench, Story
from tests.scenarios import fired

NEVER_LEFT = (acts.NOT_SENT, acts.NO_CONNECTION, acts.SHUT_OUT)
MAY_HAVE_HAPPENED = tuple(act for act in PASSING_TROUBLE if act not in NEVER_LEFT)
NOT_OURS = (acts.WRONG_AMOUNT, acts.WRONG_CURRENCY, acts.WRONG_BOOKING, acts.CONTRADICTION)

# How often in a row a fault strikes before the same call works; fewer than `saga_attempts_max`.
TIMES = 2

STEP = {"create": "create_payment_intent", "get": "payment_authorized", "capture": "capture_payment"}
UNDO = {"cancel": "cancel_payment_intent", "refund": "refund_payment"}


def name_of(value: object) -> str:
    return value.name if isinstance(value, Act) else str(value)


@pytest.fixture(scope="module")
def totals() -> Tally:
    """What all tests of this module have injected."""
    return Tally()


@pytest.fixture
async def tally(totals: Tally, bench: Bench, request: pytest.FixtureRequest) -> Tally:
    """Count the test as an injection; one whose checks fail is residue."""
    totals.injections += 1
    totals.residue.append(request.node.name)
    return totals


# What it is called when the other side did it and the answer was lost.
_ANSWER_LOST = {"create": "S01", "capture": "S02"}


def left_nothing(tally: Tally) -> None:
    tally.residue.pop()


def met(bench: Bench, operation: str, act: Act) -> int:
    """Return how often this fault was really met."""
    return bench.payments.calls.count((operation, act.name))


async def unwinding(bench: Bench) -> Story:
    """Return a booking whose guest never paid and whose time is up; the next turn takes it back."""
    story = await bench.story()
    await bench.convert(story)
    await bench.pass_deadline(story)
    return story


async def charged_and_refused(bench: Bench) -> Story:
    """Return a booking whose capture took the money, was not heard of, and is then refused: the money must go back."""
    story = await bench.story()
    await bench.convert(story)
    bench.payments.script("capture", acts.UNKNOWN_APPLIED, acts.DECLINED)
    await bench.pay(story)
    return story


@pytest.mark.parametrize("act", PASSING_TROUBLE, ids=name_of)
@pytest.mark.parametrize("operation", STEP)
async def test_trouble_on_the_way_forward_passes(bench: Bench, tally: Tally, operation: str, act: Act) -> None:
    """S01, S02, S05, S07, S22, X17: a step fails in any way, twice, then works: confirmed, charged once."""
    story = await bench.story()
    before = met(bench, operation, act)
    bench.payments.script(operation, *[act] * TIMES)
    await bench.convert(story)
    for _ in range(TIMES if operation == "get" else 0):
        await bench.turn()
    await bench.run_to_rest(story)
    assert met(bench, operation, act) == before + TIMES
    await assert_whole(bench, story, "confirmed", saga="completed")
    left_nothing(tally)
    if act.applies and operation in _ANSWER_LOST:
        fired(_ANSWER_LOST[operation], met(bench, operation, act) - before)


@pytest.mark.parametrize("act", PASSING_TROUBLE, ids=name_of)
async def test_trouble_while_cancelling_passes(bench: Bench, tally: Tally, act: Act) -> None:
    """S04, S12, C10: time is up and the cancel fails in any way, twice, then works: nothing is left."""
    story = await unwinding(bench)
    before = met(bench, "cancel", act)
    bench.payments.script("cancel", *[act] * TIMES)
    await bench.run_to_rest(story, pays=False)
    assert met(bench, "cancel", act) == before + TIMES
    assert bench.entry(story).status is PaymentStatus.CANCELED
    await assert_whole(bench, story, "failed", saga="compensated")
    left_nothing(tally)
    if act.applies:
        fired("S04", met(bench, "cancel", act) - before)


@pytest.mark.parametrize("act", PASSING_TROUBLE, ids=name_of)
@pytest.mark.parametrize("operation", ["refund", "get"])
async def test_trouble_while_refunding_passes(bench: Bench, tally: Tally, operation: str, act: Act) -> None:
    """S03, C15: money that must go back goes back once, however often asking or refunding fails on the way."""
    story = await charged_and_refused(bench)
    before = met(bench, operation, act)
    # a refund that took effect unheard is seen by the next look, so that one is never sent twice
    times = 1 if operation == "refund" and act.applies else TIMES
    bench.payments.script(operation, *[act] * times)
    await bench.run_to_rest(story, pays=False)
    assert met(bench, operation, act) == before + times
    entry = bench.entry(story)
    assert (entry.captured, entry.refunded, entry.captures) == (TOTAL_MINOR, TOTAL_MINOR, 1)
    assert ("capture_payment", "undo", "done") in await bench.journal(story)
    await assert_whole(bench, story, "failed", saga="compensated")
    left_nothing(tally)
    if act.applies and operation == "refund":
        fired("S03", met(bench, operation, act) - before)


@pytest.mark.parametrize("act", [acts.DECLINED, acts.REFUSED], ids=name_of)
@pytest.mark.parametrize("operation", ["create", "capture"])
async def test_a_refusal_takes_everything_back(bench: Bench, tally: Tally, operation: str, act: Act) -> None:
    """S11, S15: a refused create or capture ends failed, with the seats back and no authorisation left open."""
    story = await bench.story()
    bench.payments.script(operation, act)
    await bench.convert(story)
    await bench.run_to_rest(story)
    assert (STEP[operation], "do", "refused") in await bench.journal(story)
    assert await bench.taken(story) == 0
    await assert_whole(bench, story, "failed", saga="compensated")
    left_nothing(tally)


@pytest.mark.parametrize("act", [acts.DECLINED, acts.REFUSED], ids=name_of)
@pytest.mark.parametrize("operation", UNDO)
async def test_a_refused_undo_needs_a_person(bench: Bench, tally: Tally, operation: str, act: Act) -> None:
    """S28: an undo that is refused is no end: the saga names the step and the code, and the seats stay pinned.

    A refund that was refused for good is dead under its id, and is called so: a person's retry orders another one.
    """
    bench.payments.script(operation, act)
    story = await (unwinding(bench) if operation == "cancel" else charged_and_refused(bench))
    await bench.run_to_rest(story, pays=False)
    said = {"declined": "card_declined", "refused": "VALIDATION_FAILED"}[act.name]
    told = {"code": "refund_failed", "because": said} if operation == "refund" else {"code": said}
    saga = await bench.the_saga(story)
    assert saga["reason"] == f"{UNDO[operation]}: {told['code']}"
    lines = await bench.sql(
        "SELECT detail FROM saga_log WHERE saga_id = :id AND event = 'refused' ORDER BY id", id=saga["id"]
    )
    assert lines[-1]["detail"].items() >= told.items()
    assert await bench.taken(story) == SEATS
    await assert_whole(bench, story, "needs_attention", saga="needs_attention")
    left_nothing(tally)


@pytest.mark.parametrize("act", NEVER_LEFT, ids=name_of)
async def test_a_create_that_never_left_gives_up_at_the_deadline(bench: Bench, tally: Tally, act: Act) -> None:
    """S16, S17: nothing was ever sent, so the deadline releases the seats without a word to the payment service."""
    bench.payments.always("create", act)
    story = await bench.story()
    await bench.convert(story)
    await bench.turn()
    assert (await bench.booking(story))["status"] == "pending"
    asked_before = bench.payments.counted()["cancel"]
    await bench.pass_deadline(story, by_s=0)
    await bench.run_to_rest(story)
    assert bench.payments.counted()["cancel"] == asked_before
    await assert_whole(bench, story, "failed", saga="compensated")
    left_nothing(tally)
    fired("S17", met(bench, "create", act))


@pytest.mark.parametrize("act", MAY_HAVE_HAPPENED, ids=name_of)
async def test_an_unknown_create_keeps_the_seats_for_the_grace(bench: Bench, tally: Tally, act: Act) -> None:
    """S01, S26: past the deadline it goes on asking, past the grace it cancels what may exist; the seats are back."""
    bench.payments.always("create", act)
    story = await bench.story()
    await bench.convert(story)
    await bench.pass_deadline(story, by_s=0)
    await bench.turn()
    assert (await bench.booking(story))["status"] == "pending"
    await bench.pass_grace(story)
    await bench.run_to_rest(story, pays=False)
    assert bench.entry(story).status is PaymentStatus.CANCELED  # the real payment, or a tombstone against a late create
    await assert_whole(bench, story, "failed", saga="compensated")
    left_nothing(tally)


@pytest.mark.parametrize("act", [*PASSING_TROUBLE, acts.DECLINED, acts.NOT_FOUND], ids=name_of)
async def test_a_payment_that_cannot_be_seen_ends_at_the_deadline(bench: Bench, tally: Tally, act: Act) -> None:
    """S12, S21: looking fails for ever; the wait ends with its deadline all the same, and everything is taken back."""
    bench.payments.always("get", act)
    story = await bench.story()
    await bench.convert(story)
    await bench.turn()
    assert (await bench.the_saga(story))["status"] == "waiting"
    await bench.pass_deadline(story)
    await bench.run_to_rest(story, pays=False)
    await assert_whole(bench, story, "failed", saga="compensated")
    left_nothing(tally)
    fired("S21", met(bench, "get", act))


@pytest.mark.parametrize("act", PASSING_TROUBLE, ids=name_of)
async def test_a_capture_that_fails_for_ever_needs_a_person(bench: Bench, tally: Tally, act: Act) -> None:
    """C20, S02: from the pivot on there is only forward; no deadline turns it back, its attempts have an end."""
    bench.payments.always("capture", act)
    story = await bench.story()
    await bench.convert(story)
    await bench.pay(story)
    await bench.pass_grace(story)
    await bench.run_to_rest(story)
    event = "not_sent" if act in NEVER_LEFT else "unknown"
    assert (await bench.the_saga(story))["reason"] == f"capture_payment: {event} 4 times"
    assert await bench.taken(story) == SEATS
    await assert_whole(bench, story, "needs_attention", saga="needs_attention")
    left_nothing(tally)


@pytest.mark.parametrize("act", PASSING_TROUBLE, ids=name_of)
async def test_a_cancel_that_fails_for_ever_gives_the_seats_back_first(bench: Bench, tally: Tally, act: Act) -> None:
    """C10, S12: past the grace the seats can be sold again while the saga stays on the payment, then asks for a person."""
    bench.payments.always("cancel", act)
    story = await unwinding(bench)
    await bench.turn()
    assert ((await bench.booking(story))["status"], await bench.taken(story)) == ("pending", SEATS)
    await bench.pass_grace(story)
    await bench.turn()
    assert ((await bench.booking(story))["status"], await bench.taken(story)) == ("failed", 0)
    assert (await bench.the_saga(story))["status"] == "unwinding"
    await bench.run_to_rest(story, pays=False)
    event = "not_sent" if act in NEVER_LEFT else "unknown"
    assert (await bench.the_saga(story))["reason"] == f"cancel_payment_intent: {event} 4 times"
    await assert_whole(bench, story, "failed", saga="needs_attention")
    left_nothing(tally)


@pytest.mark.parametrize("act", PASSING_TROUBLE, ids=name_of)
async def test_a_refund_that_fails_for_ever_needs_a_person(bench: Bench, tally: Tally, act: Act) -> None:
    """S03, S27: money that does not go back is never forgotten: after its attempts a person is told which step it was."""
    bench.payments.always("refund", act)
    story = await charged_and_refused(bench)
    await bench.run_to_rest(story, pays=False)
    event = "not_sent" if act in NEVER_LEFT else "unknown"
    if act.applies:  # the money is back in truth, and looking shows it: the saga ends by itself
        assert bench.entry(story).refunded == TOTAL_MINOR
        await assert_whole(bench, story, "failed", saga="compensated")
    else:
        assert (await bench.the_saga(story))["reason"] == f"refund_payment: {event} 4 times"
        await assert_whole(bench, story, "needs_attention", saga="needs_attention")
    left_nothing(tally)


@pytest.mark.parametrize("act", NOT_OURS, ids=name_of)
@pytest.mark.parametrize("operation", STEP)
async def test_a_payment_that_is_not_ours_is_never_confirmed(
    bench: Bench, tally: Tally, operation: str, act: Act
) -> None:
    """S23, W17: another amount, currency or booking than ours stops the saga with a reason, the seats as they are."""
    story = await bench.story()
    bench.payments.script(operation, act)
    await bench.convert(story)
    await bench.turn()  # nobody asks how a payment stands whose create has just said it
    await bench.run_to_rest(story)
    assert "amount_mismatch" in (await bench.the_saga(story))["reason"]
    assert await bench.taken(story) == SEATS
    await assert_whole(bench, story, "needs_attention", saga="needs_attention")
    left_nothing(tally)
    fired("S23", met(bench, operation, act))


async def test_less_money_than_was_owed_is_never_confirmed(bench: Bench, tally: Tally) -> None:
    """S23, I6: a capture that took another amount than the total stops the saga with a reason."""
    story = await bench.story()
    bench.payments.script("capture", acts.CAPTURED_LESS)
    await bench.convert(story)
    await bench.run_to_rest(story)
    assert (await bench.the_saga(story))["reason"] == "capture_payment: amount_mismatch"
    await assert_whole(bench, story, "needs_attention", saga="needs_attention")
    left_nothing(tally)


def test_nothing_was_left_behind(totals: Tally) -> None:
    """I1 to I23: the figures of all injections above, each of which was checked by `residue.assert_whole`."""
    tell(f"saga injections={totals.injections} residue={len(totals.residue)}")
    assert not totals.residue, totals.residue
