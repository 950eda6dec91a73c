"""Stripe's side of the three-way audit: what Stripe shows of our payments right now, asked through this service's own access."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from payment_service.api.dependencies import TheParts
from payment_service.api.schemas import View
from payment_service.errors import CursorUnknown, ProviderAway
from payment_service.states import Book
from shared.door import ListView, TheViewer
from shared.problems import Forbidden, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1", tags=["admin"])

_REFUSALS = (Unauthenticated, Forbidden, ValidationFailed, CursorUnknown, ProviderAway)
Cursor = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_]{1,255}$")]


class StripeObjectView(View):
    """A PaymentIntent, refund or dispute, its status in our words; `received` is an intent's alone."""

    id: str
    payment_intent: str
    payment_id: UUID | None
    status: str
    amount: int
    currency: str
    received: int
    created_at: datetime | None


@router.get("/stripe-export", operation_id="exportStripe", responses=problem_responses(*_REFUSALS))
async def export_stripe(
    parts: TheParts, _by: TheViewer, book: Book, starting_after: Cursor = None
) -> ListView[StripeObjectView]:
    """List what Stripe has of ours, live, in pages of at most a hundred, newest first; a page may be short or empty."""
    page = await parts.exporting.page(book, after=starting_after)
    cursor = page.last_id if page.has_more else None
    return ListView(data=[_view(item) for item in page.items], has_more=page.has_more, next_cursor=cursor)


def _view(item: Any) -> StripeObjectView:
    return StripeObjectView(
        id=item.id,
        payment_intent=getattr(item, "intent_id", item.id),
        payment_id=getattr(item, "payment_id", None),
        status=item.status,
        amount=item.amount,
        currency=item.currency,
        received=getattr(item, "received", 0),
        created_at=getattr(item, "created_at", None),
    )
