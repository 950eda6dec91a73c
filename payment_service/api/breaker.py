"""Where operators see whether Stripe is called, and hold a breaker open or closed when they know better."""

from fastapi import APIRouter

from payment_service.api.dependencies import TheParts
from payment_service.api.schemas import BreakerAction, BreakerList, BreakerView, TurnBreakerBody
from payment_service.errors import BreakerNotFound
from payment_service.states import BreakerState
from shared.door import TheOperator, TheViewer
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1/breaker", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_FORCED = {
    BreakerAction.OPEN: BreakerState.OPEN,
    BreakerAction.CLOSE: BreakerState.CLOSED,
    BreakerAction.AUTO: None,
}


@router.get("", operation_id="listBreakers", responses=problem_responses(*_ROLE))
async def list_breakers(parts: TheParts, _by: TheViewer) -> BreakerList:
    """Show both breakers as this process knows them, which is half a second late at most."""
    return BreakerList(data=[BreakerView.model_validate(seen) for seen in parts.switchboard.seen()])


@router.post(
    "/{name}",
    operation_id="turnBreaker",
    responses=problem_responses(*_ROLE, MalformedJson, ValidationFailed, BreakerNotFound),
)
async def turn_breaker(parts: TheParts, by: TheOperator, name: str, body: TurnBreakerBody) -> BreakerView:
    """Hold a breaker open or closed until `auto` lets it go; every process follows within a second. Repeatable."""
    seen = await parts.switchboard.force(name, _FORCED[body.action], by=by.subject, reason=body.reason)
    return BreakerView.model_validate(seen)
