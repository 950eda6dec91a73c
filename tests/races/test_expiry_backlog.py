"""Nobody swept for hours: what lapsed is sold all the same, is tidied up in small batches, and makes no guest wait."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import text

from reservation_service.background import jobs
from reservation_service.behaviours import Behaviours, Ground
from shared.clock import SystemClock
from shared.ticker import Job, Ticker
from tests.answers import answered
from tests.figures import tell
from tests.reservation.box_office import BoxOffice, Offer, open_box_office
from tests.scenarios import fired

BACKLOG = 50_000
SLOTS = 20
BATCH = 100
AT_ONCE = 2_500
PATIENT = {"admission_deadline_s": 60.0}
LOOKS_AGAIN_S = 1.0  # what a guest had locked at the last look is swept at the next one, not after ten minutes
DRAINED_WITHIN_S = 240.0  # a minute is usual; a machine may be busy with something else

LAPSE = """
INSERT INTO reservations (id, caller, time_slot_id, seats, items, price, total_minor, currency, capture_method,
                          expires_at, created_expires_at)
SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid, 'gone-' || n, (CAST(:slots AS uuid[]))[1 + n % :count], 1, '[]',
       '{"subtotal": {"amount": 0}, "discount": {"amount": 0}, "total": {"amount": 0}, "lines": [{"amount": {"amount": 0}}]}',
       0, 'EUR', 'manual',
       clock_timestamp() - make_interval(secs => 1 + n % 7200), clock_timestamp()
FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n
"""
PIN = """
UPDATE time_slots AS slot SET taken = lapsed.seats
FROM (SELECT time_slot_id, sum(seats) AS seats FROM reservations GROUP BY 1) AS lapsed WHERE slot.id = lapsed.time_slot_id
"""
LEFT = "SELECT EXISTS (SELECT FROM reservations WHERE status = 'held' AND expires_at <= clock_timestamp()) AS left"
# Whoever has watched a batch being written knows its rows: they were inserted by one transaction.
LARGEST = (
    "SELECT max(n) AS rows, count(*) AS batches FROM (SELECT count(*) AS n FROM reservation_events GROUP BY xmin) b"
)


@pytest.fixture
async def replicas(reservation_database_url: str) -> AsyncIterator[list[BoxOffice]]:
    """Two processes' worth of the service on one database; their sweepers sleep until a test wakes them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_box_office(reservation_database_url, **PATIENT)) for _ in range(2)]


async def leave_lapsed(office: BoxOffice, offers: list[Offer], size: int) -> None:
    """Let so many holds of these slots have run out, unswept."""
    slots = [UUID(offer.slot_id) for offer in offers]
    async with office.parts.database.transaction("test") as tx:
        await tx.execute(text("SET LOCAL statement_timeout = 0"))
        await tx.execute(text("SET LOCAL session_replication_role = replica"))  # each row names a slot that is there
        for first in range(1, size + 1, AT_ONCE):  # a statement has a few seconds, however busy the machine is
            last = min(size, first + AT_ONCE - 1)
            await tx.execute(text(LAPSE), {"slots": slots, "count": len(slots), "first": first, "last": last})
        await tx.execute(text(PIN))
        await tx.execute(text("ANALYZE reservations"))


def sweeper(office: BoxOffice) -> Job:
    """Return the line of `background.py` that this process would run."""
    parts, nobody = office.parts, cast(Any, None)  # the sweeper calls neither Redis nor payment_service
    ground = Ground(
        parts.settings, parts.database, parts.clock, parts.flags, parts.metrics, redis=nobody, payments=nobody
    )
    (job,) = (job for job in jobs(Behaviours(ground)) if job.name == "sweep_expired_holds")
    assert job.batch == BATCH
    return replace(job, interval_s=LOOKS_AGAIN_S)


async def holds_meanwhile(office: BoxOffice, offers: list[Offer], until: asyncio.Event) -> list[float]:
    """Make hold after hold until told to stop; return how long each took."""
    took_s = []
    while True:
        began = time.perf_counter()
        answered(await office.customer().hold(offers[len(took_s) % len(offers)]), 201)
        took_s.append(time.perf_counter() - began)
        if until.is_set():
            return took_s
        await asyncio.sleep(0.01)


@pytest.mark.timeout(DRAINED_WITHIN_S + 120)
async def test_fifty_thousand_lapsed_holds(replicas: list[BoxOffice]) -> None:
    """T10, K08, I2, I3, peers B4.60: free before any sweep; drained by two sweepers in batches of 100, and every new hold is made."""
    office, capacity = replicas[0], BACKLOG // SLOTS
    offers = [await office.offer(capacity=capacity) for _ in range(SLOTS)]
    calm = [await office.offer(capacity=10_000) for _ in range(2)]
    await leave_lapsed(office, offers, BACKLOG)
    assert [await office.free(offer) for offer in offers[:3]] == [capacity] * 3
    answered(await office.customer().hold(offers[0], 9), 201)  # full of what lapsed, and sold at once

    still = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, still.set)
    before = await holds_meanwhile(office, calm, still)

    drained = asyncio.Event()
    guests = asyncio.create_task(holds_meanwhile(office, [*calm, *offers[1:]], drained))
    tickers = [Ticker(sweeper(each), SystemClock()) for each in replicas]
    began = time.perf_counter()
    for ticker in tickers:
        ticker.start()
    async with asyncio.timeout(DRAINED_WITHIN_S):
        while True:
            (lapsed,) = await office.sql(LEFT)
            if not lapsed["left"]:
                break
            await asyncio.sleep(0.1)
    took_s = time.perf_counter() - began
    drained.set()
    during = await guests
    for ticker in tickers:
        await ticker.stop(5)

    (events,) = await office.sql(LARGEST)
    swept = [each.parts.metrics.registry.get_sample_value("reservation_holds_expired_total") or 0 for each in replicas]
    displaced = office.parts.metrics.registry.get_sample_value("reservation_holds_displaced_total") or 0
    assert events["rows"] <= BATCH
    assert sum(swept) + displaced == BACKLOG
    assert all(swept), "both sweepers had a share"
    tell(
        f"lapsed={BACKLOG} drained in {took_s:.1f} s by two sweepers ({swept}), batches={events['batches']} of at most"
        f" {events['rows']}; holds made meanwhile={len(during)}, all 201, median {median(during) * 1e3:.1f} ms,"
        f" {median(during) / median(before):.1f} x the calm one"
    )
    fired("T10", BACKLOG)
    for each in replicas[:1]:
        await each.assert_consistent()


async def test_a_locked_slot_stops_no_sweeper(replicas: list[BoxOffice]) -> None:
    """K08, K09, I3: a slot that somebody keeps locked is passed over; all others are swept, it is swept after."""
    one, two = replicas
    offers = [await one.offer(capacity=300) for _ in range(3)]
    await leave_lapsed(one, offers, 900)
    async with two.parts.database.transaction("test") as tx:
        await tx.execute(text("SELECT FROM time_slots WHERE id = :id FOR UPDATE"), {"id": UUID(offers[1].slot_id)})
        swept = Counter[str]()
        await tx.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # however slow the machine is
        async with asyncio.timeout(60):
            while (batch := await one.sweep(batch=BATCH)) > 0:
                swept["while locked"] += batch
        answered(await two.customer().hold(offers[0]), 201)
    while (batch := await one.sweep(batch=BATCH)) > 0:
        swept["after"] += batch
    assert swept == {"while locked": 600, "after": 300}
    await one.assert_consistent()
