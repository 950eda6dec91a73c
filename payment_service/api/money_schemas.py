"""What operators and auditors are shown of money: where it is, where it went, and how that is known."""

from datetime import datetime
from uuid import UUID

from payment_service.api.schemas import PaymentRowView, View
from payment_service.states import Account, DisputeStatus, Posting, RefundStatus
from shared.payment_contract import PaymentStatus


class RefundView(View):
    """A refund; `failure` is the provider's word for why it came back."""

    id: UUID
    amount: int
    reason: str
    status: RefundStatus
    stripe_refund_id: str | None
    failure: str | None
    created_at: datetime


class DisputeView(View):
    """A dispute that the guest's bank opened."""

    stripe_dispute_id: str
    amount: int
    status: DisputeStatus
    reason: str
    created_at: datetime


class LedgerEntryView(View):
    """Half of a transaction: what one account gained (plus) or lost, in minor units."""

    id: int
    transaction_id: UUID
    posting: Posting
    cause: str
    account: Account
    amount: int
    currency: str
    created_at: datetime


class PaymentDetailView(PaymentRowView):
    """A payment and its money; `balances` comes from the ledger alone."""

    balances: dict[Account, int]
    refunds: list[RefundView]
    disputes: list[DisputeView]
    ledger: list[LedgerEntryView]


class AccountTotal(View):
    """What one account has of one currency, in minor units."""

    currency: str
    account: Account
    amount: int


class LedgerTotals(View):
    """All accounts, by currency."""

    data: list[AccountTotal]


class AuditRefundView(View):
    id: UUID
    amount: int
    status: RefundStatus
    stripe_refund_id: str | None


class AuditPaymentView(View):
    """A payment for the three-way audit; rows younger than a minute may still be on their way."""

    id: UUID
    reservation_id: UUID
    generation: int
    version: int
    status: PaymentStatus
    amount: int
    currency: str
    captured: int
    refunded: int
    stripe_payment_intent_id: str | None
    updated_at: datetime
    unchanged_s: float
    refunds: list[AuditRefundView]
    disputed: int
    balance: int
    trouble: str | None
