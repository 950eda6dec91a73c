"""THE PAGE: how a hold becomes a confirmed booking, and how each step is taken back.

Whatever started gets undone, in reverse order; an undo accepts that "it never happened". From an unknown outcome we
only ask. Capture is the pivot: before it the way leads back, after it only forward, because confirming cannot be
refused (the seats are pinned). Before the pivot the payment is cancelled first and the seats are released after it,
else money could arrive for seats that are already resold.
"""

from reservation_service.booking.reservations import pays_by_card
from reservation_service.saga.definition import LocalStep, Pause, RemoteStep, Saga
from reservation_service.saga.steps import Steps


def reservation_saga(act: Steps) -> Saga:
    """Return the saga of a booking, its acts bound to one object that holds their dependencies."""
    return Saga(
        "reservation",
        (
            LocalStep(
                "create_hold",
                do=act.create_hold,
                undo=act.release_hold,
                refused_because="slot full",
            ),
            RemoteStep(
                "create_payment_intent",
                do=act.create_payment_intent,
                undo=act.cancel_payment_intent,
                refused_because="amount invalid (an absent provider is no refusal: it is tried again)",
                where="payment service",
                only_if=pays_by_card,
            ),
            Pause(
                "payment_authorized",
                verdict=act.payment_authorized,
                left_s=act.payment_left_s,
                ask=act.ask_payment,
                refused_because="time runs out",
                where="the guest's bank",
            ),
            RemoteStep(
                "capture_payment",
                do=act.capture_payment,
                undo=act.refund_payment,
                refused_because="declined",
                where="payment service",
                only_if=pays_by_card,
                pivot=True,
            ),
            LocalStep(
                "confirm_reservation",
                do=act.confirm_reservation,
                undo=act.cancel_reservation,
                refused_because="cannot be: seats are pinned",
            ),
        ),
    )
