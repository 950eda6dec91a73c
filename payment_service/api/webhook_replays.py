"""How operators send many events round again after a fix: plan, look, confirm, watch, stop."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import StringConstraints

from payment_service.api.dependencies import TheParts
from payment_service.api.schemas import ReplayPlanView, ReplayView
from payment_service.errors import WebhookReplayClosed, WebhookReplayNotFound
from payment_service.states import EventStatus
from payment_service.store import webhook_replays
from payment_service.store.webhook_replays import Criteria
from shared.bodies import Instant, ShortText, StrictBody, parse_id
from shared.door import TheOperator, TheViewer
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1/webhook-replays", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_BODY = (MalformedJson, ValidationFailed)


class PlanReplayBody(StrictBody):
    """POST /admin/v1/webhook-replays: which events are meant; what is left out does not matter."""

    status: Literal["dead", "ignored"] = "dead"
    type: ShortText | None = None
    reason: ShortText | None = None
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = None
    received_from: Instant | None = None
    received_to: Instant | None = None


class ConfirmReplayBody(StrictBody):
    """POST /admin/v1/webhook-replays/{id}/confirm."""

    reason: ShortText


async def _replay_id(replay_id: str) -> UUID:
    parsed = parse_id(replay_id)
    if parsed is None:
        raise WebhookReplayNotFound
    return parsed


_TheReplayId = Annotated[UUID, Depends(_replay_id)]


@router.post("", operation_id="planWebhookReplay", status_code=201, responses=problem_responses(*_ROLE, *_BODY))
async def plan_webhook_replay(parts: TheParts, by: TheOperator, body: PlanReplayBody) -> ReplayPlanView:
    """Say which events are meant. Nothing happens to them before the plan is confirmed."""
    criteria = Criteria(**(body.model_dump() | {"status": EventStatus(body.status)}))
    replay, matching = await parts.event_replays.plan(criteria, by=by.subject)
    async with parts.database.reading() as connection:
        sample = await webhook_replays.sample(connection, replay["id"])
    return ReplayPlanView.model_validate({**replay, "matching": matching, "sample": sample})  # type: ignore[dict-item]


@router.get("/{replay_id}", operation_id="getWebhookReplay", responses=problem_responses(*_ROLE, WebhookReplayNotFound))
async def get_webhook_replay(parts: TheParts, _by: TheViewer, replay_id: _TheReplayId) -> ReplayView:
    """Show how far a replay has come."""
    return ReplayView.model_validate(await parts.event_replays.show(replay_id))


@router.post(
    "/{replay_id}/confirm",
    operation_id="confirmWebhookReplay",
    responses=problem_responses(*_ROLE, *_BODY, WebhookReplayNotFound, WebhookReplayClosed),
)
async def confirm_webhook_replay(
    parts: TheParts, by: TheOperator, replay_id: _TheReplayId, body: ConfirmReplayBody
) -> ReplayView:
    """Carry a plan out, a few events at a time; events that have moved on since are left alone."""
    return ReplayView.model_validate(await parts.event_replays.confirm(replay_id, by=by.subject, reason=body.reason))


@router.post(
    "/{replay_id}/cancel",
    operation_id="cancelWebhookReplay",
    responses=problem_responses(*_ROLE, WebhookReplayNotFound, WebhookReplayClosed),
)
async def cancel_webhook_replay(parts: TheParts, by: TheOperator, replay_id: _TheReplayId) -> ReplayView:
    """Send no further event of it round."""
    return ReplayView.model_validate(await parts.event_replays.cancel(replay_id, by=by.subject))
