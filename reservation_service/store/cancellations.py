"""What a cancellation has to know: a booking's terms beside its slot's times, and the saga that can take it back."""

from uuid import UUID

from sqlalchemy import RowMapping, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from reservation_service.store.tables import experiences, reservations, time_slots


async def terms(connection: AsyncConnection, booking_id: UUID) -> RowMapping:
    """Return the policy that a booking was converted on (of old ones: its experience's), and when its slot starts.

    `now` is the database's clock, the only one that judges whether there is still time.
    """
    found = await connection.execute(
        select(
            func.coalesce(reservations.c.cancellation_policy, experiences.c.cancellation_policy).label("policy"),
            time_slots.c.starts_at,
            time_slots.c.status.label("slot_status"),
            func.clock_timestamp().label("now"),
        )
        .join(time_slots, time_slots.c.id == reservations.c.time_slot_id)
        .join(experiences, experiences.c.id == time_slots.c.experience_id)
        .where(reservations.c.id == booking_id)
    )
    return found.mappings().one()
