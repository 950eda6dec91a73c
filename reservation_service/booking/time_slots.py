"""What operators do to departures: add one, change its capacity, close it, open it again, or cancel it for good."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from reservation_service.errors import CapacityBelowTaken, ExperienceNotFound, SlotClosed, TimeSlotNotFound
from reservation_service.states import SlotStatus
from reservation_service.store import catalogue, slot_cancellations, slots
from shared.database import Database, Row
from shared.identifiers import new_id
from shared.operator_actions import Act, record, record_change
from shared.problems import invalid_member

_LAPSED_AT_ONCE = 1000


async def add_time_slot(
    database: Database, experience_id: UUID, *, starts_at: datetime, ends_at: datetime, capacity: int, act: Act
) -> UUID:
    """Add a departure. Raises ExperienceNotFound, or ValidationFailed when it would end before it starts."""
    if ends_at <= starts_at:
        raise invalid_member("/ends_at", "must be after starts_at")
    slot_id = new_id()
    async with database.transaction("add_time_slot") as tx:
        sold = await catalogue.share_experience(tx, experience_id)
        if sold is None:
            raise ExperienceNotFound
        try:
            sells_until = starts_at.astimezone(UTC) - timedelta(minutes=sold["cutoff_minutes"])
        except OverflowError:
            raise invalid_member("/starts_at", "out of range") from None
        slot = {
            "id": slot_id,
            "experience_id": experience_id,
            "starts_at": starts_at,
            "ends_at": ends_at,
            "sells_until": sells_until,
            "capacity": capacity,
        }
        await catalogue.add_time_slot(tx, slot)
        await record(tx, act, slot_id, after=slot)
    return slot_id


async def change_time_slot(
    database: Database, slot_id: UUID, *, capacity: int | None, status: str | None, act: Act
) -> None:
    """Change how many seats there are, or whether the slot sells; who did it and why is kept.

    Cancelling is for good: sales end here, and what happens to its bookings is put in line in the same transaction.
    Raises TimeSlotNotFound, CapacityBelowTaken (409), and SlotClosed (409) for a slot that was cancelled.
    """
    async with database.transaction("change_time_slot") as tx:
        if capacity is not None:
            await slots.expire_due(tx, batch=_LAPSED_AT_ONCE, time_slot_id=slot_id)  # lapsed seats are free seats
        slot = await catalogue.lock_time_slot(tx, slot_id)
        if slot is None:
            raise TimeSlotNotFound
        changes = _changes(slot, capacity=capacity, status=status)
        if changes:
            await catalogue.change_time_slot(tx, slot_id, changes)
            await slot_cancellations.note_change(tx, slot_id, changes, changed_by=act.by, reason=act.why)
            await record_change(tx, act, slot_id, slot, changes)
        if changes.get("status") == SlotStatus.CANCELLED:
            await slot_cancellations.start(tx, slot_id)


def _changes(slot: Row, *, capacity: int | None, status: str | None) -> dict[str, int | str]:
    """Return what is to be changed: nothing when the same call comes again."""
    wanted: dict[str, int | str | None] = {"capacity": capacity, "status": status}
    changes = {name: value for name, value in wanted.items() if value is not None and value != slot[name]}
    if changes and slot["status"] == SlotStatus.CANCELLED:
        raise SlotClosed("A cancelled slot stays cancelled.")
    if capacity is not None and capacity < slot["taken"]:
        raise CapacityBelowTaken(taken=slot["taken"])
    return changes
