"""Decides what late money is good for: the seats once more, if nothing stands against it, or only its way back."""

from reservation_service.states import BookingStatus, LatePaymentPolicy, Notice, SlotStatus
from reservation_service.store import catalogue, reservations, slots
from reservation_service.store.reservations import Booking
from shared.database import Connection

DEADLINE = "deadline"
"""Why a booking has failed whose only fault it was to be late."""

_LAPSED_BATCH = 100


def is_over(booking: Booking) -> bool:
    """Tell whether a booking ended without ever having been final: money on it is money that nobody waits for.

    One that was final before it was cancelled has its money dealt with by its own saga, as the policy says.
    """
    over = booking["status"] in {BookingStatus.FAILED, BookingStatus.CANCELLED}
    return bool(over and booking["confirmed_at"] is None)


async def rebook(tx: Connection, booking: Booking) -> Notice:
    """Make a locked booking that is over pending again, its seats taken anew, if there is nothing against it.

    Returns REBOOKED, or what the guest must be told instead; then nothing was changed. Its row is locked, as renewal
    locks it, and then its slot's: so nobody supersedes it, books beside it, or takes its seats meanwhile.
    """
    if booking["status"] == BookingStatus.CANCELLED or booking["cancel_requested_at"] is not None:
        return Notice.REFUNDED_CANCELLED
    slot = await catalogue.lock_for_late_money(tx, booking["time_slot_id"])
    if slot["policy"] != LatePaymentPolicy.REBOOK_OR_REFUND or booking["failure_reason"] != DEADLINE:
        return Notice.REFUNDED_LATE
    rivals = await reservations.rivals(tx, booking)
    if rivals["superseded"] or rivals["another"]:
        return Notice.REFUNDED_NEWER_BOOKING
    if slot["status"] != SlotStatus.OPEN or slot["over"]:
        return Notice.REFUNDED_CLOSED
    await slots.expire_due(tx, batch=_LAPSED_BATCH, time_slot_id=booking["time_slot_id"])
    taken = await reservations.take_up(tx, booking, reason="late payment", failure_reason=None)
    return Notice.REBOOKED if taken else Notice.REFUNDED_RESOLD
