"""What operators look at: payments, and the export that the three-way audit reads."""

from typing import Annotated

from fastapi import APIRouter, Query

from payment_service.api.dependencies import TheParts, ThePaymentId
from payment_service.api.money_schemas import (
    AccountTotal,
    AuditPaymentView,
    DisputeView,
    LedgerEntryView,
    LedgerTotals,
    PaymentDetailView,
    RefundView,
)
from payment_service.api.schemas import PaymentRowView
from payment_service.errors import PaymentNotFound
from payment_service.store import audit, disputes, ledger, payments
from shared.door import ListView, ThePage, TheViewer, list_of
from shared.payment_contract import PaymentStatus
from shared.problems import Forbidden, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)


@router.get("/payments", operation_id="listPayments", responses=problem_responses(*_ROLE, ValidationFailed))
async def list_payments(
    parts: TheParts, _by: TheViewer, page: ThePage, status: Annotated[PaymentStatus | None, Query()] = None
) -> ListView[PaymentRowView]:
    """List payments in order of id."""
    async with parts.database.reading() as connection:
        found = await payments.page(connection, limit=page.limit + 1, after=page.after, status=status)
    return list_of(PaymentRowView, found, page.limit)


@router.get(
    "/payments/{payment_id}",
    operation_id="showPayment",
    responses=problem_responses(*_ROLE, PaymentNotFound),
)
async def show_payment(parts: TheParts, _by: TheViewer, payment_id: ThePaymentId) -> PaymentDetailView:
    """Show a payment with its refunds, disputes and ledger; the balances are read from the ledger alone."""
    async with parts.database.snapshot() as connection:
        payment = await payments.read(connection, payment_id)
        if payment is None:
            raise PaymentNotFound
        return PaymentDetailView(
            **PaymentRowView.model_validate(payment).model_dump(),
            balances=await ledger.balances(connection, payment_id),
            refunds=[RefundView.model_validate(row) for row in await payments.refunds_of(connection, payment_id)],
            disputes=[DisputeView.model_validate(row) for row in await disputes.of_payment(connection, payment_id)],
            ledger=[LedgerEntryView.model_validate(row) for row in await ledger.of_payment(connection, payment_id)],
        )


@router.get("/ledger", operation_id="sumUpLedger", responses=problem_responses(*_ROLE))
async def sum_up_ledger(parts: TheParts, _by: TheViewer) -> LedgerTotals:
    """Sum the ledger up per account and currency; the accounts of a currency sum to zero."""
    async with parts.database.reading() as connection:
        rows = await ledger.totals(connection)
    return LedgerTotals(data=[AccountTotal.model_validate(row) for row in rows])


@router.get("/audit-export", operation_id="exportAudit", responses=problem_responses(*_ROLE, ValidationFailed))
async def export_audit(parts: TheParts, _by: TheViewer, page: ThePage) -> ListView[AuditPaymentView]:
    """List payments with their refunds for the three-way audit, in order of id."""
    async with parts.database.reading() as connection:
        rows = await audit.export(connection, limit=page.limit + 1, after=page.after)
    return list_of(AuditPaymentView, rows, page.limit)
