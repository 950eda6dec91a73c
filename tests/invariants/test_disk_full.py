"""The database's disk is full: it is weather, nothing is half done, and when there is room all goes on."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.answers import answered, refused
from tests.payment.till import Till
from tests.reservation.box_office import BoxOffice
from tests.scenarios import fired

_FULL = (
    "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
)


@asynccontextmanager
async def no_room(sql: Callable[..., Awaitable[Any]], table: str) -> AsyncIterator[None]:
    """Let a table grow no more, in PostgreSQL's own words for that."""
    await sql(_FULL)
    await sql(f"CREATE TRIGGER no_room BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION no_room()")
    yield
    await sql("DROP FUNCTION no_room CASCADE")


async def test_a_hold_without_room_is_none(office: BoxOffice) -> None:
    """P07, I14: 503 and no seat taken; the same call under the same key succeeds once there is room."""
    offer, guest = await office.offer(capacity=3), office.customer()
    async with no_room(office.sql, "reservations"):
        refused(await guest.hold(offer, 2, key="k"), 503, "SERVICE_UNAVAILABLE", "SLOT_BUSY")
        assert await office.free(offer) == 3
        assert (await office.http.get("/livez")).status_code == 200
    answered(await guest.hold(offer, 2, key="k"), 201)
    assert await office.free(offer) == 1
    fired("P07", 1)


async def test_a_webhook_without_room_is_sent_again(till: Till) -> None:
    """P07, I14: 503, so that Stripe keeps it; the redelivery is stored and has its effect."""
    await till.authorized()
    (event,) = await till.stripe_events("payment_intent.amount_capturable_updated")
    async with no_room(till.sql, "webhook_events"):
        refused(await till.deliver(event), 503, "SERVICE_UNAVAILABLE")
        assert await till.event_rows() == []
    assert answered(await till.deliver(event)) == {"received": True, "duplicate": False}
    await till.process()
    assert [row["status"] for row in await till.event_rows()] == ["processed"]
    fired("P07", 1)
