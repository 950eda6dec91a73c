"""Keeps the ledger in step with the rows: every fact about money becomes two entries, in the transaction that made it.

The facts are read from the rows, and what the ledger lacks is posted. So nothing is posted twice, whoever calls how
often, and what an older release changed is made up for by the same function.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from payment_service.states import DISPUTE_HOLDS_MONEY, REFUND_WITHOUT_EFFECT, DisputeStatus, Posting, RefundStatus
from payment_service.store import disputes, ledger, payments
from payment_service.store.disputes import Dispute
from payment_service.store.ledger import Fact
from payment_service.store.payments import Payment, Refund
from shared.database import Connection, Database
from shared.payment_contract import PaymentStatus

POST_BATCH = 200

Posted = frozenset[tuple[Posting, str]]


async def follow(tx: Connection, payment: Payment) -> None:
    """Post what the rows of a locked payment show and its ledger does not.

    Only what is taken back depends on what was posted before; a fact that is there already is not posted again.
    """
    has_more = bool(payment.captured) and await ledger.has_more(tx, payment.id)
    refunds = await payments.refunds_of(tx, payment.id) if has_more else []
    disputed = await disputes.of_payment(tx, payment.id) if has_more else []
    takes_back = has_more or payment.status == PaymentStatus.CANCELED
    posted = await ledger.posted(tx, payment.id) if takes_back else frozenset()
    await ledger.post(
        tx, payment, [fact for fact in facts(payment, refunds, disputed, posted) if fact.name not in posted]
    )


def facts(payment: Payment, refunds: Sequence[Refund], disputed: Sequence[Dispute], posted: Posted) -> Iterator[Fact]:
    """Yield all that has happened to the money of a payment, in an order in which it can have happened."""
    if payment.status == PaymentStatus.AUTHORIZED or payment.captured:
        yield Fact(Posting.AUTHORIZED, payment.amount)
    if payment.captured:
        yield Fact(Posting.CAPTURED, payment.captured)
    if payment.status == PaymentStatus.CANCELED and (Posting.AUTHORIZED, "") in posted:
        yield Fact(Posting.VOIDED, payment.amount)
    yield from chain.from_iterable(_of_refund(refund, posted) for refund in refunds)
    yield from chain.from_iterable(_of_dispute(dispute) for dispute in disputed)


def _of_refund(refund: Refund, posted: Posted) -> Iterator[Fact]:
    cause = str(refund.id)
    yield Fact(Posting.REFUND_REQUESTED, refund.amount, cause)
    if refund.status == RefundStatus.SUCCEEDED:
        yield Fact(Posting.REFUND_SETTLED, refund.amount, cause)
    elif refund.status in REFUND_WITHOUT_EFFECT:
        was_done = (Posting.REFUND_SETTLED, cause) in posted
        yield Fact(Posting.REFUND_REVERSED if was_done else Posting.REFUND_FAILED, refund.amount, cause)


def _of_dispute(dispute: Dispute) -> Iterator[Fact]:
    cause = dispute.stripe_dispute_id
    if dispute.status in DISPUTE_HOLDS_MONEY or dispute.status == DisputeStatus.WON:
        yield Fact(Posting.DISPUTE_OPENED, dispute.amount, cause)
    if dispute.status == DisputeStatus.WON:
        yield Fact(Posting.DISPUTE_WON, dispute.amount, cause)
    if dispute.status == DisputeStatus.LOST:
        yield Fact(Posting.DISPUTE_LOST, dispute.amount, cause)


class LedgerKeeping:
    """Posts what was changed without the ledger: before it existed, or by an older release that runs beside this one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def post_missing(self) -> int:
        """Do one batch; returns how many payments there were."""
        async with self._database.transaction("post_missing") as tx:
            behind = await ledger.claim_unposted(tx, limit=POST_BATCH)
            for payment in behind:
                await follow(tx, payment)
                await payments.note(tx, payment.id, posted_version=payment.version)
        return len(behind)
