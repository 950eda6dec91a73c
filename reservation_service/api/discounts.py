"""Discounts as operators see them: who may use which code when, how often, and how often it is used."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import TheParts
from reservation_service.api.discount_schemas import (
    ChangeDiscountBody,
    CreateDiscountBody,
    DiscountView,
    FixedOff,
    PercentageOff,
)
from reservation_service.booking import discounts
from reservation_service.errors import DiscountExists, DiscountNotFound, ExperienceNotFound
from reservation_service.store.discounts import Discount
from shared.bodies import parse_id
from shared.door import ListView, TheOperator, ThePage, TheViewer, list_of
from shared.operator_actions import Act
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_BODY = (MalformedJson, ValidationFailed)
_AS_STORED = (
    "id", "code", "experience_id", "valid_from", "valid_until", "max_uses", "max_uses_per_customer", "active", "used",
    "created_at",
)  # fmt: skip


@router.post(
    "/discounts",
    status_code=201,
    operation_id="addDiscount",
    response_model=DiscountView,
    responses=problem_responses(*_ROLE, *_BODY, ExperienceNotFound, DiscountExists),
)
async def add_discount(parts: TheParts, by: TheOperator, body: CreateDiscountBody) -> Response:
    """Add a discount code; what it takes off never changes afterwards."""
    wanted = {**body.model_dump(exclude={"off"}), **_stored(body.off)}
    discount_id = await discounts.add_discount(parts.database, wanted, Act(by.subject, "addDiscount"))
    return json_answer(_view(await discounts.read_discount(parts.database, discount_id)), status=201)


@router.get(
    "/discounts",
    operation_id="listDiscounts",
    response_model=ListView[DiscountView],
    responses=problem_responses(*_ROLE, ValidationFailed),
)
async def list_discounts(parts: TheParts, _by: TheViewer, page: ThePage) -> Response:
    """List discounts, newest first, with how often each is used."""
    rows = await discounts.page_of_discounts(parts.database, limit=page.limit + 1, after=page.after)
    return json_answer(list_of(DiscountView, [_view(row) for row in rows], page.limit))


@router.get(
    "/discounts/{discount_id}",
    operation_id="getDiscount",
    response_model=DiscountView,
    responses=problem_responses(*_ROLE, DiscountNotFound),
)
async def get_discount(parts: TheParts, _by: TheViewer, discount_id: str) -> Response:
    """Show a discount with how often it is used."""
    return json_answer(_view(await discounts.read_discount(parts.database, _id(discount_id))))


@router.patch(
    "/discounts/{discount_id}",
    operation_id="changeDiscount",
    response_model=DiscountView,
    responses=problem_responses(*_ROLE, *_BODY, DiscountNotFound),
)
async def change_discount(parts: TheParts, by: TheOperator, discount_id: str, body: ChangeDiscountBody) -> Response:
    """Turn a discount off or on, change its dates or limits; a limit below what is used only stops new uses."""
    wanted = _id(discount_id)
    act = Act(by.subject, "changeDiscount", body.reason)
    changes = body.model_dump(exclude_unset=True, exclude={"reason"})
    await discounts.change_discount(parts.database, wanted, changes, act)
    return json_answer(_view(await discounts.read_discount(parts.database, wanted)))


def _id(text: str) -> UUID:
    discount_id = parse_id(text)
    if discount_id is None:
        raise DiscountNotFound
    return discount_id


def _stored(off: PercentageOff | FixedOff) -> dict[str, Any]:
    if isinstance(off, PercentageOff):
        return {"basis_points": off.basis_points, "amount_minor": None, "currency": None}
    return {"basis_points": None, "amount_minor": off.amount, "currency": off.currency}


def _view(row: Discount) -> DiscountView:
    off: PercentageOff | FixedOff
    if row["basis_points"] is not None:
        off = PercentageOff(type="percentage", basis_points=row["basis_points"])
    else:
        off = FixedOff(type="fixed", amount=row["amount_minor"], currency=row["currency"])
    return DiscountView(off=off, **{name: row[name] for name in _AS_STORED})
