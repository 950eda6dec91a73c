"""Somebody's report keeps a transaction open: the gauge to alert on says so, and nobody who books notices."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from shared.database import Database
from tests.answers import answered
from tests.payment.till import open_till
from tests.reservation.box_office import open_box_office
from tests.scenarios import fired


@asynccontextmanager
async def a_report(url: str, *tables: str) -> AsyncIterator[None]:
    """Read these tables in one transaction that stays open inside the block."""
    reader = Database.connect(url, application_name="report", pool_size=1)
    async with reader.snapshot() as connection:
        for table in tables:
            await connection.execute(text(f"TABLE {table}"))
        yield
    await reader.close()


async def oldest_s(http: httpx.AsyncClient) -> float:
    page = (await http.get("/metrics")).text
    return next(
        float(line.split()[-1]) for line in page.splitlines() if line.startswith("db_oldest_transaction_seconds")
    )


async def test_money_moves_beside_a_report(
    payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: while it reads, a payment is set up, paid and captured; the gauge shows its age, and nothing after its end."""
    async with open_till(payment_database_url, tmp_path, monkeypatch) as till:
        async with a_report(payment_database_url, "payments", "outbox"):
            await till.captured()
            await till.run("watch_transactions")
            seen_s = await oldest_s(till.http)
            assert seen_s > 0
        fired("P11", int(seen_s > 0))
        await till.run("watch_transactions")
        assert await oldest_s(till.http) < seen_s


async def test_seats_are_sold_beside_a_report(reservation_database_url: str) -> None:
    """P11: holds are made and converted as ever; the gauge is there on this side, too."""
    async with open_box_office(reservation_database_url) as office:
        async with a_report(reservation_database_url, "reservations", "time_slots"):
            guest, offer = office.customer(), await office.offer(capacity=1)
            hold = answered(await guest.hold(offer), 201)
            answered(await guest.convert(hold["id"]), 201)
            await office.parts.metrics.watch_transactions(office.parts.database)
            assert await oldest_s(office.http) > 0
        fired("P11", 1)
