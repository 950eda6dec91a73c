"""What operators look at: payments, and the export that the three-way audit reads."""

from typing import Annotated

from fastapi import APIRouter, Query

from payment_service.api.dependencies import TheParts
from payment_service.api.schemas import AuditPaymentView, PaymentRowView
from payment_service.store import audit, payments
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


@router.get("/audit-export", operation_id="exportAudit", responses=problem_responses(*_ROLE, ValidationFailed))
async def export_audit(parts: TheParts, _by: TheViewer, page: ThePage) -> ListView[AuditPaymentView]:
    """List payments with their refunds for the three-way audit, in order of id."""
    async with parts.database.reading() as connection:
        rows = await audit.export(connection, limit=page.limit + 1, after=page.after)
    return list_of(AuditPaymentView, rows, page.limit)
