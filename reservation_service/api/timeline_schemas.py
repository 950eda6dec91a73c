"""The bodies of a booking's story: what its guest is told of it, and what operators see besides."""

from typing import Literal

from pydantic import Field

from reservation_service.api.schemas import View
from shared.bodies import Instant


class MomentView(View):
    """One thing that happened to a reservation."""

    at: Instant
    service: Literal["reservation", "payment"]
    kind: str = Field(description="state, saga, message, operator, lock; of the payment: status, call, webhook")
    what: str


class TimelineView(View):
    data: list[MomentView]
    partial: bool = Field(description="the payment's part is missing, because nobody told it in time")


class OperatorsMomentView(MomentView):
    """The same with what guests do not see."""

    detail: str
    by: str
    trace_id: str


class OperatorsTimelineView(View):
    data: list[OperatorsMomentView]
    partial: bool
