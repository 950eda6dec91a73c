"""What operators see of the comparison with Stripe, and how they have it made at once."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from payment_service.api.dependencies import TheParts
from payment_service.states import FindingKind, Pass
from payment_service.store import reconciliation
from shared.door import TheOperator, TheViewer
from shared.operator_actions import Act, record
from shared.problems import Forbidden, Unauthenticated, problem_responses

router = APIRouter(prefix="/admin/v1/reconciliation", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_FINDINGS_SHOWN = 100


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class ComparisonView(_View):
    """How far one comparison has come; `looked` and `found` count since the first day."""

    name: Pass
    seen_until: datetime | None
    finished_at: datetime | None
    reading_until: datetime | None
    looked: int
    found: int
    last_error: str | None


class FindingView(_View):
    """An object at Stripe that no row of ours knew; the amount in minor units."""

    id: UUID
    kind: FindingKind
    stripe_id: str
    payment_id: UUID | None
    amount: int
    currency: str
    created_at: datetime


class ReconciliationView(_View):
    """The comparisons, and the newest findings."""

    comparisons: list[ComparisonView]
    findings: list[FindingView]


@router.get("", operation_id="getReconciliation", responses=problem_responses(*_ROLE))
async def get_reconciliation(parts: TheParts, _by: TheViewer) -> ReconciliationView:
    """Show how far Stripe's book has been compared with ours, and what was found."""
    async with parts.database.reading() as connection:
        rows = await reconciliation.state(connection)
        findings = await reconciliation.latest_findings(connection, limit=_FINDINGS_SHOWN)
    return ReconciliationView(
        comparisons=[ComparisonView.model_validate(row) for row in rows],
        findings=[FindingView.model_validate(finding) for finding in findings],
    )


@router.post("/run", status_code=202, operation_id="runReconciliation", responses=problem_responses(*_ROLE))
async def run_reconciliation(parts: TheParts, by: TheOperator) -> ReconciliationView:
    """Have the comparisons made at the next tick; repeat the call as often as you like."""
    async with parts.database.transaction("run_reconciliation") as tx:
        await reconciliation.run_now(tx)
        await record(tx, Act(by.subject, "runReconciliation"), "reconciliation")
    return await get_reconciliation(parts, by)
