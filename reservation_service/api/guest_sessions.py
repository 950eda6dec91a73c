"""Anonymous customers: a storefront gets a token for a guest who has no account."""

from datetime import timedelta

import jwt
from fastapi import APIRouter, Response

from reservation_service.api.answers import json_answer
from reservation_service.api.dependencies import TheParts
from reservation_service.api.schemas import GuestSessionView
from reservation_service.errors import RateLimited
from shared.auth import GUEST_ISSUER
from shared.identifiers import new_id
from shared.problems import problem_responses

router = APIRouter(tags=["guests"], responses=problem_responses(RateLimited))


@router.post("/v1/guest-sessions", status_code=201, operation_id="createGuestSession", response_model=GuestSessionView)
async def create_guest_session(parts: TheParts) -> Response:
    """Give a guest a token of their own; whoever holds it owns the holds and reservations made with it."""
    now = parts.clock.now()
    expires_at = now.replace(microsecond=0) + timedelta(days=parts.settings.guest_token_days)
    claims = {"iss": GUEST_ISSUER, "sub": f"guest:{new_id()}", "iat": now, "exp": expires_at}
    token = jwt.encode(claims, parts.settings.guest_token_secret.get_secret_value(), algorithm="HS256")
    return json_answer(GuestSessionView(token=token, expires_at=expires_at), status=201)
