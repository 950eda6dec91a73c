"""A rolling deployment: the previous release works on the newer schema, and this code on the rows that it left.

What the previous release was stands in `previous/`, written by `make record-release`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from deploy.embedded.databases import MIGRATIONS
from deploy.embedded.postgres import Postgres
from reservation_service.states import CONVERTED
from shared.migrations import upgrade
from shared.schema_age import head
from tests.answers import answered
from tests.audited import violated
from tests.figures import tell
from tests.payment.till import open_till
from tests.release.previous import refused_statements, restore, statements
from tests.reservation.box_office import BoxOffice, open_box_office
from tests.scenarios import fired

_MEANWHILE = {"pending": ("failed",)}  # its time to pay was over long ago, and this code is at work
_OPERATORS_PAGES = {
    "reservation": ("holds", "reservations", "sagas", "time-slots", "experiences", "discounts", "api-keys"),
    "payment": ("payments", "webhook-events", "ledger", "breaker", "reconciliation"),
}
_EVERY_SERVICE = ("audit-export", "operator-actions", "flags", "invariants")


@pytest.fixture
def left(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The database that the previous release left, brought up to date; as its service and its name."""
    service, name = request.param, f"previous_{uuid4().hex}"
    postgres.create_database(name)
    asyncio.run(restore(postgres.dsn(name), service))
    before, after = upgrade(postgres.url(name), MIGRATIONS[service])
    assert before is not None
    assert before <= after == head(MIGRATIONS[service])
    yield service, name
    postgres.drop_database(name)


both = pytest.mark.parametrize("left", ["reservation", "payment"], indirect=True)
reservation = pytest.mark.parametrize("left", ["reservation"], indirect=True)
payment = pytest.mark.parametrize("left", ["payment"], indirect=True)


@both
def test_it_goes_on_working_on_the_newer_schema(left: tuple[str, str], postgres: Postgres) -> None:
    """X12: no statement that the previous release was seen to send is refused, or finds less than it needs."""
    service, name = left
    wrong = asyncio.run(refused_statements(postgres.dsn(name), service))
    sent = len(statements(service))
    tell(
        f"previous release of {service}: {sent} statements on schema {head(MIGRATIONS[service])}, refused {len(wrong)}"
    )
    assert wrong == []
    assert sent > 60


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE reservations DROP COLUMN client_reference", "42703"),
        ("ALTER TABLE reservations RENAME COLUMN pay_until TO payable_until", "42703"),
        (
            "ALTER TABLE saga_log ADD shard int NOT NULL DEFAULT 1; ALTER TABLE saga_log ALTER shard DROP DEFAULT",
            "23502",
        ),
        ("ALTER TABLE reservation_events ADD CHECK (reason <> 'converted') NOT VALID", "23514"),
        ("DROP TABLE discounts CASCADE", "42P01"),
    ],
)
@reservation
def test_what_takes_something_away_is_noticed(
    left: tuple[str, str], postgres: Postgres, change: str, said: str
) -> None:
    """X12: a column that is gone or renamed, one that has to be given, a stricter CHECK, a table less: each is seen."""
    service, name = left

    async def contract() -> list[str]:
        connection = await asyncpg.connect(postgres.dsn(name), timeout=30)
        await connection.execute(change)
        await connection.close()
        return await refused_statements(postgres.dsn(name), service)

    assert said in {line.split()[0] for line in asyncio.run(contract())}


@reservation
async def test_this_code_reads_the_bookings_it_left(left: tuple[str, str], postgres: Postgres) -> None:
    """X12: each hold, booking and saga is shown to its guest and to operators, and the audit of today finds nothing."""
    async with open_box_office(postgres.url(left[1])) as office:
        rows = await office.sql("SELECT id, caller, status FROM reservations")
        for row in rows:
            guest, booking_id = office.customer(row["caller"]), str(row["id"])
            answered(await guest.see_hold(booking_id))
            answered(await guest.ask("GET", "/v1/reservations"))
            if row["status"] in CONVERTED:
                shown = answered(await guest.see(booking_id))
                assert shown["status"] in {row["status"], *_MEANWHILE.get(row["status"], ())}
                answered(await guest.ask("GET", f"/v1/reservations/{booking_id}/timeline"))
        for saga in await office.sql("SELECT id FROM sagas"):
            answered(await office.operator().ask("GET", f"/admin/v1/sagas/{saga['id']}"))
        for page in (*_OPERATORS_PAGES["reservation"], *_EVERY_SERVICE):
            answered(await office.operator().ask("GET", f"/admin/v1/{page}"))
        assert {row["status"] for row in rows} >= {"held", "pending", "confirmed", "failed", "expired", "released"}
        fired("X12", len(rows))
    assert violated(postgres.dsn(left[1]), "reservation") == {}


@reservation
async def test_this_code_goes_on_where_it_stopped(left: tuple[str, str], postgres: Postgres) -> None:
    """X12, I17: its keys still stand for its holds, and a booking that it left half-way is taken to an end."""
    async with open_box_office(postgres.url(left[1])) as office:
        held, pending = [await _left_by(office, who) for who in ("holder", "buyer")]
        order = {"time_slot_id": str(held["time_slot_id"]), "items": held["items"]}
        again = await _patiently(
            lambda: office.customer("holder").ask("POST", "/v1/holds", key="left-held", json=order)
        )
        assert again["supersedes"] == str(held["id"])  # its time was over long ago, so it is renewed
        for _ in range(10):  # whoever had it in hand since the start lets go of it in between
            await office.let_payment_time_run_out(str(pending["id"]))
            if await office.status(str(pending["id"])) != "pending":
                break
        assert await office.status(str(pending["id"])) == "failed"
        await office.assert_consistent()


async def _patiently(call: Callable[[], Awaitable[httpx.Response]]) -> Any:
    """Make the same call again while the sweeper, which has much to do at first, has the slot."""
    for _ in range(50):
        answer = await call()
        if answer.status_code != 503:
            break
        await asyncio.sleep(0.1)
    return answered(answer, 201)


async def _left_by(office: BoxOffice, caller: str) -> Any:
    (row,) = await office.sql("SELECT * FROM reservations WHERE caller = :caller", caller=caller)
    return row


@payment
async def test_this_code_reads_the_payments_it_left(
    left: tuple[str, str], postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X12: each payment, event and sum of the ledger is shown to operators, and the audit of today finds nothing."""
    assert violated(postgres.dsn(left[1]), "payment") == {}
    async with open_till(postgres.url(left[1]), tmp_path, monkeypatch) as till:
        payments = [row["id"] for row in await till.sql("SELECT id FROM payments")]
        for payment_id in payments:
            assert UUID(answered(await till.admin("GET", f"/payments/{payment_id}"))["id"]) == payment_id
        for page in (*_OPERATORS_PAGES["payment"], *_EVERY_SERVICE):
            answered(await till.admin("GET", f"/{page}"))
        assert len(payments) > 3
