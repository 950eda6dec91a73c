"""Anonymous customers: a storefront gets a token for a guest who has no account."""

from datetime import datetime, timedelta
from uuid import UUID

import jwt
from fastapi import APIRouter, Response

from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import Parts, TheParts
from reservation_service.api.schemas import GuestSessionView
from reservation_service.errors import RateLimited
from shared.auth import BOUND_TO, GUEST_ISSUER
from shared.identifiers import new_id
from shared.problems import problem_responses

router = APIRouter(tags=["guests"], responses=problem_responses(RateLimited))


@router.post("/v1/guest-sessions", status_code=201, operation_id="createGuestSession", response_model=GuestSessionView)
async def create_guest_session(parts: TheParts) -> Response:
    """Give a guest a token of their own; whoever holds it owns the holds and reservations made with it."""
    token, expires_at = guest_token(parts, lasts=timedelta(days=parts.settings.guest_token_days))
    return json_answer(GuestSessionView(token=token, expires_at=expires_at), status=201)


def guest_token(parts: Parts, *, lasts: timedelta, bound_to: UUID | None = None) -> tuple[str, datetime]:
    """Return a token of a subject that nobody else has, and when it ends; `bound_to` leaves it good for that alone."""
    now = parts.clock.now()
    expires_at = now.replace(microsecond=0) + lasts
    claims = {"iss": GUEST_ISSUER, "sub": f"guest:{new_id()}", "iat": now, "exp": expires_at}
    if bound_to is not None:
        claims[BOUND_TO] = str(bound_to)
    return jwt.encode(claims, parts.settings.guest_token_secret.get_secret_value(), algorithm="HS256"), expires_at
