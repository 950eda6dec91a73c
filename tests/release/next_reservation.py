"""`python -m tests.release.next_reservation`: reservation_service as a later release may be: it knows more than this one.

A step of the saga in the middle of the line, a flag, and a word in what it writes to payment_service.
"""

import runpy
from dataclasses import replace

from reservation_service import behaviours, flags
from reservation_service.saga import steps
from reservation_service.saga.definition import LocalStep, Saga
from reservation_service.saga.reservation_saga import reservation_saga
from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import SagaRow
from shared.database import Connection
from shared.flags import Flag
from shared.payment_contract import CreatePayment

STEP = "greet_the_guest"
FLAG = "greetings"
_AFTER = "create_payment_intent"


class _CreatePayment(CreatePayment):
    greeting: str = "from a later release"


async def _greet(_tx: Connection, booking: Booking, _saga: SagaRow) -> Booking:
    """Do nothing but be in the journal, where an older release meets it."""
    return booking


def longer(saga: Saga) -> Saga:
    """Return the saga with one step more."""
    at = next(place for place, part in enumerate(saga.parts) if part.name == _AFTER) + 1
    greeting = LocalStep(STEP, do=_greet, undo=_greet, refused_because="cannot be")
    return replace(saga, parts=(*saga.parts[:at], greeting, *saga.parts[at:]))


if __name__ == "__main__":
    vars(behaviours)["reservation_saga"] = lambda act: longer(reservation_saga(act))
    vars(flags)["FLAGS"] = (*flags.FLAGS, Flag(FLAG, off_means="nobody is greeted"))
    vars(steps)["CreatePayment"] = _CreatePayment
    runpy.run_module("reservation_service", run_name="__main__")
