"""Which sagas there are, for people who look through them and for the metrics that call these people."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from reservation_service.states import LIVE_SAGA, SagaStatus
from reservation_service.store.saga_log import SagaRow, shown_sagas
from reservation_service.store.tables import reservations, sagas
from shared.columns import is_one_of


async def page(connection: AsyncConnection, *, status: str | None, limit: int, after: UUID | None) -> Sequence[SagaRow]:
    """Return sagas, newest first."""
    query = shown_sagas().order_by(sagas.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(sagas.c.status == status)
    if after is not None:
        query = query.where(sagas.c.id < after)
    rows: Sequence[SagaRow] = (await connection.execute(query)).mappings().all()
    return rows


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
