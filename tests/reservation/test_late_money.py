"""Money that comes when its booking is over: it wins the seats back, or goes back itself, once, and the guest is told."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from reservation_service.booking.admission import Decision, SlotSweeps, admit, take_alone
from reservation_service.booking.reservations import payment_id
from reservation_service.metrics import Metrics
from reservation_service.store import slots
from shared.identifiers import new_id
from shared.payment_contract import PaymentEvent, PaymentStatus
from tests.doubles import scripted_payments as acts
from tests.figures import tell
from tests.reservation.crashing import Crash, Part, listening, play
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import ANNA, CAPACITY, SEATS, TOTAL_MINOR, Bench, Story, plain_price
from tests.scenarios import fired

CAPTURED = {"status": PaymentStatus.CAPTURED, "captured": TOTAL_MINOR, "captures": 1}


async def given_up(bench: Bench, **more: Any) -> Story:
    """Return a booking whose payment could not be cancelled for so long that its seats went back; all is well again."""
    story = await bench.story(**more)
    await bench.convert(story)
    for operation in ("cancel", "get"):
        bench.payments.always(operation, acts.TIMEOUT)
    await bench.pass_grace(story)
    await bench.turn()
    await bench.turn()
    bench.payments.heal()
    booking, saga = await bench.booking(story), await bench.the_saga(story)
    assert (booking["status"], booking["failure_reason"], saga["status"]) == ("failed", "deadline", "unwinding")
    assert await bench.taken(story) == 0
    return story


async def ended(bench: Bench, **more: Any) -> Story:
    """Return a booking that has failed, and whose payment was seen cancelled."""
    story = await bench.story(**more)
    await bench.convert(story)
    await bench.pass_deadline(story)
    await bench.run_to_rest(story, pays=False)
    assert (await bench.the_saga(story))["status"] == "compensated"
    return story


async def told(bench: Bench, event: PaymentEvent) -> bool:
    news = await bench.engine.signal(event)
    await bench.engine.drain(10)
    return news


async def pays_late(bench: Bench, story: Story, **values: Any) -> None:
    """Let the card be authorised, or what `values` say, and let it be told."""
    assert await told(bench, bench.payments.change(story.payment_id, **{"status": PaymentStatus.AUTHORIZED, **values}))
    await bench.run_to_rest(story, pays=False)


async def assert_rebooked(bench: Bench, story: Story) -> None:
    booking = await bench.booking(story)
    assert booking["notices"] == ["rebooked"], booking["notices"]
    assert (booking["failure_reason"], booking["seats_pinned"]) == (None, True)
    await assert_whole(bench, story, "confirmed", saga="completed")


async def assert_returned(bench: Bench, story: Story, notice: str, *, status: str = "failed") -> None:
    assert (await bench.booking(story))["notices"] == [notice]
    await assert_whole(bench, story, status, saga="compensated")


def as_held(story: Story, seats: int, **more: Any) -> slots.NewHold:
    """Return what somebody wants to hold on the slot of a story; the price is nobody's concern here."""
    hold_id = more.pop("hold_id", new_id())
    wanted = {
        "hold_id": hold_id,
        "caller": "bert",
        "key": str(hold_id),
        "fingerprint": b"f",
        "time_slot_id": story.slot_id,
        "seats": seats,
        "ttl_s": 600,
        "items": [],
        "price": plain_price(0),
        "total_minor": 0,
        "currency": "EUR",
        "capture_method": "manual",
        "client_reference": None,
        "metadata": None,
        "active_holds_max": 10_000,
    }
    return slots.NewHold(**{**wanted, **more})


async def others(bench: Bench, story: Story, seats: int, **more: Any) -> slots.NewHold:
    """Let somebody hold seats of the same slot."""
    hold = as_held(story, seats, **more)
    async with bench.database.transaction("test") as tx:
        row = await slots.take_seats(tx, hold)
    assert row["expires_at"] is not None, dict(row)
    return hold


# the seats are free


@pytest.mark.parametrize("how", ["told", "asked"])
async def test_late_money_books_the_seats_again(bench: Bench, how: str) -> None:
    """T04, S13: paid after the seats went back, and they are free: pending again, captured once, confirmed (peers B4: 63).

    By a message, or by the look before every try to cancel. The saga that gave up ends; a second one confirms.
    """
    story = await given_up(bench)
    if how == "told":
        await pays_late(bench, story)
    else:
        bench.payments.pay(story.payment_id)
        await bench.turn()
        await bench.run_to_rest(story, pays=False)
    await assert_rebooked(bench, story)
    sagas = await bench.sql(
        "SELECT status, begun_by FROM sagas WHERE reservation_id = :id ORDER BY id", id=story.hold_id
    )
    assert [tuple(saga.values()) for saga in sagas] == [("compensated", "convert"), ("completed", "late_money")]
    moves = await bench.sql(
        "SELECT to_status FROM reservation_events WHERE reservation_id = :id ORDER BY id", id=story.hold_id
    )
    assert [move["to_status"] for move in moves] == ["pending", "failed", "pending", "confirmed"]


async def test_late_money_that_was_captured_by_itself_books_the_seats_again(bench: Bench) -> None:
    """T04, S13: automatic capture; the cancel answers TOO_LATE after the seats went back: booked again, charged once."""
    story = await given_up(bench, capture_method="automatic")

    async def pays(operation: str) -> None:
        if operation == "cancel":  # after the look, and before the cancel
            bench.payments.before = None
            bench.payments.change(story.payment_id, **CAPTURED)

    bench.payments.before = pays
    await bench.turn()
    assert bench.payments.before is None
    await bench.run_to_rest(story, pays=False)
    await assert_rebooked(bench, story)


async def test_money_after_the_very_end_books_the_seats_again(bench: Bench) -> None:
    """T04: nothing was going on any more when the money was told: a saga begins for it."""
    story = await ended(bench)
    await pays_late(bench, story)
    await assert_rebooked(bench, story)


async def test_lapsed_holds_make_way_for_late_money(bench: Bench) -> None:
    """T04: the slot looks full, but of holds whose time is over."""
    story = await given_up(bench)
    hold = await others(bench, story, CAPACITY)
    await bench.sql("UPDATE reservations SET expires_at = clock_timestamp() WHERE id = :id", id=hold.hold_id)
    await pays_late(bench, story)
    await assert_rebooked(bench, story)


async def test_money_that_was_processing_for_days_books_the_seats_again(bench: Bench) -> None:
    """S14: Stripe cancels nothing that is `processing`; the seats went back, the saga gave up, and then the money came.

    Its case needs no person any more.
    """
    story = await bench.story()
    await bench.convert(story)
    await told(bench, bench.payments.change(story.payment_id, status=PaymentStatus.PROCESSING))
    bench.payments.always("cancel", acts.NOT_SENT)
    await bench.pass_grace(story)
    await bench.run_to_rest(story, pays=False)
    assert (await bench.the_saga(story))["status"] == "needs_attention"
    assert (await bench.booking(story))["status"] == "failed"
    await pays_late(bench, story)
    await assert_rebooked(bench, story)
    (left,) = await bench.sql(
        "SELECT count(*) FROM sagas WHERE status = 'needs_attention' AND reservation_id = :id", id=story.hold_id
    )
    assert left["count"] == 0


async def test_the_same_late_message_many_times_begins_one_saga(bench: Bench) -> None:
    """W01, T04: told five times at once, by five processes."""
    story = await ended(bench)
    event = bench.payments.pay(story.payment_id)
    engines = [bench.another_engine() for _ in range(5)]
    heard = await asyncio.gather(*(engine.signal(event) for engine in engines))
    for engine in engines:
        await engine.drain(10)
    await bench.run_to_rest(story, pays=False)
    assert sorted(heard) == [False] * 4 + [True]
    sagas = await bench.sql("SELECT id FROM sagas WHERE reservation_id = :id", id=story.hold_id)
    assert len(sagas) == 2
    await assert_rebooked(bench, story)


async def test_an_authorisation_that_ends_before_the_late_capture(bench: Bench) -> None:
    """S15: booked again, but Stripe has let the authorisation go before it is captured: failed, and the seats are back."""
    story = await ended(bench)

    async def ends(operation: str) -> None:
        if operation == "capture":
            bench.payments.before = None
            bench.payments.change(story.payment_id, status=PaymentStatus.CANCELED)

    bench.payments.before = ends
    await pays_late(bench, story)
    assert bench.payments.before is None
    fired("S15", 1)
    booking = await bench.booking(story)
    assert booking["failure_reason"] == "refused"
    await assert_returned(bench, story, "refunded_late")


# something stands against it


async def resold(bench: Bench, story: Story) -> None:
    await others(bench, story, CAPACITY - SEATS + 1)


async def policy(bench: Bench, story: Story) -> None:
    await bench.sql(
        "UPDATE experiences SET late_payment_policy = 'refund' FROM time_slots AS s"
        " WHERE s.experience_id = experiences.id AND s.id = :id",
        id=story.slot_id,
    )


async def closed(bench: Bench, story: Story) -> None:
    await bench.sql("UPDATE time_slots SET status = 'closed' WHERE id = :id", id=story.slot_id)


async def past_cutoff(bench: Bench, story: Story) -> None:
    await bench.sql("UPDATE time_slots SET sells_until = clock_timestamp() WHERE id = :id", id=story.slot_id)


async def superseded(bench: Bench, story: Story) -> None:
    """The same key made a new hold, which has lapsed since."""
    key = str(story.hold_id)
    hold = await others(bench, story, SEATS, caller=ANNA.subject, key=key, supersedes=story.hold_id)
    await bench.sql("UPDATE reservations SET expires_at = clock_timestamp() WHERE id = :id", id=hold.hold_id)


async def another(bench: Bench, story: Story) -> None:
    await others(bench, story, 1, caller=ANNA.subject)


AGAINST = {
    resold: "refunded_resold",
    policy: "refunded_late",
    closed: "refunded_closed",
    past_cutoff: "refunded_closed",
    superseded: "refunded_newer_booking",
    another: "refunded_newer_booking",
}


@pytest.mark.parametrize(
    ("happens", "captured"),
    [*((happens, False) for happens in AGAINST), (resold, True), (closed, True)],
    ids=lambda value: getattr(value, "__name__", "captured" if value is True else "authorised"),
)
async def test_late_money_goes_back(
    bench: Bench, happens: Callable[[Bench, Story], Awaitable[None]], captured: bool
) -> None:
    """T03, S13: resold, or something else stands against it: never taken, or refunded in full, once, and the guest is told.

    Peers B4: 55, 61, 62, 63.
    """
    story = await given_up(bench)
    await happens(bench, story)
    taken = await bench.taken(story)
    before = bench.payments.counted()["refund"]
    await pays_late(bench, story, **(CAPTURED if captured else {}))
    assert await bench.taken(story) == taken, "nobody else's seats were touched"
    assert bench.payments.counted()["refund"] - before == int(captured)
    entry, booking = bench.entry(story), await bench.booking(story)
    assert (entry.status, entry.captured, entry.refunded) == (
        ("refunded", TOTAL_MINOR, TOTAL_MINOR) if captured else ("canceled", 0, 0)
    )
    assert (booking["status"], booking["notices"]) == ("failed", [AGAINST[happens]])
    assert (await bench.the_saga(story))["status"] == "compensated"
    await bench.assert_consistent()


@pytest.mark.parametrize("captured", [False, True], ids=["authorised", "captured"])
async def test_money_for_a_cancelled_booking_goes_back(bench: Bench, captured: bool) -> None:
    """W19: called off by an operator, seen cancelled, and paid all the same: the money goes back, the seats stay free."""
    story = await bench.story()
    await bench.convert(story)
    await bench.sql("UPDATE reservations SET cancel_requested_at = clock_timestamp() WHERE id = :id", id=story.hold_id)
    await bench.run_to_rest(story, pays=False)
    assert (await bench.booking(story))["status"] == "cancelled"
    await pays_late(bench, story, **(CAPTURED if captured else {}))
    await assert_returned(bench, story, "refunded_cancelled", status="cancelled")


async def test_money_for_a_booking_that_an_operator_ended_goes_back(bench: Bench) -> None:
    """W19: not the deadline ended it, but a person's word: nothing is booked again against it."""
    story = await ended(bench)
    await bench.sql("UPDATE reservations SET failure_reason = 'operator' WHERE id = :id", id=story.hold_id)
    await pays_late(bench, story)
    await assert_returned(bench, story, "refunded_late")


async def test_a_part_of_the_money_buys_no_seats(bench: Bench) -> None:
    """T03: some of it was refunded by hand already: the rest goes back, no more than that."""
    story = await ended(bench)
    some = {"captured": TOTAL_MINOR, "captures": 1, "refunded": 1000}
    await pays_late(bench, story, status=PaymentStatus.PARTIALLY_REFUNDED, **some)
    assert bench.entry(story).refunded == TOTAL_MINOR
    await assert_returned(bench, story, "refunded_late")


async def test_disputed_money_is_with_the_bank(bench: Bench) -> None:
    """S28: a dispute of late money begins nothing: who refunds it too pays twice."""
    story = await ended(bench)
    before = len(bench.payments.calls)
    await told(bench, bench.payments.change(story.payment_id, **CAPTURED | {"status": PaymentStatus.DISPUTED}))
    assert len(bench.payments.calls) == before
    assert (await bench.booking(story))["payment"]["status"] == "disputed"
    assert (await bench.the_saga(story))["status"] == "compensated"


async def test_a_cancelled_booking_that_was_final_keeps_what_its_policy_kept(bench: Bench) -> None:
    """W19: news of a part refund of a booking that was confirmed once is not late money."""
    story = await bench.story()
    await bench.convert(story)
    await bench.pay(story)
    await bench.sql(
        "WITH slot AS (UPDATE time_slots SET taken = 0 WHERE id = :slot), event AS ("
        " INSERT INTO reservation_events (reservation_id, from_status, to_status, reason)"
        " VALUES (:id, 'confirmed', 'cancelled', 'asked'))"
        " UPDATE reservations SET status = 'cancelled', seats_pinned = false WHERE id = :id",
        id=story.hold_id,
        slot=story.slot_id,
    )
    before = len(bench.payments.calls)
    part = bench.payments.change(story.payment_id, status=PaymentStatus.PARTIALLY_REFUNDED, refunded=1000)
    assert await told(bench, part)
    assert len(bench.payments.calls) == before
    assert (await bench.the_saga(story))["begun_by"] == "convert"


# an older payment


@pytest.mark.parametrize("captured", [False, True], ids=["authorised", "captured"])
async def test_money_on_an_older_payment_goes_back_beside_the_booking(bench: Bench, captured: bool) -> None:
    """S13, S30: money on the first payment while the second is waited for: it goes back, and the booking never notices."""
    story = await bench.story()
    await bench.convert(story)
    await told(bench, bench.payments.change(story.payment_id, status=PaymentStatus.CANCELED))
    booking = await bench.convert(story)
    assert booking["generation"] == 2
    newer = payment_id(booking)
    before = await bench.journal(story)
    first = await bench.the_saga(story)
    event = bench.payments.change(story.payment_id, **(CAPTURED if captured else {"status": PaymentStatus.AUTHORIZED}))
    assert await told(bench, event)
    assert not await told(bench, event)
    await bench.turn()
    old = next(entry for entry in bench.payments.of(story.hold_id) if entry.id == story.payment_id)
    assert (old.status, old.refunded) == (("refunded", TOTAL_MINOR) if captured else ("canceled", 0))
    late = await bench.the_saga(story)
    assert (late["begun_by"], late["generation"], late["status"]) == ("late_money", 1, "compensated")
    lines = await bench.sql(
        "SELECT step, direction, event FROM saga_log WHERE saga_id = :id ORDER BY id", id=first["id"]
    )
    assert [tuple(line.values()) for line in lines] == before
    booking = await bench.booking(story)
    assert (booking["status"], booking["seats_pinned"], booking["notices"]) == (
        "pending",
        True,
        ["refunded_older_payment"],
    )
    await told(bench, bench.payments.pay(newer))
    assert (await bench.booking(story))["status"] == "confirmed"
    assert [entry.captured - entry.refunded for entry in bench.payments.of(story.hold_id)] == [0, TOTAL_MINOR]
    await bench.assert_consistent()


# renewal and rebooking


async def test_renewal_and_rebooking_exclude_each_other(bench: Bench) -> None:
    """T03, T04, I21: the guest's key makes a new hold in the moment the money arrives: one of both has the seats.

    Whoever locks the old row first: a renewed hold and the money back, or the booking and its key replayed.
    """
    rounds, rebooked = 16, 0
    sweeps = SlotSweeps(bench.database, Metrics(CollectorRegistry()))
    dice = random.Random(20_261_125)
    for _ in range(rounds):
        story = await ended(bench)
        again = as_held(story, SEATS, caller=ANNA.subject, key=str(story.hold_id))
        event = bench.payments.pay(story.payment_id)
        head_start_s = dice.uniform(-0.01, 0.01)

        async def renews(again: slots.NewHold = again, wait_s: float = head_start_s) -> Any:
            await asyncio.sleep(max(0.0, wait_s))
            return await admit(bench.database, again, partial(take_alone, bench.database), sweeps, renew=True)

        async def arrives(event: PaymentEvent = event, wait_s: float = -head_start_s) -> None:
            await asyncio.sleep(max(0.0, wait_s))
            await bench.engine.signal(event)

        admission, _ = await asyncio.gather(renews(), arrives())
        await bench.engine.drain(10)
        await bench.run_to_rest(story, pays=False)
        booking = await bench.booking(story)
        assert await bench.taken(story) == SEATS
        if admission.decision is Decision.REPLAYED:
            rebooked += 1
            assert (booking["status"], booking["notices"]) == ("confirmed", ["rebooked"])
        else:
            assert admission.supersedes == story.hold_id
            assert (booking["status"], booking["notices"]) == ("failed", ["refunded_newer_booking"])
            assert bench.entry(story).status == "canceled"
    await bench.assert_consistent()
    tell(f"renewal against late money rounds={rounds} rebooked={rebooked} renewed={rounds - rebooked} violations=0")
    assert 0 < rebooked < rounds


# crashes


def being_late(bench: Bench, story: Story) -> tuple[Part, ...]:
    """The money is told until somebody listens, and what falls due is looked at."""

    async def tells(engine: Any) -> None:
        await engine.signal(bench.payments.event(story.payment_id))

    return (tells, bench.turn)


@pytest.mark.parametrize("path", ["rebooked", "refunded"])
async def test_a_crash_anywhere_around_late_money_is_survived(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """T03, T04, C08, C10, C15: the process dies at every crash point of late money; the next one ends it right."""

    async def begin() -> tuple[Story, tuple[Part, ...]]:
        story = await ended(bench)
        values: dict[str, Any] = {"status": PaymentStatus.AUTHORIZED}
        if path == "refunded":
            await policy(bench, story)
            values = CAPTURED
        bench.payments.change(story.payment_id, **values)
        return story, being_late(bench, story)

    async def recover(story: Story, parts: tuple[Part, ...]) -> None:
        await play(bench, parts, bench.another_engine())
        await bench.run_to_rest(story, pays=False)
        if path == "refunded":
            assert bench.entry(story).refunded == TOTAL_MINOR
            await assert_returned(bench, story, "refunded_late")
        else:
            await assert_rebooked(bench, story)

    story, parts = await begin()
    with listening(monkeypatch) as points:
        assert await play(bench, parts, bench.another_engine())
    await recover(story, parts)
    assert len(points) >= 8, points
    for point in points:
        story, parts = await begin()
        crash = Crash(point)
        with crash.planned():
            assert not await play(bench, parts, bench.another_engine(), crash), f"{point} was not reached"
        await recover(story, parts)
    tell(f"late money crashes path={path} points={len(points)} recovered={len(points)} violations=0")
    fired("C08" if path == "rebooked" else "C15", len(points))
