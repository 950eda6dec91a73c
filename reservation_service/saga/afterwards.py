"""What a message means for a saga that is over: money that is not back after all, or came after all, opens it again."""

from reservation_service.booking.reservations import is_money_missing, payment_status
from reservation_service.saga.definition import REFUND_FAILED, Event, RemoteStep, Saga
from reservation_service.saga.journal import Journal
from reservation_service.states import BookingStatus, SagaStatus
from reservation_service.store import reservations, saga_log
from reservation_service.store.saga_log import SagaRow
from shared.database import Connection, Row
from shared.payment_contract import PaymentStatus

_ENDED = frozenset({BookingStatus.CANCELLED, BookingStatus.FAILED})


async def take_up_again(tx: Connection, page: Saga, row: SagaRow) -> bool:
    """Open a compensated saga again whose guest is owed money; True when it has something to do now.

    A refund that failed for good is a person's matter: another one is only ordered on an operator's word. Money that
    came for a cancelled booking is given back at once. What a person has vouched for stays as it is, unless a refund
    fails that had not failed when they did.
    """
    booking = await reservations.lock_booking(tx, row["reservation_id"])
    if row["status"] != SagaStatus.COMPENSATED or booking is None or booking["status"] not in _ENDED:
        return False
    failed = payment_status(booking) is PaymentStatus.REFUND_FAILED
    if not is_money_missing(booking) or not (failed or booking["status"] == BookingStatus.CANCELLED):
        return False
    lines = await saga_log.lines(tx, row["id"])
    journal = Journal.of(lines)
    step = _undone_with_the_money(page, journal)
    if step is None or (journal.is_vouched_for() and not (failed and _is_news(lines[-1]))):
        return False
    await saga_log.append(tx, row, step.name, "undo", Event.IN_VAIN)
    if failed:
        await saga_log.take_in_hand(
            tx, row["id"], SagaStatus.NEEDS_ATTENTION, due_at=None, reason=f"{step.undo.__name__}: {REFUND_FAILED}"
        )
        return False
    await saga_log.take_in_hand(tx, row["id"], SagaStatus.UNWINDING, unwinding_because="asked")
    return True


def _is_news(vouched: Row) -> bool:
    """Tell whether a refund that has failed had not failed yet in the eyes of whoever vouched; older lines do not say."""
    saw = (vouched["detail"] or {}).get("payment_status")
    return saw is not None and saw != PaymentStatus.REFUND_FAILED


def _undone_with_the_money(page: Saga, journal: Journal) -> RemoteStep | None:
    """Return the step whose undo gives the money back: the pivot if it was ever taken, else the one before it."""
    started = {line.step for line in journal.lines if line.direction == "do" and line.event == Event.STARTED}
    taken = [part for part in page.parts if isinstance(part, RemoteStep) and part.name in started]
    return taken[-1] if taken else None
