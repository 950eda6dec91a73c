"""Sagas as operators see them, and the three verbs for those that do not go on by themselves."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from reservation_service.api.admin_answers import explained_saga_view, saga_view
from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import Parts, TheParts
from reservation_service.api.saga_schemas import ExplainedSagaView, ResolveSagaBody, SagaVerbBody, SagaView
from reservation_service.errors import InvalidSagaStatus, SagaNotFound, SlotUnavailable
from reservation_service.saga.desk import Word
from reservation_service.states import BookingStatus, SagaStatus
from reservation_service.store import saga_lists, saga_log
from shared.bodies import parse_id
from shared.door import ListView, TheOperator, ThePage, TheViewer, list_of
from shared.problems import Forbidden, MalformedJson, Unauthenticated, ValidationFailed, problem_responses

router = APIRouter(prefix="/admin/v1", tags=["admin"])

_ROLE = (Unauthenticated, Forbidden)
_VERB = (*_ROLE, MalformedJson, ValidationFailed, SagaNotFound, InvalidSagaStatus)


@router.get(
    "/sagas",
    operation_id="listSagas",
    response_model=ListView[SagaView],
    responses=problem_responses(*_ROLE, ValidationFailed),
)
async def list_sagas(
    parts: TheParts, _by: TheViewer, page: ThePage, status: Annotated[SagaStatus | None, Query()] = None
) -> Response:
    """List sagas, newest first."""
    async with parts.database.reading() as connection:
        rows = await saga_lists.page(connection, status=status, limit=page.limit + 1, after=page.after)
        views = [saga_view(row, await saga_log.lines(connection, row["id"])) for row in rows]
    return json_answer(list_of(SagaView, views, page.limit))


@router.get(
    "/sagas/{saga_id}",
    operation_id="getSaga",
    response_model=ExplainedSagaView,
    responses=problem_responses(*_ROLE, SagaNotFound),
)
async def get_saga(parts: TheParts, _by: TheViewer, saga_id: str) -> Response:
    """Explain a saga: its booking, its journal, what it waits for, and what an operator can do about it."""
    return await _explained(parts, _saga_id(saga_id))


@router.post(
    "/sagas/{saga_id}/retry",
    operation_id="retrySaga",
    response_model=ExplainedSagaView,
    responses=problem_responses(*_VERB, SlotUnavailable),
)
async def retry_saga(parts: TheParts, by: TheOperator, saga_id: str, body: SagaVerbBody) -> Response:
    """Let a saga try its next step now, as if it had never failed."""
    wanted = _saga_id(saga_id)
    await parts.saga_desk.retry(wanted, Word(by.subject, body.reason))
    return await _explained(parts, wanted)


@router.post(
    "/sagas/{saga_id}/unwind",
    operation_id="unwindSaga",
    response_model=ExplainedSagaView,
    responses=problem_responses(*_VERB),
)
async def unwind_saga(parts: TheParts, by: TheOperator, saga_id: str, body: SagaVerbBody) -> Response:
    """Let a saga take everything back: the payment, money that came with it, then the seats. Ends `cancelled`."""
    wanted = _saga_id(saga_id)
    await parts.saga_desk.unwind(wanted, Word(by.subject, body.reason))
    return await _explained(parts, wanted)


@router.post(
    "/sagas/{saga_id}/resolve",
    operation_id="resolveSaga",
    response_model=ExplainedSagaView,
    responses=problem_responses(*_VERB, SlotUnavailable),
)
async def resolve_saga(parts: TheParts, by: TheOperator, saga_id: str, body: ResolveSagaBody) -> Response:
    """End a saga that needs attention the way the operator vouches for; nothing is called, no money moves."""
    wanted = _saga_id(saga_id)
    await parts.saga_desk.resolve(wanted, BookingStatus(body.outcome), Word(by.subject, body.reason))
    return await _explained(parts, wanted)


def _saga_id(text: str) -> UUID:
    wanted = parse_id(text)
    if wanted is None:
        raise SagaNotFound
    return wanted


async def _explained(parts: Parts, saga_id: UUID) -> Response:
    return json_answer(explained_saga_view(await parts.saga_desk.explain(saga_id)))
