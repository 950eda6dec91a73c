"""What listeners hear: every change, also those that only time makes; one look for all, and nobody who holds others up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event
from starlette.types import Message

from reservation_service.api.availability import EventStream
from reservation_service.booking import availability
from reservation_service.booking.availability import Listener, SlotState, SlotWatch
from shared.problems import ServiceUnavailable
from tests.answers import answered
from tests.figures import tell
from tests.reservation.box_office import BoxOffice, Offer, open_box_office

POLL_S = 0.05
PATIENCE_S = 5.0
LISTENERS = 50


@pytest.fixture(scope="module")
async def open_office(module_database_url: str) -> AsyncIterator[BoxOffice]:
    """The service with quick looks, and room for few listeners."""
    async with open_box_office(module_database_url, stream_poll_seconds=POLL_S, stream_listeners_max=60) as office:
        yield office


async def heard(listener: Listener, *, available: int | None = None, status: str | None = None) -> SlotState:
    """Return the news that says so; earlier ones are passed over."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for state in await listener.news(PATIENCE_S):
                if available in {None, state.available} and status in {None, state.status}:
                    return state


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  what is waited for is counted, not signalled
            await asyncio.sleep(POLL_S / 5)


async def test_a_lapsed_hold_is_news(office: BoxOffice) -> None:
    """Only time has passed: no row has changed, the version is the same, and listeners are told all the same."""
    offer = await office.offer(capacity=4)
    listener = await office.parts.watch.join(UUID(offer.experience_id))
    [seen] = listener.snapshot
    assert (seen.available, seen.capacity, seen.status) == (4, 4, "open")
    answered(await office.customer().hold(offer, 3, ttl_seconds=1), 201)
    taken = await heard(listener, available=1)
    free = await heard(listener, available=4)
    assert free.version == taken.version
    office.parts.watch.leave(listener)
    assert await office.sweep() == 1


async def test_the_end_of_sales_is_news(office: BoxOffice) -> None:
    """A slot closes by itself when its time has come, and listeners are told in that moment."""
    offer = await office.offer(capacity=4)
    listener = await office.parts.watch.join(UUID(offer.experience_id))
    soon = "UPDATE time_slots SET sells_until = clock_timestamp() + interval '0.5 s' WHERE id = :id"
    await office.sql(soon, id=UUID(offer.slot_id))
    assert (await heard(listener, status="closed")).available == 4
    office.parts.watch.leave(listener)


async def test_a_new_departure_and_an_operators_change_are_news(office: BoxOffice) -> None:
    """What operators do is told too, and nothing of other experiences."""
    offer, other = await office.offer(capacity=4), await office.offer(capacity=4)
    listener = await office.parts.watch.join(UUID(offer.experience_id))
    answered(await office.customer().hold(other), 201)
    change = {"capacity": 9, "status": "closed", "reason": "wind"}
    answered(await office.operator().ask("PATCH", f"/admin/v1/time-slots/{offer.slot_id}", json=change))
    told = await heard(listener)
    assert (str(told.id), told.capacity, told.status) == (offer.slot_id, 9, "closed")
    added = await office.slot(offer.experience_id, capacity=2)
    assert str((await heard(listener)).id) == added
    later = await office.parts.watch.join(UUID(offer.experience_id))
    assert {str(state.id) for state in later.snapshot} == {offer.slot_id, added}
    for each in (listener, later):
        office.parts.watch.leave(each)


async def test_one_look_per_tick_however_many_listen(office: BoxOffice) -> None:
    """Fifty listeners of five experiences cost one statement per tick; without a listener there is none."""
    offers = [await office.offer() for _ in range(5)]
    watch, engine = office.parts.watch, office.parts.database.engine.sync_engine
    listeners = [await watch.join(UUID(offers[n % 5].experience_id)) for n in range(LISTENERS)]
    asked: list[float] = []
    looks = office.parts.metrics.stream_looks._value
    before = looks.get()

    def note(_c: Any, _k: Any, statement: str, *_more: Any) -> None:
        if "pg_snapshot_xmin" in statement:
            asked.append(asyncio.get_running_loop().time())

    event.listen(engine, "before_cursor_execute", note)
    try:
        for offer in offers:
            answered(await office.customer().hold(offer), 201)
        states = await asyncio.gather(*(heard(listener, available=9) for listener in listeners))
        await until(lambda: len(asked) >= 6)
        assert min(after - one for one, after in pairwise(asked)) >= POLL_S * 0.9
        assert looks.get() - before == len(asked)
        pool = office.parts.database.pool_state()
        assert pool["active"] <= 2, pool  # the holds' own lane, and perhaps a look
        for listener in listeners:
            watch.leave(listener)
        await asyncio.sleep(2 * POLL_S)
        seen = len(asked)
        await asyncio.sleep(4 * POLL_S)
        assert len(asked) == seen
    finally:
        event.remove(engine, "before_cursor_execute", note)
    tell(f"stream: {LISTENERS} listeners, {len(states)} told, {seen} looks in {asked[-1] - asked[0]:.2f} s")


async def test_there_is_room_for_so_many(office: BoxOffice) -> None:
    """One more than the maximum is 503; whoever leaves makes room."""
    offer = await office.offer()
    watch, wanted = office.parts.watch, UUID(offer.experience_id)
    listeners = [await watch.join(wanted) for _ in range(60)]
    with pytest.raises(ServiceUnavailable):
        await watch.join(wanted)
    answer = await office.http.get("/v1/availability/stream", params={"experience_id": offer.experience_id})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    watch.leave(listeners.pop())
    listeners.append(await watch.join(wanted))
    for listener in listeners:
        watch.leave(listener)
    assert not watch._known


async def test_who_cannot_follow_is_cut_off(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads nothing fills its queue and is ended, whole with its answer; others hear everything."""
    monkeypatch.setattr(availability, "_QUEUE_MAX", 2)
    offer = await office.offer()
    watch = office.parts.watch
    stuck = await watch.join(UUID(offer.experience_id))
    monkeypatch.undo()
    quick = await watch.join(UUID(offer.experience_id))
    serving = asyncio.create_task(_serve_a_client_that_reads_nothing(watch, stuck))
    await hold_one_by_one(office, offer, quick)
    async with asyncio.timeout(PATIENCE_S):
        await serving
    assert stuck.ended.is_set()
    assert stuck not in watch._listeners
    assert office.parts.metrics.stream_listeners_cut._value.get() == 1
    watch.leave(quick)


async def hold_one_by_one(office: BoxOffice, offer: Offer, listener: Listener) -> None:
    for left in (9, 8, 7, 6):
        answered(await office.customer().hold(offer), 201)
        await heard(listener, available=left)


async def _serve_a_client_that_reads_nothing(watch: SlotWatch, listener: Listener) -> None:
    async def receive() -> Message:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    await EventStream(watch, listener, heartbeat_s=60)({}, receive, send)
