"""Holds: seats taken for a short time, and the convert call that turns one into a booking."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from reservation_service.api.answers import (
    conditional_answer,
    hold_view,
    json_answer,
    made_hold_json,
    reservation_view,
    sent_json,
    time_left,
)
from reservation_service.api.dependencies import Parts, TheParts
from reservation_service.api.hang_ups import ListeningForHangUp
from reservation_service.api.schemas import ConvertBody, CreateHoldBody, ExtendHoldBody, HoldView, ReservationView
from reservation_service.booking.holds import HoldAnswer, HoldRequest
from reservation_service.booking.reservations import EXTERNAL_SCOPE, ConvertRequest
from reservation_service.errors import (
    AmountTooLarge,
    AmountTooSmall,
    DiscountInvalid,
    HoldExpired,
    HoldExtensionLimit,
    HoldNotFound,
    InvalidHoldStatus,
    PartySizeInvalid,
    PaymentModeFixed,
    RateLimited,
    SlotBusy,
    SlotClosed,
    SlotUnavailable,
    TimeSlotNotFound,
    TooManyActiveHolds,
)
from shared.auth import Caller
from shared.bodies import parse_id
from shared.door import TheCaller, TheKey
from shared.idempotency import fingerprint
from shared.problems import (
    Forbidden,
    IdempotencyKeyInvalid,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    MalformedJson,
    PayloadTooLarge,
    Problem,
    ServiceUnavailable,
    Unauthenticated,
    UnsupportedMediaType,
    ValidationFailed,
    Weather,
    problem_responses,
)

router = APIRouter(tags=["holds"], responses=problem_responses(RateLimited))

_BODY = (MalformedJson, PayloadTooLarge, UnsupportedMediaType, ValidationFailed)
_KEY = (IdempotencyKeyMissing, IdempotencyKeyInvalid, IdempotencyKeyReused)


def _hold_id(text: str) -> UUID:
    hold_id = parse_id(text)
    if hold_id is None:
        raise HoldNotFound
    return hold_id


@router.post(
    "/v1/holds",
    status_code=201,
    operation_id="createHold",
    response_model=HoldView,
    responses=problem_responses(
        Unauthenticated, *_BODY, *_KEY, TimeSlotNotFound, SlotUnavailable, SlotClosed, PartySizeInvalid,
        TooManyActiveHolds, DiscountInvalid, AmountTooSmall, AmountTooLarge, SlotBusy,
    ),
)  # fmt: skip
async def create_hold(
    request: Request, parts: TheParts, caller: TheCaller, key: TheKey, body: CreateHoldBody
) -> Response:
    """Hold seats for a while.

    The same key with the same body replays the hold (`Idempotent-Replayed: true`), and once it has expired or failed
    makes a new one (`Idempotency-Renewed: true`, `supersedes`). A refusal is never stored: the same call may succeed
    later. When seats are lacking, or a place or a use of the discount, the caller's own older holds on this slot make
    way for a new key; they are then `released`.
    """
    return await make_hold(parts, caller, key, body, request)


async def make_hold(parts: Parts, caller: Caller, key: str, body: CreateHoldBody, request: Request) -> Response:
    """Answer a request for a hold that is well-formed, whichever door it has come through. Raises its refusals."""
    sent = body.model_dump(mode="json", exclude_unset=True)
    wanted = HoldRequest(
        key=key,
        fingerprint=fingerprint("POST", request.scope["path"], sent),
        time_slot_id=body.time_slot_id,
        items=[(item.ticket_type_id, item.quantity) for item in body.items],
        ttl_seconds=body.ttl_seconds,
        discount_code=body.discount_code,
        client_reference=body.client_reference,
        metadata=body.metadata,
    )
    try:
        with ListeningForHangUp(request) as hung_up:
            answer = await parts.holds.create(parts.flags.snapshot(caller.subject), caller, wanted, hung_up=hung_up)
    except (Problem, Weather) as refusal:
        code = refusal.code if isinstance(refusal, Problem) else ServiceUnavailable.code  # as it will be answered
        parts.metrics.holds.labels(code.lower()).inc()
        raise
    parts.metrics.holds.labels(_outcome(answer)).inc()
    headers, extensions_max = time_left(answer.booking), parts.settings.hold_extensions_max
    if answer.renewed:
        headers["Idempotency-Renewed"] = "true"
    if answer.as_made:
        return sent_json(made_hold_json(answer.booking, extensions_max=extensions_max), status=201, headers=headers)
    if not answer.created:
        headers["Idempotent-Replayed"] = "true"
    view = hold_view(answer.booking, extensions_max=extensions_max, as_created=True)
    return json_answer(view, status=201, headers=headers)


def _outcome(answer: HoldAnswer) -> str:
    """Return how a request for a hold ended, for those who count."""
    if answer.replaced:
        return "replaced"
    return "renewed" if answer.renewed else "created" if answer.created else "replayed"


@router.get(
    "/v1/holds/{hold_id}",
    operation_id="getHold",
    response_model=HoldView,
    responses=problem_responses(Unauthenticated, HoldNotFound),
)
async def get_hold(request: Request, parts: TheParts, caller: TheCaller, hold_id: str) -> Response:
    """Show a hold as it is now."""
    booking = await parts.holds.read(caller, _hold_id(hold_id))
    view = hold_view(booking, extensions_max=parts.settings.hold_extensions_max)
    return conditional_answer(request, view, time_left(booking))


@router.post(
    "/v1/holds/{hold_id}/extend",
    operation_id="extendHold",
    response_model=HoldView,
    responses=problem_responses(
        Unauthenticated, *_BODY, HoldNotFound, HoldExpired, HoldExtensionLimit, InvalidHoldStatus
    ),
)
async def extend_hold(parts: TheParts, caller: TheCaller, hold_id: str, body: ExtendHoldBody | None = None) -> Response:
    """Keep a hold longer: until `seconds` from now if that is later, a limited number of times."""
    seconds = body.seconds if body else None
    booking = await parts.holds.extend(caller, _hold_id(hold_id), seconds)
    view = hold_view(booking, extensions_max=parts.settings.hold_extensions_max)
    return json_answer(view, headers=time_left(booking))


@router.delete(
    "/v1/holds/{hold_id}",
    operation_id="releaseHold",
    response_model=HoldView,
    responses=problem_responses(Unauthenticated, HoldNotFound, InvalidHoldStatus),
)
async def release_hold(parts: TheParts, caller: TheCaller, hold_id: str) -> Response:
    """Give a hold back, its seats at once; repeating it changes nothing."""
    booking = await parts.holds.release(caller, _hold_id(hold_id))
    view = hold_view(booking, extensions_max=parts.settings.hold_extensions_max)
    return json_answer(view, headers=time_left(booking))


@router.post(
    "/v1/holds/{hold_id}/convert",
    operation_id="convertHold",
    response_model=ReservationView,
    status_code=201,
    responses=problem_responses(
        Unauthenticated, Forbidden, *_BODY, *_KEY, HoldNotFound, HoldExpired, InvalidHoldStatus, SlotClosed,
        PaymentModeFixed,
    )
    | {200: {"model": ReservationView, "description": "The hold was converted before; this is how it stands."}},
)  # fmt: skip
async def convert_hold(
    request: Request, parts: TheParts, caller: TheCaller, key: TheKey, hold_id: str, body: ConvertBody
) -> Response:
    """Turn a hold into a booking and start its payment.

    The same call again is the only retry that a frontend needs: it drives the booking on and answers how it stands.
    201 on the transition, 200 from then on; `outcome` says what to do next, and is never an ambiguous error.
    """
    if body.payment.mode == "external":
        caller.require_scope(EXTERNAL_SCOPE)
    wanted = ConvertRequest(
        hold_id=_hold_id(hold_id),
        key=key,
        fingerprint=fingerprint("POST", request.scope["path"], body.model_dump(mode="json", exclude_unset=True)),
        customer=body.customer.model_dump(exclude_none=True),
        payment_mode=body.payment.mode,
    )
    converted = await parts.engine.convert(caller, wanted, parts.flags.snapshot(caller.subject))
    view = reservation_view(converted.booking, under_way=converted.under_way)
    parts.metrics.conversions.labels(view.outcome.type).inc()
    status = 201 if converted.begun else 200
    return json_answer(view, status=status, headers=time_left(converted.booking))
