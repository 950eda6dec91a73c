"""The admin endpoints that both services have: feature flags, what operators did, and the report of the invariants."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from shared import operator_actions
from shared.bodies import ShortText, StrictBody
from shared.clock import Clock
from shared.database import Database
from shared.door import ListView, TheOperator, ThePage, TheViewer, list_of
from shared.flags import Flags, Override
from shared.invariants import Finding, Invariant, check_all
from shared.problems import Forbidden, MalformedJson, NotFound, Unauthenticated, ValidationFailed, problem_responses


class FlagNotFound(NotFound):
    code, title = "FLAG_NOT_FOUND", "There is no such flag"


class SetFlagBody(StrictBody):
    """PUT /admin/v1/flags/{name}."""

    enabled: bool
    percentage: int = Field(100, ge=0, le=100)
    reason: ShortText


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class FlagView(_View):
    name: str
    enabled: bool
    percentage: int
    overridden: bool
    default: bool
    since: str
    off_means: str


class FlagList(_View):
    data: list[FlagView]


class InvariantReport(_View):
    ok: bool
    checked_at: datetime
    checks: list[Finding]


class OperatorActionView(_View):
    """One action of an operator: who, what, on what, why, and what it changed from what to what."""

    id: UUID
    operator: str
    action: str
    target: str
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str
    trace_id: str
    created_at: datetime


class DeskParts(Protocol):
    """What the desk needs of an app's parts."""

    @property
    def database(self) -> Database: ...

    @property
    def flags(self) -> Flags: ...

    @property
    def clock(self) -> Clock: ...


async def _desk(request: Request) -> DeskParts:
    parts: DeskParts = request.app.state.parts
    return parts


_TheDesk = Annotated[DeskParts, Depends(_desk)]
_ROLE = (Unauthenticated, Forbidden)


def operator_desk(invariants: Sequence[Invariant]) -> APIRouter:
    """Return the routes of one service, whose `store/audit.py` has these invariants."""
    router = APIRouter(prefix="/admin/v1", tags=["admin"])

    @router.get("/flags", operation_id="listFlags", responses=problem_responses(*_ROLE))
    async def list_flags(desk: _TheDesk, _by: TheViewer) -> FlagList:
        """List this service's feature flags with what each one turned off means."""
        return FlagList(data=[FlagView(**flag) for flag in desk.flags.describe()])

    @router.put(
        "/flags/{name}",
        operation_id="setFlag",
        responses=problem_responses(*_ROLE, MalformedJson, ValidationFailed, FlagNotFound),
    )
    async def set_flag(desk: _TheDesk, by: TheOperator, name: str, body: SetFlagBody) -> FlagView:
        """Turn a flag, for all callers or for a percentage of them; other processes see it within a second."""
        if name not in {flag.name for flag in desk.flags.declared}:
            raise FlagNotFound
        override = Override(body.enabled, body.percentage)
        await desk.flags.set(desk.database, name, override, by=by.subject, reason=body.reason)
        return next(FlagView(**flag) for flag in desk.flags.describe() if flag["name"] == name)

    @router.get(
        "/operator-actions", operation_id="listOperatorActions", responses=problem_responses(*_ROLE, ValidationFailed)
    )
    async def list_operator_actions(
        desk: _TheDesk,
        _by: TheViewer,
        page: ThePage,
        target: Annotated[ShortText | None, Query(description="the id or name of what was acted on")] = None,
        operator: Annotated[ShortText | None, Query(description="who acted")] = None,
    ) -> ListView[OperatorActionView]:
        """List what operators did in this service, newest first."""
        async with desk.database.reading() as connection:
            rows = await operator_actions.page(
                connection, limit=page.limit + 1, after=page.after, target=target, operator=operator
            )
        return list_of(OperatorActionView, rows, page.limit)

    @router.get("/invariants", operation_id="checkInvariants", responses=problem_responses(*_ROLE))
    async def check_invariants(desk: _TheDesk, _by: TheViewer) -> InvariantReport:
        """Check on live data, all at one moment, what must never be untrue."""
        async with desk.database.snapshot() as connection:
            checks = await check_all(connection, invariants)
        ok = not any(check.violations for check in checks)
        return InvariantReport(ok=ok, checked_at=desk.clock.now(), checks=checks)

    return router
