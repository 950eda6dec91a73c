"""The audit of the audit: each invariant is violated on purpose in a real database, and exactly that one says so."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from reservation_service.saga.definition import LocalStep, Pause
from reservation_service.saga.reservation_saga import reservation_saga
from reservation_service.saga.steps import Steps
from reservation_service.store import audit
from reservation_service.store.audit import INVARIANTS
from shared.invariants import check_all
from tests.answers import answered
from tests.figures import tell
from tests.reservation.box_office import BoxOffice

_COUNTED_ANEW = """UPDATE time_slots SET taken = (SELECT coalesce(sum(seats), 0) FROM reservations
                   WHERE seats_pinned AND time_slot_id = time_slots.id)"""
_COMPENSATED = "UPDATE sagas SET status = 'compensated' WHERE reservation_id = :confirmed"
_ITS_SAGA = "(SELECT id FROM sagas WHERE reservation_id = :confirmed)"
_LINE = "INSERT INTO saga_log (saga_id, step, direction, event, epoch) VALUES"
_NO_LINE = "DELETE FROM saga_log WHERE step ="
_UNDOABLE = ("confirm_reservation", "capture_payment", "create_payment_intent", "create_hold")
# Constraints make most of these impossible, so they go first; then the least that violates this one and no other.
PLANTED: dict[str, tuple[str, ...]] = {
    "I1 more taken than there are": (
        "ALTER TABLE time_slots DROP CONSTRAINT time_slots_never_oversold",
        "UPDATE time_slots SET capacity = taken - 1 WHERE taken > 0",
    ),
    "I2 a seat too many": ("UPDATE time_slots SET taken = taken + 1",),
    "I2 a seat too few": ("UPDATE time_slots SET taken = taken - 1 WHERE taken > 0",),
    "I3 a confirmed booking has let go of its seats": (
        "ALTER TABLE reservations DROP CONSTRAINT reservations_seats_pinned",
        "UPDATE reservations SET seats_pinned = false WHERE id = :confirmed",
        _COUNTED_ANEW,
    ),
    "I3 a released hold has kept its seats": (
        "ALTER TABLE reservations DROP CONSTRAINT reservations_seats_pinned",
        "UPDATE reservations SET seats_pinned = true WHERE status = 'released'",
        _COUNTED_ANEW,
    ),
    "I4 two live sagas": (
        "DROP INDEX sagas_one_live_per_payment",
        """INSERT INTO sagas (id, reservation_id, status, generation, flags, due_at)
           SELECT gen_random_uuid(), id, 'running', 1, '{}', now() FROM reservations WHERE id = :pending""",
    ),
    "I4 pending and no saga": (
        "UPDATE sagas SET status = 'needs_attention', reason = 'x' WHERE reservation_id = :pending",
    ),
    "I5 nobody looks after what is owed": (
        """UPDATE reservations SET status = 'cancelled', seats_pinned = false, refund_due_minor = total_minor
           WHERE id = :confirmed""",
        """INSERT INTO reservation_events (reservation_id, from_status, to_status, reason)
           SELECT id, 'confirmed', 'cancelled', 'asked' FROM reservations WHERE id = :confirmed""",
        _COUNTED_ANEW,
    ),
    "I6 confirmed and not paid": (
        "UPDATE reservations SET payment = jsonb_set(payment, '{captured}', '0') WHERE id = :confirmed",
    ),
    "I9 a journal that can be changed": ("ALTER TABLE saga_log DISABLE TRIGGER saga_log_append_only",),
    "I16 a live saga that never falls due": ("UPDATE sagas SET due_at = NULL WHERE reservation_id = :pending",),
    "I17 nobody says why": (
        "UPDATE sagas SET status = 'needs_attention', reason = NULL WHERE reservation_id = :confirmed",
    ),
    "I18 complete without its end": (f"{_NO_LINE} 'confirm_reservation' AND saga_id = {_ITS_SAGA}",),
    "I18 complete, and a step is open": (f"{_NO_LINE} 'capture_payment' AND event = 'done' AND saga_id = {_ITS_SAGA}",),
    "I18 a step was done twice": (f"{_LINE} ({_ITS_SAGA}, 'capture_payment', 'do', 'done', 9)",),
    "I18 compensated, and nothing was undone": (_COMPENSATED,),
    "I18 compensated in vain": (
        _COMPENSATED,
        *(f"{_LINE} ({_ITS_SAGA}, '{step}', 'undo', 'done', 9)" for step in _UNDOABLE),
        f"{_LINE} ({_ITS_SAGA}, 'capture_payment', 'undo', 'in_vain', 9)",
    ),
    "I19 an old lease has written": (
        """INSERT INTO saga_log (saga_id, step, direction, event, epoch)
           SELECT id, 'capture_payment', 'do', 'ok', 0 FROM sagas WHERE reservation_id = :confirmed""",
    ),
    "I20 a key shows another caller's booking": (
        "UPDATE idempotency SET caller = 'mallory' WHERE hold_id = :pending AND route = 'POST /v1/holds'",
    ),
    "I20 a key that stands for two requests": (
        "ALTER TABLE idempotency DROP CONSTRAINT idempotency_pkey",
        "INSERT INTO idempotency SELECT * FROM idempotency WHERE hold_id = :pending",
    ),
    "I20 a key without its request": ("UPDATE idempotency SET fingerprint = '' WHERE hold_id = :pending",),
    "I21 renewed while it lives": (
        "DELETE FROM idempotency WHERE hold_id IN (:pending, :held)",
        """UPDATE reservations SET supersedes = :pending,
           caller = (SELECT caller FROM reservations WHERE id = :pending) WHERE id = :held""",
    ),
    "I21 the guest had given it back": ("UPDATE reservations SET released_by = 'guest' WHERE id = :expired",),
    "I21 renewed twice": (
        "ALTER TABLE reservations DROP CONSTRAINT reservations_supersedes",
        "DELETE FROM idempotency WHERE hold_id = :pending",
        """UPDATE reservations SET supersedes = :expired,
           caller = (SELECT caller FROM reservations WHERE id = :expired) WHERE id = :pending""",
    ),
    "I21 the key shows the old one": ("UPDATE idempotency SET hold_id = :expired WHERE hold_id = :renewed",),
    "I22 an edge that does not exist": (
        "DELETE FROM reservation_events WHERE reservation_id = :confirmed AND to_status = 'pending'",
        "UPDATE reservation_events SET from_status = 'held' WHERE reservation_id = :confirmed",
    ),
    "I22 a move that nobody wrote down": (
        "DELETE FROM reservation_events WHERE reservation_id = :confirmed AND to_status = 'confirmed'",
    ),
    "I22 a history with a gap": (
        "DELETE FROM reservation_events WHERE reservation_id = :confirmed AND to_status = 'pending'",
    ),
    "I23 converted too late": (
        "UPDATE reservation_events SET created_at = created_at + interval '1 hour' WHERE to_status = 'pending'",
    ),
    "I23 expired too early": (
        "UPDATE reservation_events SET created_at = created_at - interval '1 hour' WHERE to_status = 'expired'",
    ),
    "I24 an id that is no uuid7": (
        """INSERT INTO reservations (id, caller, time_slot_id, seats, items, price, total_minor, currency,
                                     capture_method, expires_at, created_expires_at)
           SELECT gen_random_uuid(), caller, time_slot_id, seats, items, price, total_minor, currency,
                  capture_method, expires_at, created_expires_at FROM reservations WHERE id = :held""",
        _COUNTED_ANEW,
    ),
    "I24 a booking of nobody": (
        "UPDATE reservations SET caller = '' WHERE id = :pending",
        "UPDATE idempotency SET caller = '' WHERE hold_id = :pending",
    ),
    "I28 no such time zone": ("UPDATE experiences SET time_zone = 'Mars/Olympus_Mons'",),
    "I28 an instant that is none": ("UPDATE time_slots SET ends_at = 'infinity'",),
    # The day on which Alaska changed hands came twice there.
    "I28 a local time that is another instant": (
        "UPDATE experiences SET time_zone = 'America/Juneau'",
        "UPDATE time_slots SET starts_at = '1867-10-18 12:00Z', sells_until = '1867-10-18 12:00Z'",
    ),
    "discount-uses one use and two bookings": (
        "INSERT INTO discounts (id, code, basis_points, max_uses) VALUES (gen_random_uuid(), 'ONCE', 1000, 1)",
        "UPDATE reservations SET discount_id = (SELECT id FROM discounts WHERE code = 'ONCE') WHERE id = :held",
        "UPDATE reservations SET discount_id = (SELECT id FROM discounts WHERE code = 'ONCE') WHERE id = :pending",
    ),
    "price-sums a total that its lines do not make": (
        "UPDATE reservations SET total_minor = total_minor + 1 WHERE id = :held",
    ),
    "price-sums a price without lines": ("UPDATE reservations SET price = price - 'lines' WHERE id = :held",),
}


@dataclass(frozen=True)
class LivedIn:
    """A database with a booking of each kind, and their ids."""

    office: BoxOffice
    bookings: dict[str, UUID]

    @asynccontextmanager
    async def violated_by(self, statements: Sequence[str]) -> AsyncIterator[dict[str, int]]:
        """Do it in a transaction that never commits, and give what the audit says inside it."""
        connection = await self.office.parts.database.lend()
        try:
            await connection.execute(text("BEGIN"))
            await connection.execute(text("SET LOCAL session_replication_role = replica"))  # history does not refuse
            for statement in statements:
                named = {kind: booking for kind, booking in self.bookings.items() if f":{kind}" in statement}
                changed = await connection.execute(text(statement), named)
                assert changed.rowcount != 0, f"nothing was planted by: {statement}"
            yield {found.id: found.violations for found in await check_all(connection, INVARIANTS) if found.violations}
        finally:
            await connection.execute(text("ROLLBACK"))
            await connection.close()


@pytest.fixture(scope="module")
async def lived_in(open_office: BoxOffice) -> LivedIn:
    """Held, pending, confirmed, given back, expired, and what it was renewed by."""
    offer = await open_office.offer(capacity=20)
    guests = {kind: open_office.customer() for kind in ("held", "pending", "confirmed", "released", "expired")}
    ids = {kind: answered(await guest.hold(offer, 2, key="k"), 201)["id"] for kind, guest in guests.items()}
    for kind in ("pending", "confirmed"):
        answered(await guests[kind].convert(ids[kind]), 201)
    answered(await open_office.pay(ids["confirmed"]))
    answered(await guests["released"].release(ids["released"]))
    await open_office.let_expire(ids["expired"])
    ids["renewed"] = answered(await guests["expired"].hold(offer, 2, key="k"), 201)["id"]
    await open_office.parts.engine.drain(5)
    return LivedIn(open_office, {kind: UUID(booking) for kind, booking in ids.items()})


async def test_a_living_database_violates_nothing(lived_in: LivedIn) -> None:
    """I1..I6, I18, I20..I24, I28, peers B1.3: with bookings of every kind there is, the audit finds nothing."""
    async with lived_in.violated_by(["SELECT 1"]) as violated:
        assert violated == {}
    rows = await lived_in.office.sql("SELECT DISTINCT status FROM reservations")
    assert {row["status"] for row in rows} == {"held", "pending", "confirmed", "released", "expired"}


@pytest.mark.parametrize("what", PLANTED)
async def test_a_planted_violation_is_found_by_its_own_check(lived_in: LivedIn, what: str) -> None:
    """I1..I6, I16..I24, I28: what its constraint would refuse is done with the constraint away; one check names it."""
    async with lived_in.violated_by(PLANTED[what]) as violated:
        assert violated.keys() == {what.split(maxsplit=1)[0]}


@pytest.mark.parametrize("end", ["resolve", "undone"])
async def test_a_saga_that_was_ended_as_it_should_violates_nothing(lived_in: LivedIn, end: str) -> None:
    """I18: on a person's word a saga may end anywhere; and one that has undone what had happened is compensated."""
    rights = [_COMPENSATED]
    rights += [f"{_LINE} ({_ITS_SAGA}, '{step}', 'undo', 'done', 9)" for step in _UNDOABLE] if end == "undone" else []
    rights += [f"{_LINE} ({_ITS_SAGA}, 'operator', 'do', 'resolve', 9)"] if end == "resolve" else []
    async with lived_in.violated_by(rights) as violated:
        assert violated == {}


async def test_the_audit_knows_the_page() -> None:
    """I18: the names of steps that its query speaks of are those of THE PAGE, its last one and those of our own database."""
    page = reservation_saga(Steps(None, async_payment_max_s=0))  # type: ignore[arg-type]  # nothing is called
    ours = tuple(part.name for part in page.parts if isinstance(part, LocalStep))
    assert (str(ours), page.parts[-1].name) == (audit._OUR_STEPS, audit._LAST_STEP)
    assert set(_UNDOABLE) == {part.name for part in page.parts if not isinstance(part, Pause)}


async def test_every_check_has_its_violation() -> None:
    """A check that was never seen to find anything may as well be `SELECT` of nothing."""
    planted = {what.split(maxsplit=1)[0] for what in PLANTED}
    tell(f"audit of the audit: invariants={len(INVARIANTS)} planted={len(PLANTED)}")
    assert planted == {invariant.id for invariant in INVARIANTS}


async def test_operators_are_told(lived_in: LivedIn) -> None:
    """I24: the door asks all of them, and an audit that finds nothing says so."""
    told = answered(await lived_in.office.operator().ask("GET", "/admin/v1/invariants"))
    assert told["ok"] is True
    assert [check["id"] for check in told["checks"]] == [invariant.id for invariant in INVARIANTS]


@pytest.mark.parametrize("table", ["reservation_events", "saga_log", "slot_changes", "payment_signals"])
@pytest.mark.parametrize("how", ["UPDATE {} SET created_at = now()", "DELETE FROM {}", "TRUNCATE {}"])
async def test_history_cannot_be_changed(lived_in: LivedIn, table: str, how: str) -> None:
    """I9: whoever owns the tables: changing, deleting and emptying are refused by the database."""
    statement = how.format(table).replace("created_at", "at" if table == "saga_log" else "created_at")
    with pytest.raises(IntegrityError, match="is history"):
        await lived_in.office.sql(statement)
