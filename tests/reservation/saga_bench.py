"""Saga engines on a real database, driven by hand: nothing runs by itself, time is moved in the database.

A trigger watches every status move of bookings and sagas from below, so that a move which the code forgets to write
down is seen all the same.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import httpx
from prometheus_client import CollectorRegistry
from sqlalchemy import RowMapping, text

from reservation_service.booking.cancelling import CancelRequest
from reservation_service.booking.reservations import ConvertRequest, payment_id
from reservation_service.clients.payments import PaymentsClient
from reservation_service.flags import FLAGS, SAGA_ORCHESTRATION
from reservation_service.metrics import Metrics
from reservation_service.saga.calling_off import CallingOff
from reservation_service.saga.definition import Saga
from reservation_service.saga.engine import Engine
from reservation_service.saga.reservation_saga import reservation_saga
from reservation_service.saga.steps import Steps
from reservation_service.settings import ReservationSettings
from reservation_service.states import LEGAL_MOVES, LEGAL_SAGA_MOVES, BookingStatus, CancelledBy, SagaStatus
from reservation_service.store import catalogue, reservations, saga_log, slots
from reservation_service.store.audit import INVARIANTS
from reservation_service.store.reservations import Booking
from reservation_service.store.tables import flag_overrides
from shared.auth import Caller
from shared.clock import SystemClock
from shared.database import Database
from shared.flags import Flags, Override
from shared.identifiers import derived_id, new_id
from shared.internal_calls import InternalSeal
from shared.invariants import check_all
from shared.payment_contract import TO_PAYMENT_SERVICE, PaymentStatus
from shared.signing import InternalSigner
from tests import observed_moves
from tests.doubles.scripted_payments import Entry, ScriptedPayments
from tests.reservation.box_office import CUSTOMER, KEYS, settings_for

ANNA = Caller("anna")
TOTAL_MINOR = 4500
SEATS = 2
CAPACITY = 10


def plain_price(total_minor: int) -> dict[str, Any]:
    """Return the price of one line in euros, without a discount."""
    total, nothing = ({"amount": minor, "currency": "EUR"} for minor in (total_minor, 0))
    return {"subtotal": total, "discount": nothing, "total": total, "currency": "EUR", "lines": [{"amount": total}]}


@dataclass(frozen=True)
class Story:
    """One booking and the slot it has to itself."""

    hold_id: UUID
    slot_id: UUID
    payment_id: UUID


class Bench:
    """A database, a scripted payment_service, and as many engines as a test wants."""

    def __init__(self, database: Database, settings: ReservationSettings, flags: Flags) -> None:
        self.database = database
        self.settings = settings
        self.flags = flags
        self.payments = ScriptedPayments()
        self.audited = False
        self._clients: list[httpx.AsyncClient] = []
        signer = InternalSigner(KEYS, tag=TO_PAYMENT_SERVICE, clock=SystemClock())
        self._seal = InternalSeal(signer, bearer=settings.internal_bearer_secret, signed=lambda: True)
        self.engine = self.another_engine()

    def another_engine(self, *, release: Callable[[Saga], Saga] = lambda saga: saga, **changed: Any) -> Engine:
        """Return an engine as another process would have it; `release` says what a later one has made of the saga."""
        http = httpx.AsyncClient(base_url="http://payments", transport=self.payments.transport, trust_env=False)
        self._clients.append(http)
        settings = self.settings.model_copy(update=changed)
        client = PaymentsClient(http, self._seal, call_timeout_s=settings.internal_call_timeout_s)
        saga = reservation_saga(Steps(client, async_payment_max_s=settings.async_payment_max_seconds))
        return Engine(self.database, release(saga), settings, Metrics(CollectorRegistry()), SystemClock())

    def reset(self) -> None:
        """Let everybody be honest again; what was audited before says nothing about what comes."""
        self.audited = False
        self.payments.heal()

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        await self.database.close()

    # a story

    async def story(self, *, total_minor: int = TOTAL_MINOR, capture_method: str = "manual") -> Story:
        """Hold two of the ten seats of a slot of its own."""
        slot_id, hold_id = await self._slot(), new_id()
        hold = slots.NewHold(
            hold_id=hold_id,
            caller=ANNA.subject,
            key=str(hold_id),
            fingerprint=b"f",
            time_slot_id=slot_id,
            seats=SEATS,
            ttl_s=600,
            items=[],
            price=plain_price(total_minor),
            total_minor=total_minor,
            currency="EUR",
            capture_method=capture_method,
            client_reference=None,
            metadata=None,
            active_holds_max=10_000,
        )
        async with self.database.transaction("test") as tx:
            await slots.take_seats(tx, hold)
            booking = await reservations.booking(tx, hold_id)
        assert booking is not None
        return Story(hold_id, slot_id, payment_id(booking))

    async def copies(self, count: int, *, total_minor: int = 0) -> list[Story]:
        """Put `count` equal holds on one slot, by copying one: as many requests would take their time."""
        story = await self.story(total_minor=total_minor)
        await self.sql(
            "UPDATE time_slots SET capacity = :taken, taken = :taken WHERE id = :id",
            taken=count * SEATS,
            id=story.slot_id,
        )
        copied = await self.sql(
            "INSERT INTO reservations (id, caller, time_slot_id, seats, items, price, total_minor, currency,"
            " capture_method, expires_at, created_expires_at)"
            " SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid,"  # ids look as ours do
            " caller, time_slot_id, seats, items, price, total_minor, currency,"
            " capture_method, expires_at, created_expires_at FROM reservations, generate_series(2, :count) WHERE id = :id"
            " RETURNING id",
            count=count,
            id=story.hold_id,
        )
        made = [row["id"] for row in copied]
        return [
            story,
            *(replace(story, hold_id=made_id, payment_id=derived_id(made_id, "payment:1")) for made_id in made),
        ]

    async def _slot(self) -> UUID:
        experience = {
            "id": new_id(),
            "title": "A walk",
            "time_zone": "UTC",
            "currency": "EUR",
            "max_party": 10,
            "cancellation_policy": {"type": "free", "until_minutes_before": 0},
        }
        slot_id = new_id()
        ticket = {"id": new_id(), "experience_id": experience["id"], "position": 0}
        async with self.database.transaction("test") as tx:
            await catalogue.add_experience(
                tx, experience, [{**ticket, "code": "adult", "title": "Adult", "price_minor": 2250, "seats": 1}]
            )
            await tx.execute(
                text(
                    "INSERT INTO time_slots (id, experience_id, starts_at, ends_at, sells_until, capacity)"
                    " SELECT :id, :experience_id, t, t + interval '2 hours', t, :capacity"
                    " FROM (SELECT now() + interval '7 days' AS t) AS start"
                ),
                {"id": slot_id, "experience_id": experience["id"], "capacity": CAPACITY},
            )
        return slot_id

    async def convert(self, story: Story, *, engine: Engine | None = None, mode: str = "stripe") -> Booking:
        request = ConvertRequest(story.hold_id, f"convert-{story.hold_id}", b"c", CUSTOMER, mode)
        engine = engine or self.engine
        return (await engine.convert(ANNA, request, self.flags.snapshot(ANNA.subject))).booking

    async def cancel(self, story: Story, *, engine: Engine | None = None) -> None:
        """Let the guest call the booking off."""
        engine = engine or self.engine
        who: Any = {"who": ANNA.subject, "caller": ANNA.subject, "key": f"cancel-{story.hold_id}", "fingerprint": b"c"}
        desk = CallingOff(self.database, engine, engine._metrics)
        await desk.cancel(CancelRequest(story.hold_id, CancelledBy.GUEST, **who))

    # time

    async def turn(self, *engines: Engine) -> int:
        """Let everything be due that is unfinished, leases run out, and each engine look once; return how many ran."""
        await self.sql("UPDATE sagas SET due_at = clock_timestamp(), lease_until = NULL WHERE due_at IS NOT NULL")
        found = [await engine.run_due() for engine in engines or (self.engine,)]
        for engine in engines or (self.engine,):
            await engine.drain(10)
        return sum(found)

    async def pass_deadline(self, story: Story, *, by_s: float = 0.5) -> None:
        """Let the payment window have closed `by_s` seconds ago."""
        await self.sql(
            "UPDATE reservations SET pay_until = clock_timestamp() - make_interval(secs => :by_s) WHERE id = :id",
            id=story.hold_id,
            by_s=by_s,
        )

    async def pass_grace(self, story: Story) -> None:
        """Let the time be over in which an unknown payment may keep the seats."""
        await self.pass_deadline(story, by_s=self.settings.unknown_grace_seconds + 1)

    async def pay(self, story: Story, *, engine: Engine | None = None) -> bool:
        """Let the guest pay and payment_service tell so; True when that was news."""
        engine = engine or self.engine
        applied = await engine.signal(self.payments.pay(story.payment_id))
        await engine.drain(10)
        return applied

    def is_payable(self, story: Story) -> bool:
        entry = self.payments.book.get(story.payment_id)
        return entry is not None and entry.status is PaymentStatus.REQUIRES_PAYMENT

    async def run_to_rest(self, story: Story, *, pays: bool = True, turns: int = 25) -> None:
        """Turn until the saga is over; the guest pays as soon as there is something to pay, if they do."""
        for _ in range(turns):
            row = await self.saga(story)
            if row is None or row["due_at"] is None:
                return
            if pays and self.is_payable(story) and (await self.booking(story))["status"] == "pending":
                await self.pay(story)
            else:
                await self.turn()

    # what can be seen

    async def sql(self, statement: str, **values: Any) -> Sequence[RowMapping]:
        async with self.database.transaction("test") as tx:
            result = await tx.execute(text(statement), values)
            return result.mappings().all() if result.returns_rows else ()

    async def forge(self, *statements: str, **values: Any) -> None:
        """Run statements that history refuses: its triggers are asleep, and so are foreign keys."""
        async with self.database.transaction("forge") as tx:
            await tx.execute(text("SET LOCAL session_replication_role = replica"))
            for statement in statements:
                await tx.execute(text(statement), values)

    async def booking(self, story: Story) -> Booking:
        async with self.database.reading() as connection:
            found = await reservations.booking(connection, story.hold_id)
        assert found is not None
        return found

    async def saga(self, story: Story) -> RowMapping | None:
        """Return the newest saga of the booking: the first one, or that of money which came late."""
        rows = await self.sql("SELECT * FROM sagas WHERE reservation_id = :id ORDER BY id DESC", id=story.hold_id)
        return rows[0] if rows else None

    async def the_saga(self, story: Story) -> RowMapping:
        found = await self.saga(story)
        assert found is not None
        return found

    async def journal(self, story: Story) -> list[tuple[str, str, str]]:
        """Return the journal as (step, direction, event)."""
        async with self.database.reading() as connection:
            lines = await saga_log.lines(connection, (await self.the_saga(story))["id"])
        return [(line["step"], line["direction"], line["event"]) for line in lines]

    async def taken(self, story: Story) -> int:
        (row,) = await self.sql("SELECT taken FROM time_slots WHERE id = :id", id=story.slot_id)
        return int(row["taken"])

    def entry(self, story: Story) -> Entry:
        (entry,) = self.payments.of(story.hold_id)
        return entry

    # what must be true

    async def assert_consistent(self) -> None:
        async with self.database.snapshot() as connection:
            found = [found for found in await check_all(connection, INVARIANTS) if found.violations]
        assert not found, found
        await self._assert_observed_moves()
        self.audited = True

    async def _assert_observed_moves(self) -> None:
        moves = await self.sql("SELECT DISTINCT what, from_status, to_status FROM observed_moves")
        for move in moves:
            if move["what"] == "sagas":
                legal = SagaStatus(move["to_status"]) in LEGAL_SAGA_MOVES[SagaStatus(move["from_status"])]
            else:
                legal = BookingStatus(move["to_status"]) in LEGAL_MOVES[BookingStatus(move["from_status"])]
            assert legal, dict(move)

    async def set_orchestration(self, enabled: bool) -> None:
        await self.flags.set(self.database, SAGA_ORCHESTRATION, Override(enabled), by="test", reason="test")


@asynccontextmanager
async def open_bench(
    database_url: str, *, watch: bool = True, tune: Callable[[ReservationSettings], None] | None = None
) -> AsyncIterator[Bench]:
    """Open a bench on a fresh database."""
    # A grace that only `pass_grace` ends, and patience with the pool: a busy machine is no fault that was planted.
    settings = settings_for(database_url, saga_backoff_max_s=2.0, unknown_grace_seconds=60)
    database = Database.connect(database_url, application_name=f"bench-{uuid4().hex[:8]}", pool_timeout_s=15.0)
    bench = Bench(database, settings, Flags(FLAGS, flag_overrides, {}))
    for statement in observed_moves.watch("observed_moves", "reservations", "sagas") if watch else ():
        await bench.sql(statement)
    try:
        yield bench
    finally:
        await bench.engine.drain(5)
        await bench.close()
