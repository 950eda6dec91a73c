"""The bodies of the discounts' API: what operators send, and what they see."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from reservation_service.api.admin_schemas import Why
from reservation_service.api.schemas import View
from shared.bodies import Currency, Id, Instant, StrictBody

Limit = Annotated[int, Field(ge=1, le=1_000_000_000)]


class PercentageOff(StrictBody):
    type: Literal["percentage"]
    basis_points: Annotated[int, Field(ge=1, le=10_000, description="hundredths of a percent: 1250 is 12.5 %")]


class FixedOff(StrictBody):
    """An amount off the subtotal, at most all of it; only for experiences in its currency."""

    type: Literal["fixed"]
    amount: Annotated[int, Field(ge=1, le=99_999_999)]
    currency: Currency


class CreateDiscountBody(StrictBody):
    """Without an experience, a discount is for all of them."""

    code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{2,40}$")]
    off: Annotated[PercentageOff | FixedOff, Field(discriminator="type")]
    experience_id: Id | None = None
    valid_from: Instant | None = None
    valid_until: Instant | None = None
    max_uses: Limit | None = None
    max_uses_per_customer: Limit | None = None


class ChangeDiscountBody(StrictBody):
    """What is left out stays as it is; null takes a date or a limit away."""

    active: bool = True
    valid_from: Instant | None = None
    valid_until: Instant | None = None
    max_uses: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    max_uses_per_customer: Limit | None = None
    reason: Why = ""


class DiscountView(View):
    id: Id
    code: str
    experience_id: Id | None
    off: PercentageOff | FixedOff
    valid_from: Instant | None
    valid_until: Instant | None
    max_uses: int | None
    max_uses_per_customer: int | None
    active: bool
    used: int = Field(description="bookings that pin seats with it now")
    created_at: Instant
