"""How long a booking's seats wait for its money: every deadline of a saga, judged by the database's clock, in one place."""

from dataclasses import dataclass

from reservation_service.booking.reservations import payment_status
from reservation_service.saga.definition import Event
from reservation_service.settings import ReservationSettings
from reservation_service.store.reservations import Booking
from shared.payment_contract import PaymentStatus

_TOLD_WAIT_MIN_S = 1.0


def next_try_in_s(grown_s: float, *, told_s: float | None, left_s: float | None) -> float:
    """Return how long a step that failed is left alone: as long as we are told, for whoever refused knows best.

    `grown_s` is the wait when nothing is told, longer each time; `left_s` is how long the step may still be tried, or
    None when the number of its failures is the bound: then tries are never closer than they would be untold.
    """
    if left_s is None:
        return max(grown_s, told_s or 0.0)
    return min(grown_s if told_s is None else max(told_s, _TOLD_WAIT_MIN_S), left_s + 0.1)


@dataclass(frozen=True)
class Patience:
    """What is left of a booking's time."""

    booking: Booking
    settings: ReservationSettings

    @property
    def window_left_s(self) -> float:
        """Return how long the guest may still pay; negative when that is over."""
        return float(self.booking["seconds_left"])

    @property
    def grace_left_s(self) -> float:
        """Return how long a payment that nobody can be sure of may still keep the seats."""
        return self.window_left_s + self.settings.unknown_grace_seconds

    def setup_left_s(self, event: Event) -> float:
        """Return how long a payment may still be set up: what was never sent ends with the window, a doubt with the grace."""
        return self.grace_left_s if event is Event.UNKNOWN else self.window_left_s

    def may_begin(self, *, maybe_sent: bool) -> bool:
        """Tell whether a step before the pivot may be taken (again): nothing new is begun when the window is over."""
        return (self.grace_left_s if maybe_sent else self.window_left_s) > 0

    @property
    def capture_left_s(self) -> float | None:
        """Return how long an authorisation may still be captured with an hour to spare; None when there is no telling.

        The window ends with the authorisation, so that an outage of hours loses no booking whose money is secured.
        """
        if payment_status(self.booking) is not PaymentStatus.AUTHORIZED or self.booking["capturable_s"] is None:
            return None
        return float(self.booking["capturable_s"]) - self.settings.capture_margin_seconds
