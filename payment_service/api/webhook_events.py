"""What operators see of Stripe's events, and how they send a dead one round again."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from payment_service.api.dependencies import Parts, TheParts
from payment_service.api.schemas import DeadGroupList, DeadGroupView, WebhookEventView
from payment_service.errors import EventAlreadyProcessed, WebhookEventNotFound
from payment_service.states import EventStatus
from payment_service.store import dead_letters, webhook_events
from shared.bodies import parse_id
from shared.door import ListView, TheOperator, ThePage, TheViewer, list_of
from shared.operator_actions import Act, record_change
from shared.problems import Forbidden, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1/webhook-events", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)


@router.get("", operation_id="listWebhookEvents", responses=problem_responses(*_ROLE, ValidationFailed))
async def list_webhook_events(
    parts: TheParts, _by: TheViewer, page: ThePage, status: Annotated[EventStatus | None, Query()] = None
) -> ListView[WebhookEventView]:
    """List Stripe's events, newest first."""
    async with parts.database.reading() as connection:
        rows = await webhook_events.page(connection, limit=page.limit + 1, after=page.after, status=status)
    return list_of(WebhookEventView, rows, page.limit)


@router.get("/groups", operation_id="groupDeadWebhookEvents", responses=problem_responses(*_ROLE))
async def group_dead_webhook_events(parts: TheParts, _by: TheViewer) -> DeadGroupList:
    """Show the dead events put together by what went wrong, the most frequent first."""
    async with parts.database.reading() as connection:
        groups = await dead_letters.groups(connection)
    return DeadGroupList(data=[DeadGroupView.model_validate(group) for group in groups])


@router.get("/{event_id}", operation_id="getWebhookEvent", responses=problem_responses(*_ROLE, WebhookEventNotFound))
async def get_webhook_event(parts: TheParts, _by: TheViewer, event_id: str) -> WebhookEventView:
    """Show one of Stripe's events."""
    return WebhookEventView.model_validate(await _find(parts, event_id))


@router.post(
    "/{event_id}/replay",
    operation_id="replayWebhookEvent",
    responses=problem_responses(*_ROLE, ValidationFailed, WebhookEventNotFound, EventAlreadyProcessed),
)
async def replay_webhook_event(
    parts: TheParts,
    by: TheOperator,
    event_id: str,
    force: Annotated[bool, Query(description="also when the event has had its effect")] = False,
) -> WebhookEventView:
    """Process an event that has had no effect once more; the object is asked for afresh."""
    known = await _find(parts, event_id)
    event_uuid: UUID = known["id"]
    async with parts.database.transaction("revive_event") as tx:
        revived = await webhook_events.revive(tx, event_uuid, by=by.subject, force=force)
        if revived is None:
            raise EventAlreadyProcessed
        changes = {name: revived[name] for name in ("status", "reason", "attempts")}
        act = Act(by.subject, "replayWebhookEvent", "forced" if force else "")
        await record_change(tx, act, event_uuid, known, changes)
    parts.nudge_webhooks()
    return WebhookEventView.model_validate(revived)


async def _find(parts: Parts, event_id: str) -> dict[str, Any]:
    parsed = parse_id(event_id)
    if parsed is None:
        raise WebhookEventNotFound
    async with parts.database.reading() as connection:
        row = await webhook_events.find(connection, parsed)
    if row is None:
        raise WebhookEventNotFound
    return row
