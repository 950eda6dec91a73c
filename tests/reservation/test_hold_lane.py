"""The lane's one statement is planned while nobody has booked yet, and still costs the same when thousands have."""

from uuid import uuid4

from reservation_service.store.hold_lane import HoldLane
from tests.figures import tell
from tests.reservation.late_guests import as_held
from tests.reservation.saga_bench import Bench, Story

_GROUP = 50
_HOLDS = 2500
_ROWS_READ_MAX = 100.0  # of one hold; to read all would be thousands


async def take(bench: Bench, lane: HoldLane, story: Story, holds: int) -> float:
    """Take so many holds, each of somebody else; return how many rows of reservations were read for each."""
    before = await rows_read(bench, lane)
    for _ in range(holds // _GROUP):
        group = [as_held(story, 1, caller=str(uuid4())) for _ in range(_GROUP)]
        rows = await lane.take(group, timeout_s=10)
        assert all(row["expires_at"] for row in rows)
    return (await rows_read(bench, lane) - before) / holds


async def rows_read(bench: Bench, lane: HoldLane) -> int:
    """Return how many rows of reservations were ever read; whoever has read some is asked to tell now."""
    await (await lane._raw()).execute("SELECT pg_stat_force_next_flush()")
    (row,) = await bench.sql(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) AS rows FROM pg_stat_user_tables WHERE relname = 'reservations'"
    )
    return int(row["rows"])


async def test_a_plan_for_an_empty_table_is_not_kept(bench: Bench) -> None:
    """On the first day of a sale nobody has counted the rows for a minute, and in a minute there are forty thousand."""
    story = await bench.story()
    await bench.sql("UPDATE time_slots SET capacity = 1000000 WHERE id = :id", id=story.slot_id)
    await bench.sql("ANALYZE reservations, idempotency, time_slots")
    lane = HoldLane(bench.database)
    try:
        await lane.take([as_held(story, 1)], timeout_s=10)
        await take(bench, lane, story, _HOLDS)
        read = await take(bench, lane, story, _GROUP * 2)
    finally:
        await lane.close()
    tell(f"a hold reads {read:.1f} rows of reservations among {_HOLDS}")
    assert read < _ROWS_READ_MAX
