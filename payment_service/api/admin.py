"""What operators look at and turn: payments, the invariants, the audit export, flags."""

from typing import Annotated

from fastapi import APIRouter, Query

from payment_service.api.dependencies import TheOperator, ThePage, TheParts, TheViewer
from payment_service.api.schemas import (
    AuditPaymentView,
    CheckView,
    FlagChangeBody,
    FlagsView,
    FlagView,
    InvariantsView,
    ListView,
    PaymentRowView,
    list_of,
)
from payment_service.errors import FlagNotFound
from payment_service.store import audit, payments
from shared.flags import Override
from shared.payment_contract import PaymentStatus
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

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


@router.get("/invariants", operation_id="checkInvariants", responses=problem_responses(*_ROLE))
async def check_invariants(parts: TheParts, _by: TheViewer) -> InvariantsView:
    """Check whether money and messages are as they must be, all at one moment."""
    async with parts.database.snapshot() as connection:
        found = [(invariant, await audit.violations(connection, invariant)) for invariant in audit.INVARIANTS]
    checks = [
        CheckView(id=invariant.id, title=invariant.title, violations=count, examples=examples)
        for invariant, (count, examples) in found
    ]
    ok = not any(check.violations for check in checks)
    return InvariantsView(ok=ok, checked_at=parts.clock.now(), checks=checks)


@router.get("/audit-export", operation_id="exportAudit", responses=problem_responses(*_ROLE, ValidationFailed))
async def export_audit(parts: TheParts, _by: TheViewer, page: ThePage) -> ListView[AuditPaymentView]:
    """List payments with their refunds for the three-way audit, in order of id."""
    async with parts.database.reading() as connection:
        rows = await audit.export(connection, limit=page.limit + 1, after=page.after)
    return list_of(AuditPaymentView, rows, page.limit)


@router.get("/flags", operation_id="listFlags", responses=problem_responses(*_ROLE))
async def list_flags(parts: TheParts, _by: TheViewer) -> FlagsView:
    """List every feature flag with its present value."""
    return FlagsView.model_validate({"data": parts.flags.describe()})


@router.put(
    "/flags/{name}",
    operation_id="setFlag",
    responses=problem_responses(*_ROLE, MalformedJson, ValidationFailed, FlagNotFound),
)
async def set_flag(parts: TheParts, by: TheOperator, name: str, body: FlagChangeBody) -> FlagView:
    """Turn a feature flag, for all callers or for a percentage of them; the others see it within a second."""
    if name not in {flag.name for flag in parts.flags.declared}:
        raise FlagNotFound
    override = Override(body.enabled, body.percentage)
    await parts.flags.set(parts.database, name, override, by=by.subject, reason=body.reason)
    return FlagView.model_validate(next(flag for flag in parts.flags.describe() if flag["name"] == name))
