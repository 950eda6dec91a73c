"""Tells a booking's story, one line for each thing that happened in either service, in order."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from reservation_service.booking.reservations import payment_id, pays_by_card
from reservation_service.clients.payments import PaymentsClient
from reservation_service.store import reservations, saga_log
from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import SagaRow
from shared.crashpoints import external_call
from shared.database import Database, Row
from shared.payment_contract import PaymentMoment

_OPERATOR = "operator"  # the step that a journal names when a person has taken a saga in hand

LOCK = "lock"
"""The kind of a line that says how long a lock was waited for; no guest's business."""


@dataclass(frozen=True)
class Moment:
    """One line. `detail`, `by` and `trace_id` are for operators: names of people, codes of banks, words of machines."""

    at: datetime
    service: str
    kind: str
    what: str
    detail: str = ""
    by: str = ""
    trace_id: str = ""


@dataclass(frozen=True)
class Story:
    """All lines in order; `partial` when payment_service did not tell its part in time."""

    moments: Sequence[Moment]
    partial: bool


class Timelines:
    """Reads our own tables, and asks payment_service about every payment that the booking had."""

    def __init__(self, database: Database, payments: PaymentsClient, *, patience_s: float) -> None:
        self._database = database
        self._payments = payments
        self._patience_s = patience_s

    async def of(self, booking: Booking) -> Story:
        theirs = await self._from_payment_service(booking)
        async with self._database.reading() as connection:
            events = await reservations.events(connection, booking["id"])
            signals = await saga_log.signals_of(connection, booking["id"])
            sagas = await saga_log.sagas_of(connection, booking["id"])
            journals = [(saga, await saga_log.lines(connection, saga["id"])) for saga in reversed(sagas)]
        moments = [
            *_wait(booking),
            Moment(booking["created_at"], "reservation", "state", "held"),
            *(_state(event) for event in events),
            *(moment for saga, lines in journals for moment in _saga(saga, lines)),
            *(_message(signal) for signal in signals),
            *(moment for told in theirs if told is not None for moment in _payment(told)),
        ]
        return Story(sorted(moments, key=attrgetter("at")), partial=None in theirs)

    async def _from_payment_service(self, booking: Booking) -> Sequence[Sequence[PaymentMoment] | None]:
        if not pays_by_card(booking):
            return ()
        ids = [payment_id({**booking, "generation": number}) for number in range(1, booking["generation"] + 1)]
        async with external_call("ask_timeline"):
            return await asyncio.gather(*(self._payments.timeline(one, within_s=self._patience_s) for one in ids))


def _wait(booking: Booking) -> Iterator[Moment]:
    if booking["lock_waited_ms"] is not None:
        detail = f"{booking['lock_waited_ms']} ms"
        yield Moment(booking["created_at"], "reservation", LOCK, "waited for the slot's lock", detail)


def _state(event: Row) -> Moment:
    return Moment(
        event["created_at"], "reservation", "state", event["to_status"], event["reason"], trace_id=event["trace_id"]
    )


def _saga(saga: SagaRow, lines: Sequence[Row]) -> Iterator[Moment]:
    trace_id = saga["trace_id"]
    yield Moment(saga["created_at"], "reservation", "saga", "begun", saga["begun_by"], trace_id=trace_id)
    for line in lines:
        told = line["detail"] or {}
        if line["step"] == _OPERATOR:
            yield Moment(line["at"], "reservation", "operator", line["event"], told.get("why", ""), told.get("by", ""))
            continue
        undo = "undo " if line["direction"] == "undo" else ""
        what = f"{undo}{line['step']} {line['event']}"
        yield Moment(line["at"], "reservation", "saga", what, str(told.get("code", "")), trace_id=trace_id)


def _message(signal: Row) -> Moment:
    detail = f"version {signal['version']}, generation {signal['generation']}"
    return Moment(signal["created_at"], "reservation", "message", f"payment {signal['body']['status']}", detail)


def _payment(told: Sequence[PaymentMoment]) -> Iterator[Moment]:
    for one in told:
        yield Moment(one.at, "payment", one.kind, one.what, one.detail)
