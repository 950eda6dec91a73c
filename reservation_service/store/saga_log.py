"""The journal of sagas: what was started, what came of it; enough to go on from after any crash."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Float, RowMapping, Text, and_, bindparam, false, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ColumnElement, Select

from reservation_service.states import LIVE_SAGA, BegunBy, SagaStatus
from reservation_service.store.tables import payment_signals, reservations, saga_log, sagas
from shared.changes import Shape, assignments, from_now, placed, shape_of, written
from shared.due_rows import claim_due, claim_one, finish, make_due, put_back, renewal
from shared.prepared import Prepared
from shared.problems import current_trace_id

SagaRow = Mapping[str, Any]

_LEASED = func.coalesce(sagas.c.lease_until > func.clock_timestamp(), false())
_SHOWN = (sagas, _LEASED.label("leased"), func.clock_timestamp().label("now"))
"""A row, with what only the database's clock may judge."""


def shown_sagas() -> Select[Any]:
    """Return the question for sagas, each with what only the database's clock may judge."""
    return select(*_SHOWN)


_ONE = Prepared(shown_sagas().where(sagas.c.id == bindparam("saga_id")))
_LOCK = Prepared(renewal(sagas).returning(*_SHOWN))
_LINES = Prepared(select(saga_log).where(saga_log.c.saga_id == bindparam("saga_id")).order_by(saga_log.c.id))
_BEGUN = ("id", "reservation_id", "status", "generation", "flags", "unwinding_because", "trace_id", "begun_by")
_CREATE = Prepared(
    insert(sagas)
    .values(
        due_at=func.clock_timestamp(),
        lease_until=from_now(bindparam("lease_s", type_=Float)),
        lease_epoch=1,
        attempts=1,
        **placed(sagas, *_BEGUN),
    )
    .returning(sagas)
)


@dataclass(frozen=True)
class NewLine:
    """A line that is to be written into a journal."""

    step: str
    direction: str
    event: str
    detail: Any = None


async def create(
    tx: AsyncConnection,
    *,
    saga_id: UUID,
    reservation_id: UUID,
    generation: int,
    flags: Mapping[str, bool],
    lease_s: float,
    status: SagaStatus = SagaStatus.RUNNING,
    begun_by: BegunBy = BegunBy.CONVERT,
    unwinding_because: str | None = None,
) -> SagaRow:
    """Create a saga that this process leases from its first moment (epoch 1); without a lease it is due for anybody."""
    return await _CREATE.one(
        tx,
        id=saga_id,
        reservation_id=reservation_id,
        status=status,
        generation=generation,
        flags=dict(flags),
        unwinding_because=unwinding_because,
        trace_id=current_trace_id(),
        begun_by=begun_by,
        lease_s=lease_s,
    )


async def append(
    tx: AsyncConnection, row: SagaRow, step: str, direction: str, event: str, *, detail: Any = None
) -> None:
    """Write one line of the journal; the caller has locked the saga's row under its lease."""
    await append_all(tx, row, [NewLine(step, direction, event, detail)])


async def append_all(tx: AsyncConnection, row: SagaRow, lines: Sequence[NewLine]) -> None:
    """Write lines in this order, in one statement."""
    if lines:
        values = {f"{name}{number}": value for number, line in enumerate(lines) for name, value in vars(line).items()}
        await _append(len(lines)).count(tx, of_saga=row["id"], of_epoch=row["lease_epoch"], **values)


@cache
def _append(lines: int) -> Prepared:
    """Return the insert of so many lines: as many as one transaction has steps, which are few."""
    common = {
        "saga_id": bindparam("of_saga", type_=saga_log.c.saga_id.type),
        "epoch": bindparam("of_epoch", type_=saga_log.c.epoch.type),
    }
    names = ("step", "direction", "event", "detail")
    return Prepared(
        insert(saga_log).values([common | placed(saga_log, *names, number=number) for number in range(lines)])
    )


async def lines(connection: AsyncConnection, saga_id: UUID) -> Sequence[Mapping[str, Any]]:
    """Return the journal of a saga, in order."""
    return await _LINES.rows(connection, saga_id=saga_id)


async def saga(connection: AsyncConnection, saga_id: UUID) -> SagaRow | None:
    return await _ONE.row(connection, saga_id=saga_id)


def _of_the_present_payment() -> ColumnElement[bool]:
    return and_(reservations.c.id == sagas.c.reservation_id, sagas.c.generation == reservations.c.generation)


_LIVE = Prepared(
    select(sagas)
    .join(reservations, _of_the_present_payment())
    .where(sagas.c.reservation_id == bindparam("of_reservation"))
    .where(or_(*(sagas.c.status == status for status in sorted(LIVE_SAGA))))
)


async def live_saga_of(connection: AsyncConnection, reservation_id: UUID) -> SagaRow | None:
    """Return the one saga of a booking, and of the payment that it has now, which still has something to do; or None."""
    return await _LIVE.row(connection, of_reservation=reservation_id)


async def sagas_of(connection: AsyncConnection, reservation_id: UUID) -> Sequence[SagaRow]:
    """Return all sagas of a booking, the newest first."""
    query = shown_sagas().where(sagas.c.reservation_id == reservation_id).order_by(sagas.c.id.desc())
    rows: Sequence[SagaRow] = (await connection.execute(query)).mappings().all()
    return rows


async def newest_of(connection: AsyncConnection, reservation_id: UUID) -> SagaRow | None:
    """Return the saga of the present payment: its journal says how the booking came to stand as it does."""
    return await _NEWEST.row(connection, of_reservation=reservation_id)


async def lock_newest_of(tx: AsyncConnection, reservation_id: UUID) -> SagaRow | None:
    """Lock the same saga."""
    return await _NEWEST_LOCKED.row(tx, of_reservation=reservation_id)


_NEWEST_FIRST = (
    shown_sagas()
    .join(reservations, _of_the_present_payment())
    .where(sagas.c.reservation_id == bindparam("of_reservation"))
    .order_by(sagas.c.id.desc())
    .limit(1)
)
_NEWEST = Prepared(_NEWEST_FIRST)
_NEWEST_LOCKED = Prepared(_NEWEST_FIRST.with_for_update(of=sagas))


async def lock(tx: AsyncConnection, saga_id: UUID, epoch: int, *, lease_s: float) -> SagaRow | None:
    """Lock the saga and lengthen the lease; None when another worker has taken over and nothing may be written."""
    return await _LOCK.row(tx, row_id=saga_id, epoch=epoch, lease_s=lease_s)


async def lock_for_a_person(tx: AsyncConnection, saga_id: UUID) -> SagaRow | None:
    """Lock a saga whatever its status and lease; the caller looks at both before it changes anything."""
    query = shown_sagas().where(sagas.c.id == saga_id).with_for_update(of=sagas)
    row: SagaRow | None = (await tx.execute(query)).mappings().one_or_none()
    return row


async def take_in_hand(tx: AsyncConnection, saga_id: UUID, status: SagaStatus, **values: Any) -> None:
    """Let a locked saga go on from a person's word: due now, tries counted anew, and every older worker fenced off."""
    fresh = {"due_at": func.clock_timestamp(), "lease_until": None, "lease_epoch": sagas.c.lease_epoch + 1}
    anew = {"status": status, "attempts": 0, "reason": None, **fresh, **values}
    await tx.execute(update(sagas).where(sagas.c.id == saga_id).values(**anew))


async def open_again(tx: AsyncConnection, saga_id: UUID, *, lease_s: float) -> SagaRow:
    """Let a locked saga that was over walk back, leased by this process from this moment."""
    lease_until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lease_s)
    await take_in_hand(tx, saga_id, SagaStatus.UNWINDING, unwinding_because="asked", lease_until=lease_until)
    return await _ONE.one(tx, saga_id=saga_id)


# Counted for one saga at a time, by its index; as a join it could be a walk through every journal there is.
_IS_FOREIGN = func.array_position(bindparam("known_steps", type_=ARRAY(Text)), saga_log.c.step).is_(None)
_FOREIGN_LINES = (
    select(func.count())
    .select_from(saga_log)
    .where(saga_log.c.saga_id == sagas.c.id, _IS_FOREIGN)
    .correlate(sagas)
    .scalar_subquery()
)
_KNOWN_TO_US = _FOREIGN_LINES == 0


async def claim(tx: AsyncConnection, saga_id: UUID, *, known_steps: Collection[str], lease_s: float) -> SagaRow | None:
    """Lease one saga now; None when somebody else works on it, nothing is left to do, or a newer release is at it."""
    return await claim_one(tx, sagas, saga_id, lease_s=lease_s, only=_KNOWN_TO_US, known_steps=list(known_steps))


async def claim_batch(
    tx: AsyncConnection, *, known_steps: Collection[str], limit: int, lease_s: float
) -> Sequence[SagaRow]:
    """Lease sagas that fell due and whose journals have no other steps: others stay due, for the release that knows them."""
    return await claim_due(tx, sagas, limit=limit, lease_s=lease_s, only=_KNOWN_TO_US, known_steps=list(known_steps))


async def set_status(tx: AsyncConnection, saga_id: UUID, status: SagaStatus, **values: Any) -> SagaRow:
    """Change the status of a locked saga; returns it as it then is."""
    changed = {"status": status, **values}
    return await _set(shape_of(changed)).one(tx, saga_id=saga_id, **written(changed))


@cache
def _set(shape: Shape) -> Prepared:
    one = update(sagas).where(sagas.c.id == bindparam("saga_id"))
    return Prepared(one.values(**assignments(sagas, shape)).returning(*_SHOWN))


async def rest(tx: AsyncConnection, saga_id: UUID, epoch: int, *, due_in_s: float, **values: Any) -> None:
    """Give the lease up until something happens, or `due_in_s` has passed."""
    await put_back(tx, sagas, saga_id, epoch, due_in_s=due_in_s, **values)


async def end(tx: AsyncConnection, saga_id: UUID, epoch: int, status: SagaStatus, **values: Any) -> None:
    """Give the lease up for good."""
    await finish(tx, sagas, saga_id, epoch, status=status, **values)


async def wake(tx: AsyncConnection, saga_id: UUID) -> None:
    """Let a live saga fall due now: something has changed for it."""
    await make_due(tx, sagas, saga_id)


_STORE_SIGNAL = Prepared(
    upsert(payment_signals)
    .values(placed(payment_signals, "payment_id", "version", "reservation_id", "generation", "body"))
    .on_conflict_do_nothing()
)


async def store_signal(
    tx: AsyncConnection,
    *,
    payment_id: UUID,
    version: int,
    reservation_id: UUID,
    generation: int,
    body: Mapping[str, Any],
) -> bool:
    """Store what payment_service told; False when this version was told before."""
    stored = await _STORE_SIGNAL.count(
        tx,
        payment_id=payment_id,
        version=version,
        reservation_id=reservation_id,
        generation=generation,
        body=dict(body),
    )
    return stored == 1


async def newest_signal(connection: AsyncConnection, payment_id: UUID) -> int:
    """Return the newest version that was told of a payment; 0 when none was."""
    newest = select(func.coalesce(func.max(payment_signals.c.version), 0))
    return int((await connection.execute(newest.where(payment_signals.c.payment_id == payment_id))).scalar_one())


async def signals_of(connection: AsyncConnection, reservation_id: UUID) -> Sequence[RowMapping]:
    """Return what was told of a booking's payments, oldest first."""
    told = select(payment_signals).where(payment_signals.c.reservation_id == reservation_id)
    return (await connection.execute(told.order_by(payment_signals.c.created_at))).mappings().all()
