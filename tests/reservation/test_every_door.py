"""Rules that hold at every door of the reservation service, whichever it is: they are asked of the API description."""

from typing import Any
from uuid import uuid4

import pytest

from tests.answers import answered, refused
from tests.every_door import Operation, body_schemas, operations
from tests.reservation.box_office import CUSTOMER, BoxOffice, Customer

ADMIN = {operation.id: operation for operation in operations("reservation", "/admin/")}
INTERNAL = {operation.id: operation for operation in operations("reservation", "/internal/")}
# What belongs to somebody has its id in the path.
OWNED = {
    operation.id: operation
    for operation in operations("reservation", "/v1/")
    if "{hold_id}" in operation.path or "{reservation_id}" in operation.path
}
_BODIES: dict[str, Any] = {
    "convertHold": {"customer": CUSTOMER, "payment": {"mode": "stripe"}},
    "extendHold": {"seconds": 60},
}


async def guest(office: BoxOffice) -> Customer:
    """Return an anonymous customer, as a storefront makes one."""
    session = answered(await office.http.post("/v1/guest-sessions"), 201)
    return Customer(office.http, session["token"])


@pytest.mark.parametrize("name", ADMIN)
async def test_the_admin_door_is_closed_to_everybody_else(office: BoxOffice, name: str) -> None:
    """X02: nobody 401, a guest and a customer 403, at each operation; a viewer 403 where something changes."""
    operation = ADMIN[name]
    path, body = operation.with_ids(uuid4()), {"json": {}} if operation.has_body else {}
    refused(await office.http.request(operation.method, path, **body), 401, "UNAUTHENTICATED")
    kept_out = [await guest(office), office.customer(), office.customer(roles=["admin", "Operator"], scope="operator")]
    if operation.method != "GET":
        kept_out.append(office.customer(roles=["viewer"]))
    for somebody in kept_out:
        refused(await somebody.ask(operation.method, path, **body), 403, "FORBIDDEN")


@pytest.mark.parametrize("name", INTERNAL)
async def test_the_internal_door_is_closed_to_everybody_else(office: BoxOffice, name: str) -> None:
    """X05: no token of any kind opens it: only the other service's signature."""
    operation = INTERNAL[name]
    path = operation.with_ids(uuid4())
    refused(await office.http.request(operation.method, path, json={}), 401, "INTERNAL_SIGNATURE_INVALID")
    for somebody in (await guest(office), office.customer(), office.operator()):
        answer = await somebody.ask(operation.method, path, key="k", json={})
        refused(answer, 401, "INTERNAL_SIGNATURE_INVALID")


@pytest.mark.parametrize("name", OWNED)
@pytest.mark.parametrize("converted", [False, True], ids=["a hold", "a booking"])
async def test_anothers_id_answers_like_none(office: BoxOffice, name: str, converted: bool) -> None:
    """X01, I24: reading, extending, converting, cancelling: word for word the answer for an id that does not exist."""
    operation, owner, stranger = OWNED[name], office.customer(), office.customer()
    hold_id = answered(await owner.hold(await office.offer()), 201)["id"]
    if converted:
        await owner.convert(hold_id)
    asked = [await ask(stranger, operation, thing) for thing in (hold_id, str(uuid4()))]
    documents = [refused(answer, 404, "HOLD_NOT_FOUND", "RESERVATION_NOT_FOUND") for answer in asked]
    theirs, nothing = ({**document, **_PER_REQUEST} for document in documents)
    assert theirs == nothing
    headers = [{k: v for k, v in answer.headers.items() if k not in _OF_ITS_OWN} for answer in asked]
    assert headers[0] == headers[1]


_PER_REQUEST = {"request_id": "", "instance": "", "trace_id": ""}
_OF_ITS_OWN = {"request-id", "server-timing", "ratelimit", "content-length"}


async def ask(somebody: Customer, operation: Operation, thing: str) -> Any:
    body = {"json": _BODIES.get(operation.id, {})} if operation.has_body else {}
    return await somebody.ask(operation.method, operation.with_ids(thing), key=f"k-{uuid4()}", **body)


@pytest.mark.parametrize("prefix", ["/v1/", "/admin/"])
def test_no_body_takes_a_field_that_is_not_written_down(prefix: str) -> None:
    """V02, V03: each object of each body is closed, and none has a place for what is ours to set."""
    ours = {"status", "caller", "owner", "taken", "version", "confirmed", "released_by", "total", "total_minor", "sub"}
    seen = 0
    for name, schema in body_schemas("reservation", prefix):
        seen += 1
        extra = schema.get("additionalProperties")
        assert extra is False or isinstance(extra, dict), f"{name} takes any field: {schema.get('title')}"
        settable = ours & schema.get("properties", {}).keys()
        assert not settable or prefix == "/admin/", f"{name} lets a client set {settable}"
    assert seen > 3
