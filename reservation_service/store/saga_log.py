"""The journal of sagas: what was started, what came of it; enough to go on from after any crash."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, and_, bindparam, false, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ColumnElement, Select

from reservation_service.states import LIVE_SAGA, SagaStatus
from reservation_service.store.tables import payment_signals, reservations, saga_log, sagas
from shared.columns import is_one_of
from shared.due_rows import claim_due, claim_one, finish, make_due, put_back, still_mine
from shared.problems import current_trace_id

SagaRow = RowMapping


def _sagas() -> Select[Any]:
    """Select rows with what only the database's clock may judge."""
    leased = func.coalesce(sagas.c.lease_until > func.clock_timestamp(), false())
    return select(sagas, leased.label("leased"), func.clock_timestamp().label("now"))


_ONE = _sagas().where(sagas.c.id == bindparam("saga_id"))
_LINES = select(saga_log).where(saga_log.c.saga_id == bindparam("saga_id")).order_by(saga_log.c.id)


async def create(
    tx: AsyncConnection,
    *,
    saga_id: UUID,
    reservation_id: UUID,
    generation: int,
    flags: Mapping[str, bool],
    lease_s: float,
    **values: Any,
) -> SagaRow:
    """Create a saga that this process leases from its first moment (epoch 1); without a lease it is due for anybody."""
    lease_until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lease_s)
    created = await tx.execute(
        insert(sagas)
        .values(
            id=saga_id,
            reservation_id=reservation_id,
            generation=generation,
            flags=dict(flags),
            trace_id=current_trace_id(),
            due_at=func.clock_timestamp(),
            lease_until=lease_until,
            lease_epoch=1,
            attempts=1,
            **{"status": SagaStatus.RUNNING, **values},
        )
        .returning(sagas)
    )
    row: SagaRow = created.mappings().one()
    return row


async def append(
    tx: AsyncConnection, row: SagaRow, step: str, direction: str, event: str, *, detail: Any = None
) -> None:
    """Write one line of the journal; the caller has locked the saga's row under its lease."""
    await tx.execute(
        insert(saga_log).values(
            saga_id=row["id"], step=step, direction=direction, event=event, detail=detail, epoch=row["lease_epoch"]
        )
    )


async def lines(connection: AsyncConnection, saga_id: UUID) -> Sequence[RowMapping]:
    """Return the journal of a saga, in order."""
    found = await connection.execute(_LINES, {"saga_id": saga_id})
    return found.mappings().all()


async def saga(connection: AsyncConnection, saga_id: UUID) -> SagaRow | None:
    row: SagaRow | None = (await connection.execute(_ONE, {"saga_id": saga_id})).mappings().one_or_none()
    return row


async def live_saga_of(connection: AsyncConnection, reservation_id: UUID) -> SagaRow | None:
    """Return the one saga of a booking, and of the payment that it has now, which still has something to do; or None."""
    found = await connection.execute(
        select(sagas)
        .join(reservations, and_(reservations.c.id == sagas.c.reservation_id, _of_the_present_payment()))
        .where(sagas.c.reservation_id == reservation_id, sagas.c.status.in_(sorted(LIVE_SAGA)))
    )
    return found.mappings().one_or_none()


def _of_the_present_payment() -> ColumnElement[bool]:
    return sagas.c.generation == reservations.c.generation


async def sagas_of(connection: AsyncConnection, reservation_id: UUID) -> Sequence[SagaRow]:
    """Return all sagas of a booking, the newest first."""
    query = _sagas().where(sagas.c.reservation_id == reservation_id).order_by(sagas.c.id.desc())
    rows: Sequence[SagaRow] = (await connection.execute(query)).mappings().all()
    return rows


async def newest_of(connection: AsyncConnection, reservation_id: UUID) -> SagaRow | None:
    """Return the saga of the present payment: its journal says how the booking came to stand as it does."""
    row: SagaRow | None = (await connection.execute(_newest(reservation_id))).mappings().one_or_none()
    return row


async def lock_newest_of(tx: AsyncConnection, reservation_id: UUID) -> SagaRow | None:
    """Lock the same saga."""
    row: SagaRow | None = (await tx.execute(_newest(reservation_id).with_for_update(of=sagas))).mappings().one_or_none()
    return row


def _newest(reservation_id: UUID) -> Select[Any]:
    query = _sagas().join(reservations, and_(reservations.c.id == sagas.c.reservation_id, _of_the_present_payment()))
    return query.where(sagas.c.reservation_id == reservation_id).order_by(sagas.c.id.desc()).limit(1)


async def page(connection: AsyncConnection, *, status: str | None, limit: int, after: UUID | None) -> Sequence[SagaRow]:
    """Return sagas, newest first."""
    query = _sagas().order_by(sagas.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(sagas.c.status == status)
    if after is not None:
        query = query.where(sagas.c.id < after)
    rows: Sequence[SagaRow] = (await connection.execute(query)).mappings().all()
    return rows


async def lock(tx: AsyncConnection, saga_id: UUID, epoch: int, *, lease_s: float) -> SagaRow | None:
    """Lock the saga and lengthen the lease; None when another worker has taken over and nothing may be written."""
    if not await still_mine(tx, sagas, saga_id, epoch, lease_s=lease_s):
        return None
    return await saga(tx, saga_id)


async def lock_for_a_person(tx: AsyncConnection, saga_id: UUID) -> SagaRow | None:
    """Lock a saga whatever its status and lease; the caller looks at both before it changes anything."""
    query = _sagas().where(sagas.c.id == saga_id).with_for_update(of=sagas)
    row: SagaRow | None = (await tx.execute(query)).mappings().one_or_none()
    return row


async def take_in_hand(tx: AsyncConnection, saga_id: UUID, status: SagaStatus, **values: Any) -> None:
    """Let a locked saga go on from a person's word: due now, tries counted anew, and every older worker fenced off."""
    fresh = {"due_at": func.clock_timestamp(), "lease_until": None, "lease_epoch": sagas.c.lease_epoch + 1}
    await set_status(tx, saga_id, status, **{"attempts": 0, "reason": None, **fresh, **values})


async def open_again(tx: AsyncConnection, saga_id: UUID, *, lease_s: float) -> SagaRow:
    """Let a locked saga that was over walk back, leased by this process from this moment."""
    lease_until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lease_s)
    await take_in_hand(tx, saga_id, SagaStatus.UNWINDING, unwinding_because="asked", lease_until=lease_until)
    row: SagaRow = (await tx.execute(_sagas().where(sagas.c.id == saga_id))).mappings().one()
    return row


async def reasons(connection: AsyncConnection) -> Mapping[str, int]:
    """Return why sagas need attention, and how many of them for each reason."""
    counted = select(sagas.c.reason, func.count()).where(sagas.c.status == SagaStatus.NEEDS_ATTENTION)
    rows = await connection.execute(counted.group_by(sagas.c.reason))
    return {str(reason): int(count) for reason, count in rows}


async def count_walking_back(connection: AsyncConnection) -> int:
    """Return how many sagas of bookings that have ended are still on their way back: money is all that is left there."""
    found = await connection.execute(
        select(func.count(sagas.c.id))
        .join(reservations, reservations.c.id == sagas.c.reservation_id)
        .where(
            text(f"{is_one_of('sagas.status', sorted(LIVE_SAGA))}"),  # as the partial index has it
            sagas.c.status == SagaStatus.UNWINDING,
            reservations.c.seats_pinned.is_(False),
        )
    )
    return int(found.scalar_one())


async def claim(tx: AsyncConnection, saga_id: UUID, *, lease_s: float) -> SagaRow | None:
    """Lease one saga now; None when somebody else works on it, or nothing is left to do."""
    return await claim_one(tx, sagas, saga_id, lease_s=lease_s)


async def claim_batch(tx: AsyncConnection, *, limit: int, lease_s: float) -> Sequence[SagaRow]:
    """Lease sagas that fell due."""
    return await claim_due(tx, sagas, limit=limit, lease_s=lease_s)


async def set_status(tx: AsyncConnection, saga_id: UUID, status: SagaStatus, **values: Any) -> None:
    await tx.execute(update(sagas).where(sagas.c.id == saga_id).values(status=status, **values))


async def rest(tx: AsyncConnection, saga_id: UUID, epoch: int, *, due_in_s: float, **values: Any) -> None:
    """Give the lease up until something happens, or `due_in_s` has passed."""
    await put_back(tx, sagas, saga_id, epoch, due_in_s=due_in_s, **values)


async def end(tx: AsyncConnection, saga_id: UUID, epoch: int, status: SagaStatus, **values: Any) -> None:
    """Give the lease up for good."""
    await finish(tx, sagas, saga_id, epoch, status=status, **values)


async def wake(tx: AsyncConnection, saga_id: UUID) -> None:
    """Let a live saga fall due now: something has changed for it."""
    await make_due(tx, sagas, saga_id)


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
    stored = await tx.execute(
        upsert(payment_signals)
        .values(
            payment_id=payment_id,
            version=version,
            reservation_id=reservation_id,
            generation=generation,
            body=dict(body),
        )
        .on_conflict_do_nothing()
    )
    return stored.rowcount == 1


async def newest_signal(connection: AsyncConnection, payment_id: UUID) -> int:
    """Return the newest version that was told of a payment; 0 when none was."""
    newest = select(func.coalesce(func.max(payment_signals.c.version), 0))
    return int((await connection.execute(newest.where(payment_signals.c.payment_id == payment_id))).scalar_one())


async def signals_of(connection: AsyncConnection, reservation_id: UUID) -> Sequence[RowMapping]:
    """Return what was told of a booking's payments, oldest first."""
    told = select(payment_signals).where(payment_signals.c.reservation_id == reservation_id)
    return (await connection.execute(told.order_by(payment_signals.c.created_at))).mappings().all()
