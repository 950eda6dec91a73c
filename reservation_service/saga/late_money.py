"""Money that comes when nobody waits for it any more: it wins the booking back, or goes back itself, exactly once.

It gets a saga of its own on the same booking, on the same page: one that begins in the middle. The steps before the
pause count as done, because the payment is there. From there the way leads forward (the seats could be taken again:
capture, confirm), or back (cancel the payment, refund what was captured). Which one is decided in the transaction that
begins it, so a crash finds either nothing begun or a saga like any other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from uuid import UUID

from reservation_service.booking.rebooking import is_over, rebook
from reservation_service.booking.reservations import payment_id
from reservation_service.saga.definition import Event, LocalStep, Pause, Result, Saga, Step
from reservation_service.states import LIVE_SAGA, BegunBy, Notice, SagaStatus
from reservation_service.store import reservations, saga_log
from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import SagaRow
from shared.database import Connection
from shared.identifiers import new_id
from shared.payment_contract import PaymentStatus

BECAUSE = "late"
"""Why a saga turned back that began with late money."""

Told = Mapping[str, Any]
"""The fields of a payment view or event, as the booking keeps them."""


@dataclass(frozen=True)
class LateMoney:
    """A saga that has begun with it, and what the guest is told."""

    saga_id: UUID
    notice: Notice


def is_money(told: Told | None) -> bool:
    """Tell whether a payment stands so that somebody's money is reserved or taken. Disputed money is with the bank."""
    match (told or {}).get("status"):
        case PaymentStatus.AUTHORIZED:
            return True
        case PaymentStatus.CAPTURED | PaymentStatus.PARTIALLY_REFUNDED:
            return bool(told and told["captured"] > told["refunded"])
        case _:
            return False


def is_unseen(look: Result) -> bool:
    """Tell whether a look has not seen if there is money: no answer, or old news, from which nobody may conclude."""
    return look.stale or look.event in {Event.NOT_SENT, Event.UNKNOWN}


def is_whole(booking: Booking, told: Told) -> bool:
    """Tell whether it is all that the booking costs: a part, or another currency, buys no seats."""
    whole = told["amount"] == booking["total_minor"] and told["currency"] == booking["currency"]
    return whole and told["refunded"] == 0 and told["captured"] in {0, booking["total_minor"]}


async def hear(tx: Connection, page: Saga, booking: Booking, told: Told) -> LateMoney | None:
    """Begin a saga for what was told of a payment of a locked booking, if that is late money which nobody looks after.

    A saga of the same payment that is live will see it by itself. One that has given up on a payment which could not be
    cancelled is relieved of it; but money that already was in the hands of a saga like this is left to the operators.
    """
    if not is_money(told) or not _is_nobodys(booking, told["generation"]):
        return None
    rows = await saga_log.sagas_of(tx, booking["id"])
    same = [row for row in rows if row["generation"] == told["generation"]]
    if any(row["status"] in LIVE_SAGA for row in same):
        return None
    for row in same:
        if row["status"] == SagaStatus.NEEDS_ATTENTION:
            if row["begun_by"] == BegunBy.LATE_MONEY:
                return None
            await relieve(tx, page, row)
    return await begin(tx, page, booking, told, flags=rows[0]["flags"] if rows else {})


def _is_nobodys(booking: Booking, generation: int) -> bool:
    return bool(generation < booking["generation"] or (generation == booking["generation"] and is_over(booking)))


def is_of(booking: Booking, payment: UUID, generation: int) -> bool:
    """Tell whether this is the booking's payment of that generation, and not somebody's who says so."""
    return payment == payment_id({**booking, "generation": generation})


async def relieve(tx: Connection, page: Saga, row: SagaRow) -> None:
    """End a saga whose payment turned into late money: a new one takes that over, so here it counts as taken back."""
    for step in _before_the_pause(page):
        if not isinstance(step, LocalStep):
            await saga_log.append(tx, row, step.name, "undo", Event.DONE, detail={"left_to": BegunBy.LATE_MONEY})
    await saga_log.take_in_hand(tx, row["id"], SagaStatus.COMPENSATED, due_at=None)


async def begin(tx: Connection, page: Saga, booking: Booking, told: Told, *, flags: Mapping[str, bool]) -> LateMoney:
    """Take the booking up again, or only its money, and begin the saga that does the rest; due at once, for anybody."""
    notice = await _decide(tx, booking, told)
    forward = notice is Notice.REBOOKED
    row = await saga_log.create(
        tx,
        saga_id=new_id(),
        reservation_id=booking["id"],
        generation=told["generation"],
        flags=flags,
        lease_s=0,
        begun_by=BegunBy.LATE_MONEY,
        status=SagaStatus.RUNNING if forward else SagaStatus.UNWINDING,
        unwinding_because=None if forward else BECAUSE,
    )
    for step in _before_the_pause(page):
        if isinstance(step, LocalStep):
            if forward:
                await saga_log.append(tx, row, step.name, "do", Event.DONE, detail={"because": notice})
            continue
        await saga_log.append(tx, row, step.name, "do", Event.STARTED)
        await saga_log.append(tx, row, step.name, "do", Event.DONE, detail={"because": notice})
    if not forward:  # that it is booked again is told when it is
        await reservations.tell_guest(tx, booking["id"], notice)
    return LateMoney(row["id"], notice)


async def _decide(tx: Connection, booking: Booking, told: Told) -> Notice:
    if told["generation"] != booking["generation"]:
        return Notice.REFUNDED_OLDER_PAYMENT
    return await rebook(tx, booking) if is_whole(booking, told) else Notice.REFUNDED_LATE


def _before_the_pause(page: Saga) -> Iterator[Step]:
    return (
        part for part in takewhile(lambda part: not isinstance(part, Pause), page.parts) if not isinstance(part, Pause)
    )
