"""Everybody wants the same discount at the same moment: exactly its uses are given, and nobody waits for anybody for ever."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import orjson
from sqlalchemy import text

from shared.database import Connection
from tests.answers import answered, refused
from tests.figures import tell
from tests.reservation.box_office import BoxOffice, Customer, Offer, open_box_office

RUSH = 200
USES = 20
PLAIN = 40
GENEROUS_S = 60.0


async def hold_until_answered(guest: Customer, offer: Offer, code: str | None) -> int:
    """POST the hold until the answer is final; return its status."""
    more = {"discount_code": code} if code else {}
    key = f"key-{uuid4()}"
    answer = await guest.hold(offer, key=key, **more)
    while answer.status_code == 503:
        await asyncio.sleep(refused(answer, 503, "SLOT_BUSY")["retry_after_ms"] / 1000)
        answer = await guest.hold(offer, key=key, **more)
    if answer.status_code == 422:
        assert refused(answer, 422, "DISCOUNT_INVALID")["reason"] == "used_up"
    return answer.status_code


async def deadlocks(office: BoxOffice) -> int:
    """Return how many deadlocks PostgreSQL had to end in this database, once all sessions have told."""
    await office.sql("SELECT pg_stat_force_next_flush()")
    (row,) = await office.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(row["deadlocks"])


async def test_two_hundred_guests_want_twenty_uses(reservation_database_url: str) -> None:
    """K01, I1: two processes, 200 holds with a code of 20 uses beside group admission on the same slots: exactly 20.

    No deadlock, no seat too many, and all who came without the code have their seats.
    """
    async with open_box_office(reservation_database_url) as one, open_box_office(reservation_database_url) as two:
        first = await one.offer(capacity=RUSH)
        slots = [first, Offer(await one.slot(first.experience_id, capacity=RUSH), first.experience_id, first.tickets)]
        code = await one.discount(max_uses=USES, max_uses_per_customer=1)
        offices = (one, two)
        wanted = [
            hold_until_answered(offices[n % 2].customer(), slots[n // 2 % 2], code["code"] if n < RUSH else None)
            for n in range(RUSH + PLAIN)
        ]
        async with asyncio.timeout(60):
            statuses = await asyncio.gather(*wanted)
        tally = Counter(statuses[:RUSH])
        taken = RUSH * 2 - await one.free(slots[0]) - await one.free(slots[1])
        tell(f"discounted={tally[201]} of {RUSH}, uses={USES}, deadlocks={await deadlocks(one)}")
        assert tally == {201: USES, 422: RUSH - USES}
        assert set(statuses[RUSH:]) == {201}
        assert taken == USES + PLAIN
        assert await one.used(code) == USES
        assert await deadlocks(one) == 0
        await one.assert_consistent()


async def test_uses_come_and_go(reservation_database_url: str) -> None:
    """K01: while holds lapse, are given back, renewed and converted, no more uses are ever pinned than there are."""
    async with open_box_office(reservation_database_url) as office:
        offer, code = await office.offer(capacity=400), await office.discount(max_uses=5)
        most = 0

        async def come_and_go(number: int) -> None:
            guest = office.customer()
            for turn in range(3):
                key = f"k-{number}" if number % 3 == 0 else f"k-{number}-{turn}"
                answer = await guest.hold(offer, key=key, discount_code=code["code"])
                if answer.status_code != 201:
                    assert answer.status_code in {422, 503}
                    continue
                hold = answer.json()["id"]
                if number % 3 == 0:
                    await office.let_expire(hold)
                elif number % 3 == 1 and turn == 2:
                    answered(await guest.convert(hold), 200, 201)
                else:
                    await guest.release(hold)

        async def watch() -> None:
            nonlocal most
            while True:
                (row,) = await office.sql(
                    "SELECT count(*) AS n FROM reservations WHERE seats_pinned AND discount_id = :id",
                    id=UUID(code["id"]),
                )
                most = max(most, int(row["n"]))
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(come_and_go(number) for number in range(24)))
        watching.cancel()
        tell(f"most uses pinned at once={most}, allowed=5, deadlocks={await deadlocks(office)}")
        assert 1 <= most <= 5
        assert await deadlocks(office) == 0
        await office.assert_consistent()


@asynccontextmanager
async def locked(office: BoxOffice, table: str, row_id: str) -> AsyncIterator[Connection]:
    """Keep a row locked meanwhile, as somebody slow would."""
    async with office.parts.database.transaction("test") as tx:
        await tx.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # however slow the machine is
        await tx.execute(text(f"SELECT FROM {table} WHERE id = :id FOR UPDATE"), {"id": UUID(row_id)})
        yield tx


async def waiting(office: BoxOffice) -> int:
    """Return how many sessions of this database wait for a lock."""
    (row,) = await office.sql(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(row["n"])


async def test_a_blocked_slot_is_busy_and_blocks_no_other(reservation_database_url: str) -> None:
    """Somebody keeps a slot's row locked: a discounted hold there is SLOT_BUSY meanwhile, and the code works elsewhere."""
    async with open_box_office(reservation_database_url) as office:
        blocked, other = await office.offer(), await office.offer()
        code = await office.discount(max_uses=5)
        async with locked(office, "time_slots", blocked.slot_id), asyncio.timeout(GENEROUS_S):
            refused(await office.customer().hold(blocked, discount_code=code["code"]), 503, "SLOT_BUSY")
            answered(await office.customer().hold(other, discount_code=code["code"]), 201)
        assert await office.used(code) == 1


async def test_a_popular_code_leaves_connections_to_others(reservation_database_url: str) -> None:
    """P05: twenty guests wait for one code's row: few of them on a connection, so that everybody else is served."""
    async with open_box_office(reservation_database_url) as office:
        offer, code = await office.offer(capacity=50), await office.discount(max_uses=50)
        async with locked(office, "discounts", code["id"]), asyncio.timeout(GENEROUS_S):
            crowd = [asyncio.create_task(office.customer().hold(offer, discount_code=code["code"])) for _ in range(20)]
            most = 0
            while not all(guest.done() for guest in crowd):  # each gives up after half a second before the row
                most = max(most, await waiting(office))
                if most == 3:
                    answered(await office.customer().hold(offer), 201)
                    break
            assert most == 3
        assert {answer.status_code for answer in await asyncio.gather(*crowd)} <= {201, 503}
        assert await waiting(office) == 0


async def test_a_code_turned_off_while_one_waits_for_it(reservation_database_url: str) -> None:
    """The operator's change comes first: who waited for the row sees it, and nothing is held at the old terms."""
    async with open_box_office(reservation_database_url) as office:
        offer, code = await office.offer(), await office.discount(max_uses=5)
        async with locked(office, "discounts", code["id"]) as tx:
            late = asyncio.create_task(office.customer().hold(offer, discount_code=code["code"]))
            while await waiting(office) < 1:
                assert not late.done()
            await tx.execute(text("UPDATE discounts SET active = false WHERE id = :id"), {"id": UUID(code["id"])})
        answer = await late
        if answer.status_code == 503:  # the machine was so slow that it gave up waiting
            answer = await office.customer().hold(offer, discount_code=code["code"])
        assert refused(answer, 422, "DISCOUNT_INVALID")["reason"] == "unknown"
        assert await office.free(offer) == 10


async def test_the_last_use_under_one_key(reservation_database_url: str) -> None:
    """K02: a dozen calls with one key take the only use once, and renew it once, whoever waited for whom."""
    async with open_box_office(reservation_database_url) as office:
        offer, code = await office.offer(), await office.discount(max_uses=1)
        reseller = office.customer(scope="bookings:external")  # whose older holds never make way

        async def call() -> tuple[bytes, bool]:
            answer = await reseller.hold(offer, 2, key="one", discount_code=code["code"])
            while answer.status_code == 503:  # a slow machine: twelve wait for one row, half a second each
                answer = await reseller.hold(offer, 2, key="one", discount_code=code["code"])
            answered(answer, 201)
            return answer.content, "idempotent-replayed" not in answer.headers

        for _ in range(3):
            told = await asyncio.gather(*(call() for _ in range(12)))
            assert len({content for content, _ in told}) == 1
            assert sum(made for _, made in told) == 1
            assert (await office.free(offer), await office.used(code)) == (8, 1)
            await office.let_expire(orjson.loads(told[0][0])["id"])
