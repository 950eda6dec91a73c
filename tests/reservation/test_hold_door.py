"""Two ways lead to a hold, and nobody can tell by the answer which one was taken: same status, same words, same headers."""

import gc
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from reservation_service.booking.admission import TurnedAway
from reservation_service.errors import SlotUnavailable
from reservation_service.flags import LEAN_HOLD_DOOR
from tests.answers import answered, refused
from tests.races.callers import outsider
from tests.reservation.box_office import BoxOffice, Customer, Offer

# What says when, to whom and of which slot: it differs between any two answers.
_OWN = (
    "time_slot_id",
    "items",
    "price",
    "request_id",
    "trace_id",
    "instance",
    "id",
    "expires_at",
    "expires_in_ms",
    "created_at",
    "server_time",
)
Send = Callable[[Customer, Offer], Any]


def _hold(**changed: Any) -> Send:
    """Ask for a hold as it should be, but for what is changed: `key`, `headers`, `content`, or fields of the body."""
    key: str = changed.pop("key", "key-{}")
    headers: dict[str, str] = changed.pop("headers", {})
    content: bytes | None = changed.pop("content", None)

    async def send(customer: Customer, offer: Offer) -> httpx.Response:
        body = {name: value for name, value in (offer.order() | changed).items() if value is not ...}
        sent: dict[str, Any] = {"json": body} if content is None else {"content": content}
        return await customer.ask("POST", "/v1/holds", key=key.format(uuid4()), headers=headers, **sent)

    return send


async def _without_a_key(customer: Customer, offer: Offer) -> httpx.Response:
    return await customer.ask("POST", "/v1/holds", json=offer.order())


async def _without_a_token(customer: Customer, offer: Offer) -> httpx.Response:
    return await customer.http.post("/v1/holds", json=offer.order(), headers={"Idempotency-Key": "k"})


async def _twice(customer: Customer, offer: Offer) -> httpx.Response:
    key = f"key-{uuid4()}"
    await customer.hold(offer, key=key)
    return await customer.hold(offer, key=key)


async def _same_key_for_another(customer: Customer, offer: Offer) -> httpx.Response:
    key = f"key-{uuid4()}"
    await customer.hold(offer, key=key)
    return await customer.hold(offer, 2, key=key)


REQUESTS: dict[str, tuple[Send, int]] = {
    "as it should be": (_hold(), 201),
    "with everything": (_hold(ttl_seconds=60, client_reference="r", metadata={"a": "ü"}), 201),
    "again": (_twice, 201),
    "another under the same key": (_same_key_for_another, 422),
    "charset in the media type": (_hold(headers={"Content-Type": "application/json; charset=utf-8"}), 201),
    "a quoted key": (_hold(key='"quoted-{}"'), 201),
    "no token": (_without_a_token, 401),
    "no key": (_without_a_key, 400),
    "a key that is none": (_hold(key="two words"), 400),
    "not JSON": (_hold(content=b"{", headers={"Content-Type": "application/json"}), 400),
    "not a number": (_hold(content=b'{"items": NaN}', headers={"Content-Type": "application/json"}), 422),
    "nothing": (_hold(content=b"", headers={"Content-Type": "application/json"}), 422),
    "a form": (_hold(content=b"a=b", headers={"Content-Type": "application/x-www-form-urlencoded"}), 415),
    "an unknown field": (_hold(price=0), 422),
    "no items": (_hold(items=[]), 422),
    "a float of seconds": (_hold(ttl_seconds=1.5), 422),
    "a number larger than any": (_hold(ttl_seconds=10**30), 422),
    "half a surrogate pair": (
        _hold(content=b'{"client_reference": "\\ud800"}', headers={"Content-Type": "application/json"}),
        422,
    ),
    "no such slot": (_hold(time_slot_id=str(uuid4())), 404),
    "too many seats": (lambda customer, offer: customer.hold(offer, 11), 409),
    "no such discount": (_hold(discount_code="NONE"), 422),
    "too large": (_hold(client_reference="x" * 70_000), 413),
}


async def _turn(office: BoxOffice, *, lean: bool) -> None:
    body = {"enabled": lean, "reason": "the other way is tried"}
    answered(await office.operator().ask("PUT", f"/admin/v1/flags/{LEAN_HOLD_DOOR}", json=body))


def _seen(answer: httpx.Response) -> tuple[int, Any, dict[str, str]]:
    body = {name: value for name, value in answer.json().items() if name not in _OWN}
    headers = {
        name: value
        if name not in {"request-id", "server-timing", "ratelimit", "expires-in-ms", "content-length"}
        else ""
        for name, value in answer.headers.items()
    }
    return answer.status_code, body, headers


@pytest.mark.parametrize(("send", "status"), REQUESTS.values(), ids=REQUESTS)
async def test_both_ways_answer_alike(office: BoxOffice, send: Send, status: int) -> None:
    """Good or bad, a request gets the same answer through the lean door and by the ordinary route."""
    by_door = await send(office.customer(), await office.offer(capacity=10))
    await _turn(office, lean=False)
    try:
        by_route = await send(office.customer(), await office.offer(capacity=10))
    finally:
        await _turn(office, lean=True)
    assert by_door.status_code == status, by_door.text
    assert _seen(by_door) == _seen(by_route)


async def test_the_short_way_is_taken(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good request does not go through the framework's route, and metrics count it under that route all the same."""
    asked = list[str]()

    async def ordinary(*_args: Any) -> Any:
        asked.append("ordinary")
        raise AssertionError

    offer, before = await office.offer(), await _counted(office)
    monkeypatch.setattr("reservation_service.api.holds.make_hold", ordinary)
    answered(await office.customer().hold(offer), 201)
    assert asked == []
    assert await _counted(office) == before + 1


async def test_who_leaves_in_the_middle_of_the_body_is_no_error_of_ours(office: BoxOffice) -> None:
    """P07: half a body and then nobody: counted at that route as one who has gone, by either way."""
    customer = office.customer()
    for lean in (True, False):
        await _turn(office, lean=lean)
        before = {status: await _counted(office, status=status) for status in (400, 499, 500)}
        await _hang_up(office, customer)
        after = {status: await _counted(office, status=status) for status in before}
        assert after == {**before, 499: before[499] + 1}, f"{lean=}"
    await _turn(office, lean=True)


async def test_a_hold_that_the_database_prevents_is_counted(office: BoxOffice, module_database_url: str) -> None:
    """Its table is locked for long: it ends as 503, and is counted among the holds as that."""
    offer = await office.offer(capacity=1)
    async with outsider(module_database_url) as other, other.transaction("test") as tx:
        await tx.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        await tx.execute(text("LOCK TABLE time_slots"))
        refused(await office.customer().hold(offer), 503, "SERVICE_UNAVAILABLE")
    counted = office.parts.metrics.registry.get_sample_value
    assert counted("reservation_holds_total", {"outcome": "service_unavailable"}) == 1


async def test_a_refusal_leaves_nothing_for_the_collector(office: BoxOffice) -> None:
    """A rush is mostly refusals: each is gone when its answer is, without a circle that the collector has to find."""
    offer = await office.offer(capacity=1)
    answered(await office.customer().hold(offer), 201)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            assert (await office.customer().hold(offer)).status_code == 409
        left = [thing for thing in gc.get_objects() if isinstance(thing, SlotUnavailable | TurnedAway)]
    finally:
        gc.enable()
    assert left == []


async def _hang_up(office: BoxOffice, customer: Customer) -> None:
    said = [{"type": "http.request", "body": b'{"items"', "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return said.pop(0) if len(said) > 1 else said[0]

    async def send(_message: Any) -> None:
        """Nobody listens."""

    headers = {"authorization": f"Bearer {customer.token}", "content-type": "application/json", "idempotency-key": "k"}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/v1/holds",
        "raw_path": b"/v1/holds", "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": ("test", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await office.app(scope, receive, send)


async def _counted(office: BoxOffice, *, status: int = 201) -> float:
    """Return how many requests for a hold the metrics know of that ended like this."""
    page = (await office.http.get("/metrics")).text
    name, wanted = "http_server_request_duration_seconds_count", ('"/v1/holds"', f'"{status}"')
    lines = [line for line in page.splitlines() if line.startswith(name) and all(word in line for word in wanted)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
