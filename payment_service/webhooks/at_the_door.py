"""What an event settles at once, in the transaction that stores it, because asking Stripe about it would teach nothing.

Three kinds do. One is of a type that we do nothing about. One says what an answer has told us already, or is about to
tell. The last one says that the money is authorised: from there the only ways are the capture, which Stripe answers with
the whole payment, and the end. So nothing rests on that word alone: if it is not true any more, the capture that follows
is refused, and then we ask.

Whatever does not fit to the letter is left to the worker, which asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

from payment_service.gateway.results import IntentSeen
from payment_service.payments import recording
from payment_service.states import CAPTURED, OPEN, EventStatus, class_of
from payment_service.store import payments
from payment_service.store.payments import Payment
from payment_service.store.webhook_events import Hint
from payment_service.webhooks.handlers import HANDLERS, UNHANDLED_TYPE
from shared.database import Connection
from shared.payment_contract import PaymentStatus as Is

_AUTHORIZED = "payment_intent.amount_capturable_updated"
_KNOWN_IN: Mapping[str, frozenset[Is]] = MappingProxyType(
    {
        "payment_intent.created": frozenset(Is) - {Is.NONE},
        _AUTHORIZED: frozenset(status for status in Is if class_of(status) > 0),
        "payment_intent.succeeded": CAPTURED,
        "payment_intent.canceled": frozenset({Is.CANCELED}),
    }
)
"""In which statuses of ours an event of this type is old news. None of them is ever left for an earlier class."""


_FROM_OUR_CALLS = _KNOWN_IN.keys() - {_AUTHORIZED}
"""Types of events that calls of ours make; the guest's bank was none."""


@dataclass(frozen=True)
class Settled:
    """What came of an event at the door; `changed` says that there is news for the other service."""

    payment_id: UUID | None
    reason: str | None
    changed: bool = False
    status: EventStatus = EventStatus.PROCESSED


def is_nothing_to_us(hint: Hint) -> Settled | None:
    """Say so of an event that is stored for the record only."""
    return None if hint.type in HANDLERS else Settled(None, UNHANDLED_TYPE, status=EventStatus.IGNORED)


def payment_of_our_call(hint: Hint, told: IntentSeen | None) -> UUID | None:
    """Return the payment whose answer may be on its way, if a call of ours can have made this event."""
    return told.payment_id if told and hint.type in _FROM_OUR_CALLS else None


async def old_news(connection: Connection, hint: Hint, told: IntentSeen | None) -> Settled | None:
    """Say what an event settles without changing anything; no lock is needed, for what it says stays true."""
    if hint.type not in _FROM_OUR_CALLS or told is None:
        return None
    payment = await payments.read_known(connection, hint.intent_id)
    return _known_already(payment, hint, told) if payment else None


async def settle(tx: Connection, hint: Hint, told: IntentSeen | None) -> Settled | None:
    """Give an event its effect in its caller's transaction; None when somebody has to look first."""
    if hint.type != _AUTHORIZED or told is None:
        return None
    payment = await payments.lock_known(tx, hint.intent_id)
    if payment is None:
        return None
    if known := _known_already(payment, hint, told):
        return known
    if not _fits(payment, told) or told.status is not Is.AUTHORIZED or payment.status not in OPEN:
        return None
    # No question was asked, so whatever an answer shows later is newer.
    await recording.intent_seen(tx, payment, told, payment.question)
    return Settled(payment.id, None, changed=True)


def _known_already(payment: Payment, hint: Hint, told: IntentSeen) -> Settled | None:
    if not _fits(payment, told) or payment.status not in _KNOWN_IN[hint.type]:
        return None
    return Settled(payment.id, "nothing-new")


def _fits(payment: Payment, told: IntentSeen) -> bool:
    mine = (payment.intent_id, payment.id, payment.amount, payment.currency)
    return payment.trouble is None and mine == (told.id, told.payment_id, told.amount, told.currency)
