"""Every refusal of this service: its status, its code, and what to do about it.

Problem
├── ExperienceNotFound, TimeSlotNotFound, HoldNotFound, ReservationNotFound, SagaNotFound    404
├── DiscountNotFound                                                                         404
├── TicketTypeNotFound, CancellationNotFound, ApiKeyNotFound                                 404
├── SlotUnavailable, SlotClosed, InvalidHoldStatus, InvalidSagaStatus, ...                   409
├── InvalidReservationStatus, OutsideCancellationWindow                                      409
├── HoldExpired                                                                              410
├── VersionConflict                                                                          412
├── PartySizeInvalid, AmountTooSmall, DiscountInvalid, InvalidDateRange                      422
├── RateLimited                                                                              429
└── SlotBusy                                                                                 503
"""

from shared.problems import NotFound, Problem


class ExperienceNotFound(NotFound):
    code, title = "EXPERIENCE_NOT_FOUND", "There is no such experience"


class TimeSlotNotFound(NotFound):
    code, title = "TIME_SLOT_NOT_FOUND", "There is no such time slot"


class HoldNotFound(NotFound):
    code, title = "HOLD_NOT_FOUND", "There is no such hold"


class ReservationNotFound(NotFound):
    code, title = "RESERVATION_NOT_FOUND", "There is no such reservation"


class SagaNotFound(NotFound):
    code, title = "SAGA_NOT_FOUND", "There is no such saga"


class SlotUnavailable(Problem):
    status, code, title = 409, "SLOT_UNAVAILABLE", "Not enough seats are free; `available` says how many are"


class SlotClosed(Problem):
    status, code, title = 409, "SLOT_CLOSED", "This time slot is not for sale (any more)"


class PartySizeInvalid(Problem):
    status, code, title = 422, "PARTY_SIZE_INVALID", "This party is too large, or too small, for this experience"


class AmountTooSmall(Problem):
    status, code, title = 422, "AMOUNT_TOO_SMALL", "The total is below what can be paid by card"


class DiscountInvalid(Problem):
    status, code, title = 422, "DISCOUNT_INVALID", "This discount code is not valid here and now; `reason` says why"


class DiscountNotFound(NotFound):
    code, title = "DISCOUNT_NOT_FOUND", "There is no such discount"


class DiscountExists(Problem):
    status, code, title = 409, "DISCOUNT_EXISTS", "This code is taken, perhaps by a discount that was turned off"


class InvalidDateRange(Problem):
    status, code, title = 422, "INVALID_DATE_RANGE", "Ask for 1 to 92 days: `from` is not later than `to`"


class TooManyActiveHolds(Problem):
    status, code, title = 409, "TOO_MANY_ACTIVE_HOLDS", "Convert or release one of your holds first"


class SlotBusy(Problem):
    status, code, title = 503, "SLOT_BUSY", "This slot could not be had in time; make the same call again"
    retryable = True


class TermsFixed(Problem):
    status, code, title = 409, "TERMS_FIXED", "This cannot be changed once there are time slots"


class TicketCodeTaken(Problem):
    status, code, title = 409, "TICKET_CODE_TAKEN", "Another ticket type of this experience has that code"


class TicketTypeNotFound(NotFound):
    code, title = "TICKET_TYPE_NOT_FOUND", "There is no such ticket type"


class CancellationNotFound(NotFound):
    code, title = "CANCELLATION_NOT_FOUND", "This time slot was not cancelled"


class ApiKeyNotFound(NotFound):
    code, title = "API_KEY_NOT_FOUND", "There is no such API key"


class RateLimited(Problem):
    status, code, title = 429, "RATE_LIMITED", "Too many requests; nothing was done, ask again after `retry_after_ms`"
    retryable = True


class HoldExpired(Problem):
    status, code, title = 410, "HOLD_EXPIRED", "The hold has expired; POST the hold again with the same key to renew it"


class InvalidHoldStatus(Problem):
    status, code, title = 409, "INVALID_HOLD_STATUS", "A hold in this status cannot do that"


class InvalidSagaStatus(Problem):
    status, code, title = (
        409,
        "INVALID_SAGA_STATUS",
        "As this saga stands, that cannot be done; `operator_can` says what can",
    )


class InvalidReservationStatus(Problem):
    status, code, title = 409, "INVALID_RESERVATION_STATUS", "A reservation in this status cannot do that"


class OutsideCancellationWindow(Problem):
    status, code, title = 409, "OUTSIDE_CANCELLATION_WINDOW", "By its terms this booking cannot be cancelled (any more)"


class VersionConflict(Problem):
    status, code, title = 412, "VERSION_CONFLICT", "The reservation has changed; GET it again, or ask for a new quote"


class HoldExtensionLimit(Problem):
    status, code, title = 409, "HOLD_EXTENSION_LIMIT", "This hold cannot be extended any further"


class PaymentModeFixed(Problem):
    status, code, title = 409, "PAYMENT_MODE_FIXED", "How this booking is paid was chosen when it was converted"


class CapacityBelowTaken(Problem):
    status, code, title = 409, "CAPACITY_BELOW_TAKEN", "More seats than that are already taken"


class AmountTooLarge(Problem):
    status, code, title = 422, "AMOUNT_TOO_LARGE", "The total is above what can be paid by card"
