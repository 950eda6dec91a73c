"""The export that the three-way audit reads: every converted booking, page by page, without a word about its guest."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from reservation_service.api.dependencies import TheParts
from reservation_service.states import BookingStatus
from reservation_service.store import audit_export
from shared.door import ListView, ThePage, TheViewer, list_of
from shared.problems import Forbidden, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1", tags=["admin"])

_REFUSALS = (Unauthenticated, Forbidden, ValidationFailed)


class AuditBookingView(BaseModel):
    """A booking for the three-way audit; `refund_due` is empty when all that was captured goes back."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: UUID
    status: BookingStatus
    seats: int
    seats_pinned: bool
    time_slot_id: UUID
    total: int
    currency: str
    payment_mode: str | None
    generation: int
    payment_version: int
    payment_status: str | None
    refund_due: int | None
    open_case: bool
    in_hand: bool
    unchanged_s: float


@router.get("/audit-export", operation_id="exportAudit", responses=problem_responses(*_REFUSALS))
async def export_audit(parts: TheParts, _by: TheViewer, page: ThePage) -> ListView[AuditBookingView]:
    """List converted bookings for the three-way audit, in order of id."""
    async with parts.database.reading() as connection:
        rows = await audit_export.export(connection, limit=page.limit + 1, after=page.after)
    return list_of(AuditBookingView, rows, page.limit)
