"""The table of statuses is that of the public contract, and no other move is possible, by code or by hand."""

from uuid import uuid4

import pytest
from sqlalchemy import text

from reservation_service.states import (
    CONVERTED,
    LEGAL_MOVES,
    LEGAL_SAGA_MOVES,
    LIVE_SAGA,
    OWNERS,
    PINNED,
    BookingStatus,
    SagaStatus,
)
from reservation_service.store import reservations
from reservation_service.store.reservations import IllegalMove
from shared.database import Conflict
from tests.figures import tell
from tests.reservation.saga_bench import SEATS, Bench, Story

# Written out once more on purpose: this is the contract, `states` is our reading of it.
MOVES = {
    "held": {"pending", "expired", "released"},
    "expired": set(),
    "released": set(),
    "pending": {"confirmed", "cancelled", "failed", "needs_attention"},
    "confirmed": {"cancelled"},
    "failed": {"pending"},
    "cancelled": set(),
    "needs_attention": {"pending", "confirmed", "cancelled", "failed"},
}
SAGA_MOVES = {
    "running": {"waiting", "unwinding", "completed", "needs_attention"},
    "waiting": {"running", "unwinding"},
    "unwinding": {"compensated", "running", "needs_attention"},
    "completed": {"unwinding"},
    "compensated": {"unwinding", "needs_attention"},
    "needs_attention": {"running", "unwinding", "completed", "compensated"},
}
PAIRS = [(source, target) for source in BookingStatus for target in BookingStatus]
ILLEGAL = [(source, target) for source, target in PAIRS if target not in MOVES[source]]
# A rebook (failed -> pending) has to take its seats anew, which no move does.
LEGAL = [(source, target) for source, target in PAIRS if target in MOVES[source] and source is not BookingStatus.FAILED]


def test_the_moves_of_a_booking_are_those_of_the_contract() -> None:
    """I22: statuses and legal edges, enumerated against the table of the API."""
    tell(f"booking states: pairs={len(PAIRS)} legal={len(PAIRS) - len(ILLEGAL)} illegal={len(ILLEGAL)}")
    assert {status: set(targets) for status, targets in LEGAL_MOVES.items()} == MOVES
    assert set(BookingStatus) == MOVES.keys() == OWNERS.keys()


def test_the_moves_of_a_saga_are_those_of_the_contract() -> None:
    """I22: the same for sagas; exactly the live ones have a move to make by themselves."""
    assert {status: set(targets) for status, targets in LEGAL_SAGA_MOVES.items()} == SAGA_MOVES
    assert set(LIVE_SAGA) == {"running", "waiting", "unwinding"}


def test_what_pins_seats_and_what_is_a_reservation() -> None:
    """Seats are pinned exactly while somebody may still end up with them; a reservation begins with convert."""
    assert set(PINNED) == {"held", "pending", "confirmed"}
    assert set(CONVERTED) == {"pending", "confirmed", "failed", "cancelled", "needs_attention"}


async def in_status(bench: Bench, status: BookingStatus) -> Story:
    """Return a booking that is put into a status by hand, its seats counted as that status owns them."""
    story = await bench.story()
    pinned = status in PINNED or status is BookingStatus.NEEDS_ATTENTION
    await bench.sql(
        "UPDATE reservations SET status = :status, seats_pinned = :pinned WHERE id = :id",
        status=str(status),
        pinned=pinned,
        id=story.hold_id,
    )
    if not pinned:
        await bench.sql("UPDATE time_slots SET taken = 0 WHERE id = :id", id=story.slot_id)
    return story


async def forget(bench: Bench, story: Story) -> None:
    """Remove a booking that was made by hand, so that the audit judges only what the code did."""
    await bench.forge(
        "DELETE FROM reservation_events WHERE reservation_id = :id",
        "DELETE FROM idempotency WHERE hold_id = :id",
        "DELETE FROM reservations WHERE id = :id",
        id=story.hold_id,
    )
    await bench.sql("UPDATE time_slots SET taken = 0 WHERE id = :id", id=story.slot_id)
    await bench.sql("DELETE FROM observed_moves WHERE row_id = :id", id=story.hold_id)


async def move(bench: Bench, story: Story, target: BookingStatus) -> None:
    async with bench.database.transaction("test") as tx:
        row = await reservations.lock_booking(tx, story.hold_id)
        assert row is not None
        await reservations.move(tx, row, target, reason="because")


@pytest.mark.parametrize(("source", "target"), LEGAL)
async def test_a_legal_move_counts_its_seats_and_is_written_down(
    bench: Bench, source: BookingStatus, target: BookingStatus
) -> None:
    """I2, I22: seats go back exactly when a move lets go of them; each move leaves one event and a new version."""
    story = await in_status(bench, source)
    before = await bench.booking(story)
    await move(bench, story, target)
    async with bench.database.reading() as connection:
        events = await reservations.events(connection, story.hold_id)
    after = await bench.booking(story)
    assert (after["status"], after["version"]) == (target, before["version"] + 1)
    assert await bench.taken(story) == (SEATS if after["seats_pinned"] else 0)
    assert [(event["from_status"], event["to_status"], event["reason"]) for event in events] == [
        (source, target, "because")
    ]
    await forget(bench, story)


@pytest.mark.parametrize("source", BookingStatus)
async def test_every_illegal_move_is_refused_and_changes_nothing(bench: Bench, source: BookingStatus) -> None:
    """I22: an edge that does not exist raises, and leaves the row, its seats and its events as they were."""
    story = await in_status(bench, source)
    before = dict(await bench.booking(story)) | {"seconds_left": 0}
    for target in (target for of, target in ILLEGAL if of is source):
        with pytest.raises(IllegalMove):
            await move(bench, story, target)
    assert dict(await bench.booking(story)) | {"seconds_left": 0} == before
    assert not await bench.sql("SELECT * FROM reservation_events WHERE reservation_id = :id", id=story.hold_id)
    await forget(bench, story)


@pytest.mark.parametrize("status", [status for status in BookingStatus if status is not BookingStatus.NEEDS_ATTENTION])
async def test_the_database_itself_refuses_wrong_pins(bench: Bench, status: BookingStatus) -> None:
    """I2: whatever code says, a row cannot pin seats in a status that does not own them, or the other way round."""
    story = await bench.story()
    with pytest.raises(Exception, match="reservations_seats_pinned"):
        await bench.sql(
            "UPDATE reservations SET status = :status, seats_pinned = :pinned WHERE id = :id",
            status=str(status),
            pinned=status not in PINNED,
            id=story.hold_id,
        )


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE time_slots SET taken = capacity + 1 WHERE id = :slot", "time_slots_never_oversold"),
        ("UPDATE time_slots SET taken = -1 WHERE id = :slot", "time_slots_never_oversold"),
        ("UPDATE time_slots SET capacity = 1 WHERE id = :slot", "time_slots_never_oversold"),
        ("UPDATE reservations SET status = 'won', seats_pinned = false WHERE id = :hold", "reservations_status"),
        ("UPDATE reservations SET seats = 0 WHERE id = :hold", "reservations_amounts"),
        ("DELETE FROM time_slots WHERE id = :slot", "reservations_time_slot_id_fkey"),
    ],
)
async def test_the_database_itself_refuses_the_impossible(bench: Bench, statement: str, constraint: str) -> None:
    """I1, K06, K07: overselling, negative seats, unknown statuses and slots with holds that vanish are impossible."""
    story = await bench.story()
    with pytest.raises(Exception, match=constraint):
        async with bench.database.transaction("test") as tx:
            await tx.execute(
                text(statement.replace(":slot", f"'{story.slot_id}'").replace(":hold", f"'{story.hold_id}'"))
            )


async def test_one_live_saga_for_each_booking(bench: Bench) -> None:
    """I4: a second live saga of the same booking cannot be written."""
    story = await bench.story()
    await bench.convert(story)
    with pytest.raises(Conflict):
        await bench.sql(
            "INSERT INTO sagas (id, reservation_id, status, generation, flags, due_at)"
            " VALUES (:id, :booking, 'running', 1, '{}', now())",
            id=uuid4(),
            booking=story.hold_id,
        )


def test_a_conversion_away_from_the_tables_is_a_saga_status() -> None:
    """Every status a saga can rest in is either live or final, never both and never neither."""
    final = {status for status in SagaStatus if status not in LIVE_SAGA}
    assert final == {"completed", "compensated", "needs_attention"}
