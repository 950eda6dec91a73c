"""What an event settles at once, in the transaction that stores it, because asking Stripe about it would teach nothing.

Two kinds do. One says what a later question has told us already. The other says that the money is authorised: from
there the only ways are the capture, which Stripe answers with the whole payment, and the end. So nothing rests on that
word alone: if it is not true any more, the capture that follows is refused, and then we ask.

Whatever does not fit to the letter is left to the worker, which asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

from payment_service.gateway.results import IntentSeen
from payment_service.payments import recording
from payment_service.states import CAPTURED, OPEN, class_of
from payment_service.store import payments
from payment_service.store.payments import Payment
from payment_service.store.webhook_events import Hint
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


@dataclass(frozen=True)
class Settled:
    """What came of an event at the door; `changed` says that there is news for the other service."""

    payment_id: UUID
    reason: str | None
    changed: bool


async def old_news(connection: Connection, hint: Hint, told: IntentSeen | None) -> Settled | None:
    """Say what an event settles without changing anything; no lock is needed, for what it says stays true."""
    if hint.type not in _KNOWN_IN or hint.type == _AUTHORIZED or told is None:
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
    return Settled(payment.id, "nothing-new", changed=False)


def _fits(payment: Payment, told: IntentSeen) -> bool:
    mine = (payment.intent_id, payment.id, payment.amount, payment.currency)
    return payment.trouble is None and mine == (told.id, told.payment_id, told.amount, told.currency)
