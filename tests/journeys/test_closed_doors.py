"""Doors that stay closed: tokens that prove nothing, operators' and internal paths, webhooks that nobody signed."""

import json
import time
from typing import Any
from uuid import uuid4

import jwt
import pytest

from tests.answers import CANARY, answered, refused_as, seen
from tests.builders import Guest, a_customer, a_guest, a_hold, a_key, a_slot
from tests.system import System


def bad_tokens(system: System) -> dict[str, str]:
    """Return Authorization headers that prove nothing."""
    credentials, now = system.stack.credentials, int(time.time())
    claims: dict[str, Any] = {"sub": "customer-1", "iat": now, "exp": now + 3600, "roles": ["operator"]}
    good = system.token("customer-1")

    def signed(secret: str, **changes: Any) -> str:
        return jwt.encode({name: value for name, value in (claims | changes).items() if value is not None}, secret)

    secret = credentials.auth_jwt_secret
    unsigned = jwt.encode(claims, "", algorithm="none")
    return {
        "none at all": "",
        "another scheme": f"Basic {good}",
        "no token": "Bearer",
        "rubbish": f"Bearer {CANARY}",
        "expired": f"Bearer {signed(secret, exp=now - 60)}",
        "without an end": f"Bearer {signed(secret, exp=None)}",
        "without a subject": f"Bearer {signed(secret, sub=None)}",
        "an empty subject": f"Bearer {signed(secret, sub='')}",
        "a subject with NUL": f"Bearer {signed(secret, sub=CANARY + chr(0))}",
        "posing as a guest": f"Bearer {signed(secret, sub=f'guest:{uuid4()}')}",
        "another key": f"Bearer {signed('k' * 32)}",
        "a guest's key": f"Bearer {signed(credentials.guest_token_secret)}",
        "unsigned": f"Bearer {unsigned}",
        "another algorithm": f"Bearer {jwt.encode(claims, 's' * 64, algorithm='HS512')}",
        "a changed signature": f"Bearer {good[:-4]}AAAA",
    }


@pytest.mark.parametrize("path", ["/v1/holds/00000000-0000-0000-0000-000000000000", "/admin/v1/invariants"])
def test_a_token_that_proves_nothing_opens_nothing(system: System, path: str) -> None:
    """X02: missing, forged, expired or unsigned tokens are 401, at the public door and at the operators'."""
    for name, header in bad_tokens(system).items():
        answer = system.call("reservation", "GET", path, headers={"Authorization": header} if header else {})
        assert answer.status_code == 401, f"{name}: {seen(answer)}"
        refused_as(answer, (401, "UNAUTHENTICATED"))
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_guest_token_never_has_roles(system: System) -> None:
    """X02, X05: even a guest token that is signed with the guests' own secret and claims to be an operator's is a guest's."""
    claims = jwt.decode(a_guest(system).token, options={"verify_signature": False})
    secret = system.stack.credentials.guest_token_secret
    proud = claims | {"roles": ["operator"], "scope": "bookings:external"}
    guest = Guest(system, jwt.encode(proud, secret, algorithm="HS256"))
    refused_as(guest.ask("GET", "/admin/v1/invariants"), (403, "FORBIDDEN"))
    hold = a_hold(guest, a_slot(system))
    refused_as(guest.convert(hold["id"], mode="external"), (403, "FORBIDDEN"))


def test_the_admin_door_is_for_operators(system: System) -> None:
    """X02: a customer is told 403 at the operators' door; a viewer may look and not touch."""
    guest = a_customer(system)
    refused_as(guest.ask("GET", "/admin/v1/invariants"), (403, "FORBIDDEN"))
    refused_as(guest.ask("POST", "/admin/v1/experiences", json={}), (403, "FORBIDDEN"))
    viewer = Guest(system, system.token("viewer-1", roles=["viewer"]))
    answered(viewer.ask("GET", "/admin/v1/invariants"))
    refused_as(viewer.ask("POST", "/admin/v1/experiences", json={}), (403, "FORBIDDEN"))


def test_internal_doors_open_only_to_signed_calls(system: System) -> None:
    """X03, X05: neither nobody, nor a guest, nor an operator may call what only the other service may."""
    payment = {
        "payment_id": str(uuid4()),
        "reservation_id": str(uuid4()),
        "generation": 1,
        "amount": 1,
        "currency": "EUR",
    }
    doors = [("payment", "/internal/v1/payments"), ("reservation", "/internal/v1/payment-events")]
    for service, path in doors:
        for token in (None, a_customer(system).token, system.stack.operator_token()):
            answer = system.call(service, "POST", path, token=token, key=a_key(), json=payment)
            refused_as(answer, (401, "INTERNAL_SIGNATURE_INVALID"))


def test_a_webhook_that_stripe_did_not_sign_is_refused(system: System) -> None:
    """W09, W10: anonymous bytes at the webhook door are 400 or 413 and are not stored."""
    event = json.dumps({"id": f"evt_{CANARY}", "object": "event", "type": "payment_intent.succeeded"}).encode()
    signatures = ["", CANARY, "t=1,v1=00", f"t={int(time.time())},v1={'0' * 64}", "t=99999999999999999999,v1=é"]
    for body in (event, b"\xff\xfe", b"", b"[" * 100_000):
        for signature in signatures:
            headers = [(b"Stripe-Signature", signature.encode())] if signature else []
            answer = system.http.post(system.stack.url("payment") + "/webhooks/stripe", content=body, headers=headers)
            refused_as(answer, (400, "WEBHOOK_SIGNATURE_INVALID"))
    huge = system.call("payment", "POST", "/webhooks/stripe", content=b"x" * (1024 * 1024 + 1))
    refused_as(huge, (413, "PAYLOAD_TOO_LARGE"))
    stored = system.admin("payment", "GET", "/webhook-events?limit=100")["data"]
    assert f"evt_{CANARY}" not in {row["stripe_event_id"] for row in stored}
