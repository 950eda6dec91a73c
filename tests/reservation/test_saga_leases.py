"""Many processes, one saga: whoever holds the newest lease writes, everybody else changes nothing."""

import asyncio
from contextlib import suppress

from sqlalchemy import text

from reservation_service.flags import SAGA_ORCHESTRATION
from reservation_service.saga.engine import Engine
from shared.database import Database, DatabaseAway
from tests.doubles import scripted_payments as acts
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import Bench, Story
from tests.scenarios import fired


class Freezer:
    """Holds the next call of one operation at the wire until it is thawed, as SIGSTOP would hold its process."""

    def __init__(self, bench: Bench, operation: str) -> None:
        self.frozen = asyncio.Event()
        self._thawed = asyncio.Event()
        self._bench, self._operation = bench, operation
        bench.payments.before = self._hold

    async def _hold(self, operation: str) -> None:
        if operation == self._operation and not self.frozen.is_set():
            self.frozen.set()
            await self._thawed.wait()

    def thaw(self) -> None:
        self._thawed.set()


async def test_a_frozen_worker_writes_nothing_when_it_wakes(bench: Bench) -> None:
    """C18, I19: its lease runs out in the middle of a capture, another worker ends the booking, then it wakes."""
    for operation in ("create", "get", "capture"):
        story = await bench.story()
        sleeper, freezer = bench.another_engine(), Freezer(bench, operation)
        frozen = asyncio.create_task(_convert_and_pay(bench, story, sleeper, looks=operation == "get"))
        await asyncio.wait_for(freezer.frozen.wait(), 10)
        await bench.run_to_rest(story)
        await assert_whole(bench, story, "confirmed", saga="completed")
        before = await bench.journal(story), dict(await bench.booking(story)) | {"seconds_left": 0}
        freezer.thaw()
        await frozen
        assert (await bench.journal(story), dict(await bench.booking(story)) | {"seconds_left": 0}) == before
        bench.payments.before = None
        await assert_whole(bench, story, "confirmed", saga="completed")
        fired("C18", int(freezer.frozen.is_set()))


async def _convert_and_pay(bench: Bench, story: Story, engine: Engine, *, looks: bool) -> None:
    await bench.convert(story, engine=engine)
    if looks:
        await bench.turn(engine)
    if bench.is_payable(story):
        await bench.pay(story, engine=engine)
    await engine.drain(10)


async def test_a_frozen_cancel_cannot_undo_what_went_on_without_it(bench: Bench) -> None:
    """C18: the worker that was cancelling wakes after another one has compensated: seats went back once."""
    story = await bench.story()
    await bench.convert(story)
    await bench.pass_deadline(story)
    sleeper, freezer = bench.another_engine(), Freezer(bench, "cancel")
    frozen = asyncio.create_task(bench.turn(sleeper))
    await asyncio.wait_for(freezer.frozen.wait(), 10)
    await bench.run_to_rest(story, pays=False)
    await assert_whole(bench, story, "failed", saga="compensated")
    freezer.thaw()
    await frozen
    await assert_whole(bench, story, "failed", saga="compensated")
    fired("C18", int(freezer.frozen.is_set()))


async def test_two_engines_never_share_a_saga(bench: Bench) -> None:
    """I16, I19: ten due sagas, two engines looking at once: each saga is claimed by exactly one of them."""
    stories = [await bench.story() for _ in range(10)]
    bench.payments.always("create", acts.BUSY)
    await asyncio.gather(*(bench.convert(story) for story in stories))
    bench.payments.heal()
    one, other = bench.another_engine(), bench.another_engine()
    await bench.sql("UPDATE sagas SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
    creates = bench.payments.counted()["create"]
    found = await asyncio.gather(one.run_due(), other.run_due())
    await asyncio.gather(one.drain(10), other.drain(10))
    assert sum(found) == len(stories)
    assert bench.payments.counted()["create"] - creates == len(stories)
    for story in stories:
        await bench.pay(story)
        await assert_whole(bench, story, "confirmed", saga="completed")


async def test_converting_twice_at_once_starts_one_saga(bench: Bench) -> None:
    """K03, I4, peers B3.50: ten converts of one hold through two engines: one saga, one payment, one booking."""
    story = await bench.story()
    engines = [bench.engine, bench.another_engine()]
    booked = await asyncio.gather(*(bench.convert(story, engine=engines[n % 2]) for n in range(10)))
    assert {booking["status"] for booking in booked} == {"pending"}
    assert len(await bench.sql("SELECT id FROM sagas WHERE reservation_id = :id", id=story.hold_id)) == 1
    assert len(bench.payments.of(story.hold_id)) == 1
    await engines[1].drain(10)
    await bench.run_to_rest(story)
    await assert_whole(bench, story, "confirmed", saga="completed")
    fired("K03", len(booked) - 1)


async def test_a_reference_that_exists_is_drawn_again(bench: Bench) -> None:
    """Two bookings draw the same six characters: the second one draws again, the guest notices nothing."""
    first, second = await bench.story(total_minor=0), await bench.story(total_minor=0)
    drawn = iter("AAAAAAAAAAAABBBBBB")
    bench.engine._choose = lambda _alphabet: next(drawn)
    await bench.convert(first)
    await bench.convert(second)
    bench.engine._choose = bench.another_engine()._choose
    assert (await bench.booking(first))["reference"] == "AAAAAA"
    assert (await bench.booking(second))["reference"] == "BBBBBB"


async def test_a_step_of_a_newer_release_is_left_to_it(bench: Bench) -> None:
    """X12: a journal with a step that this code does not know is not touched, and stays due for others."""
    story = await bench.story()
    await bench.convert(story)
    row = await bench.the_saga(story)
    await bench.sql(
        "INSERT INTO saga_log (saga_id, step, direction, event, epoch)"
        " VALUES (:id, 'send_flowers', 'do', 'started', :epoch)",
        id=row["id"],
        epoch=row["lease_epoch"],
    )
    before, calls = await bench.journal(story), len(bench.payments.calls)
    await bench.pass_deadline(story)
    assert await bench.turn() == 0
    assert await bench.journal(story) == before
    assert len(bench.payments.calls) == calls
    row = await bench.the_saga(story)
    assert (row["lease_until"], row["due_at"] is not None) == (None, True)
    await bench.forge("DELETE FROM saga_log WHERE step = 'send_flowers'")
    await bench.run_to_rest(story, pays=False)


async def test_an_engine_takes_no_more_than_it_has_room_for(bench: Bench) -> None:
    """I16: with a batch of two, five due sagas take three looks; nobody is forgotten."""
    stories = [await bench.story() for _ in range(5)]
    bench.payments.always("create", acts.BUSY)
    await asyncio.gather(*(bench.convert(story) for story in stories))
    await bench.sql("UPDATE sagas SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
    small = bench.another_engine(saga_batch_size=2)
    took = []
    for _ in range(4):
        took.append(await small.run_due())
        assert took[-1] == 0 or await small.run_due() == 0  # as long as both run there is no room
        await small.drain(10)
    assert took == [2, 2, 1, 0]
    bench.payments.heal()
    for story in stories:
        await bench.run_to_rest(story)


async def test_a_saga_that_kills_its_worker_each_time_needs_a_person(bench: Bench) -> None:
    """C20, I17: after as many deaths in one step as it may have failures, the saga stops and says so."""
    story = await bench.story()
    bench.payments.always("create", acts.DIES_BEFORE)
    await bench.convert(story)
    for _ in range(bench.settings.saga_attempts_max + 1):
        await bench.turn()
    status = (await bench.the_saga(story))["status"]
    bench.payments.heal()
    await bench.run_to_rest(story)
    assert status == "needs_attention"
    fired("C20", bench.payments.calls.count(("create", acts.DIES_BEFORE.name)))


async def test_weather_in_the_database_loses_no_saga(bench: Bench) -> None:
    """P01: the database goes away between two steps; the lease runs out and the saga goes on where it was."""
    story = await bench.story()

    async def cut(operation: str) -> None:
        if operation == "create":
            bench.payments.before = None
            await _cut_all_connections(bench.database)

    bench.payments.before = cut
    await bench.convert(story)
    cuts = int(bench.payments.before is None)
    await bench.run_to_rest(story)
    await assert_whole(bench, story, "confirmed", saga="completed")
    fired("P01", cuts)


async def _cut_all_connections(database: Database) -> None:
    """End every session of this database, as an administrator's shutdown does."""
    with suppress(DatabaseAway):
        async with database.reading() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


async def test_flags_are_frozen_with_the_saga(bench: Bench) -> None:
    """X13: a saga keeps the flags it started with, whatever is switched meanwhile."""
    story = await bench.story()
    await bench.convert(story)
    await bench.set_orchestration(False)
    other = await bench.story()
    await bench.convert(other)
    await bench.set_orchestration(True)
    assert (await bench.the_saga(story))["flags"] == {SAGA_ORCHESTRATION: True}
    assert (await bench.the_saga(other))["flags"] == {SAGA_ORCHESTRATION: False}
    for each in (story, other):
        await bench.run_to_rest(each)
        await assert_whole(bench, each, "confirmed", saga="completed")


async def test_without_orchestration_only_requests_and_messages_drive(bench: Bench) -> None:
    """X14: flag off: a due saga waits for a message; the deadline and the unwinding run all the same."""
    await bench.set_orchestration(False)
    paid, left = await bench.story(), await bench.story()
    for story in (paid, left):
        await bench.convert(story)
    await bench.set_orchestration(True)
    bench.payments.pay(paid.payment_id)
    gets = bench.payments.counted()["get"]
    await bench.turn()
    assert bench.payments.counted()["get"] == gets
    assert (await bench.the_saga(paid))["status"] == "waiting"
    await bench.engine.signal(bench.payments.event(paid.payment_id))
    await bench.engine.drain(10)
    await assert_whole(bench, paid, "confirmed", saga="completed")
    await bench.pass_deadline(left)
    await bench.run_to_rest(left, pays=False)
    await assert_whole(bench, left, "failed", saga="compensated")
