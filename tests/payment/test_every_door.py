"""Rules that hold at every door of the payment service, whichever it is: they are asked of the API description."""

from time import time
from uuid import uuid4

import jwt
import pytest

from shared.auth import GUEST_ISSUER
from tests.answers import refused
from tests.every_door import body_schemas, operations
from tests.payment.till import JWT_SECRET, Till

ADMIN = {operation.id: operation for operation in operations("payment", "/admin/")}
INTERNAL = {operation.id: operation for operation in operations("payment", "/internal/")}


def guest_token() -> str:
    """Return what a storefront's guest holds, as if its secret were the very one that this service knows."""
    claims = {"iss": GUEST_ISSUER, "sub": "guest:1", "exp": time() + 60, "roles": ["operator"]}
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


@pytest.mark.parametrize("name", ADMIN)
async def test_the_admin_door_is_closed_to_everybody_else(till: Till, name: str) -> None:
    """X02: nobody and a guest 401, a customer 403, at each operation; a viewer 403 where something changes."""
    operation = ADMIN[name]
    path, body = operation.with_ids(uuid4()), {"json": {}} if operation.has_body else {}
    refused(await till.http.request(operation.method, path, **body), 401, "UNAUTHENTICATED")
    guest = {"Authorization": f"Bearer {guest_token()}"}
    refused(await till.http.request(operation.method, path, headers=guest, **body), 401, "UNAUTHENTICATED")
    kept_out = [[], ["admin", "Operator"]] + ([["viewer"]] if operation.method != "GET" else [])
    for roles in kept_out:
        answer = await till.admin(operation.method, path.removeprefix("/admin/v1"), roles=roles, **body)
        refused(answer, 403, "FORBIDDEN")


@pytest.mark.parametrize("name", INTERNAL)
async def test_the_internal_door_is_closed_to_everybody_else(till: Till, name: str) -> None:
    """X05: no token of any kind opens it: only the other service's signature."""
    operation = INTERNAL[name]
    path, body = operation.with_ids(uuid4()), {"json": {}} if operation.has_body else {}
    for headers in ({}, {"Authorization": f"Bearer {guest_token()}"}):
        answer = await till.http.request(operation.method, path, headers=headers, **body)
        refused(answer, 401, "INTERNAL_SIGNATURE_INVALID")


def test_no_admin_body_takes_a_field_that_is_not_written_down() -> None:
    """V02: each object of each operator's body is closed. What the other service sends may grow (ADR 0008)."""
    schemas = list(body_schemas("payment", "/admin/"))
    assert schemas
    for name, schema in schemas:
        assert schema.get("additionalProperties") is False, f"{name} takes any field: {schema.get('title')}"
