"""Whatever is sent, the answer is a documented refusal: never a 500, never an echo, and nothing is taken."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from deploy.embedded.stack import Stack
from tests.answers import CANARY, answered, refused_as
from tests.builders import Guest, Slot, a_customer, a_hold, a_key, a_slot, free_seats
from tests.system import System

NOT_JSON = (400, "MALFORMED_JSON")
NOT_THE_FORM = (422, "VALIDATION_FAILED")
NO_SUCH_PARTY = (422, "PARTY_SIZE_INVALID")


@pytest.fixture(scope="module")
def slot(stack: Stack, http: httpx.Client) -> Slot:
    """One slot that every bad request aims at and none may touch."""
    return a_slot(System(stack, http), capacity=5)


@pytest.fixture
def guest(system: System, slot: Slot) -> Iterator[Guest]:
    """Somebody with a valid token; afterwards every seat must still be free."""
    yield a_customer(system)
    assert free_seats(system, slot) == slot.capacity


def send_raw(guest: Guest, content: bytes, **headers: str) -> httpx.Response:
    lines = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    return guest.ask("POST", "/v1/holds", key=a_key(), content=content, headers=lines)


# Texts that stand where a quantity belongs: what is no JSON at all may be refused as such.
QUANTITIES: dict[str, tuple[str, list[tuple[int, str]]]] = {
    "a nan": ("NaN", [NOT_JSON, NOT_THE_FORM]),
    "an infinity": ("-Infinity", [NOT_JSON, NOT_THE_FORM]),
    "a float beyond floats": ("1e400", [NOT_JSON, NOT_THE_FORM]),
    "a whole float": ("1.0", [NOT_THE_FORM]),
    "a text": ('"1"', [NOT_THE_FORM]),
    "a boolean": ("true", [NOT_THE_FORM]),
    "a null": ("null", [NOT_THE_FORM]),
    "a list": ("[1]", [NOT_THE_FORM]),
    "zero": ("0", [NOT_THE_FORM, NO_SUCH_PARTY]),
    "a negative": ("-1", [NOT_THE_FORM, NO_SUCH_PARTY]),
    "2^31": (str(2**31), [NOT_THE_FORM, NO_SUCH_PARTY]),
    "2^63": (str(2**63), [NOT_THE_FORM, NO_SUCH_PARTY]),
    "five thousand digits": ("9" * 5000, [NOT_JSON, NOT_THE_FORM]),
}


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_quantity_is_a_small_positive_integer(guest: Guest, slot: Slot, name: str) -> None:
    """V01: numbers that are none, too large, or of another type are refused before anything is taken."""
    text, expected = QUANTITIES[name]
    order = slot.order()
    order["items"][0]["quantity"] = "here"
    body = json.dumps(order).replace('"here"', text)
    refused_as(send_raw(guest, body.encode()), *expected)


def bodies(slot: Slot) -> dict[str, tuple[Any, tuple[int, str]]]:
    """Return well-formed JSON that is not the documented form, each with its refusal."""
    order = slot.order()
    item = order["items"][0]
    return {
        "an unknown field": (order | {"status": CANARY}, NOT_THE_FORM),
        "a price of one's own": (order | {"price": {"amount": 1, "currency": "EUR"}}, NOT_THE_FORM),
        "an unknown field of an item": (order | {"items": [item | {"price": CANARY}]}, NOT_THE_FORM),
        "no items": (order | {"items": []}, NOT_THE_FORM),
        "items that are no list": (order | {"items": CANARY}, NOT_THE_FORM),
        "ten thousand items": (order | {"items": [{}] * 10_000}, NOT_THE_FORM),
        "no slot": ({"items": [item]}, NOT_THE_FORM),
        "a slot id that is none": (order | {"time_slot_id": CANARY}, NOT_THE_FORM),
        "a slot id that is a number": (order | {"time_slot_id": 7}, NOT_THE_FORM),
        "a slot that does not exist": (order | {"time_slot_id": str(uuid4())}, (404, "TIME_SLOT_NOT_FOUND")),
        "a ticket type of nowhere": (order | {"items": [item | {"ticket_type_id": str(uuid4())}]}, NOT_THE_FORM),
        "a short life": (order | {"ttl_seconds": 0}, NOT_THE_FORM),
        "a long life": (order | {"ttl_seconds": 1801}, NOT_THE_FORM),
        "a NUL": (order | {"client_reference": f"{CANARY}\0"}, NOT_THE_FORM),
        "half a surrogate pair": (order | {"client_reference": f"{CANARY}\ud800"}, NOT_THE_FORM),
        "an endless reference": (order | {"client_reference": CANARY * 1000}, NOT_THE_FORM),
        "metadata that is no object": (order | {"metadata": CANARY}, NOT_THE_FORM),
        "a NUL in metadata": (order | {"metadata": {"note": f"{CANARY}\0"}}, NOT_THE_FORM),
        "a list": ([order], NOT_THE_FORM),
        "a text": (CANARY, NOT_THE_FORM),
        "nothing": (None, NOT_THE_FORM),
    }


@pytest.mark.parametrize("name", bodies(Slot("", "", "", 0)))
def test_a_hold_has_exactly_the_documented_form(guest: Guest, slot: Slot, name: str) -> None:
    """V02, V03, V05: unknown fields, wrong types and unstorable text are refused, and never repeated in the answer."""
    body, expected = bodies(slot)[name]
    document = refused_as(send_raw(guest, json.dumps(body).encode()), expected)
    if expected == NOT_THE_FORM:
        assert document["errors"], document


MALFORMED = {
    "half an object": b'{"time_slot_id": "',
    "text": CANARY.encode(),
    "nothing": b"",
    "not utf-8": b'{"client_reference": "\xff\xfe"}',
    "two documents": b"{} {}",
    "a comment": b'{} // "',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_body_that_is_no_json_is_refused(guest: Guest, name: str) -> None:
    """V05: half a body, no body, or bytes that are no text are the caller's mistake and not ours."""
    refused_as(send_raw(guest, MALFORMED[name]), NOT_JSON, NOT_THE_FORM)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"items":['])
def test_deep_nesting_is_refused(guest: Guest, opening: bytes) -> None:
    """V05: a body of brackets must not exhaust the parser."""
    depth = 60_000 // len(opening)
    refused_as(send_raw(guest, opening * depth), NOT_JSON, NOT_THE_FORM)


def test_a_large_body_is_refused(guest: Guest) -> None:
    """V06: 64 KiB is the limit, announced or not; and a body of just under it is read."""
    too_much = json.dumps({"client_reference": CANARY, "metadata": "x" * 65536}).encode()
    refused_as(send_raw(guest, too_much), (413, "PAYLOAD_TOO_LARGE"))
    in_pieces = guest.ask(
        "POST",
        "/v1/holds",
        key=a_key(),
        content=iter([too_much[:40_000], too_much[40_000:]]),
        headers={"Content-Type": "application/json"},
    )
    refused_as(in_pieces, (413, "PAYLOAD_TOO_LARGE"))
    refused_as(send_raw(guest, b" " * 65_000 + b"{}"), NOT_THE_FORM)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_is_taken(guest: Guest, slot: Slot, media_type: str) -> None:
    """A body that does not say that it is JSON is refused, which also keeps other sites' forms out."""
    answer = send_raw(guest, json.dumps(slot.order()).encode(), Content_Type=media_type)
    refused_as(answer, (415, "UNSUPPORTED_MEDIA_TYPE"))


KEYS: dict[str, tuple[list[tuple[bytes, bytes]], str]] = {
    "none": ([], "IDEMPOTENCY_KEY_MISSING"),
    "empty": ([(b"Idempotency-Key", b"")], "IDEMPOTENCY_KEY_INVALID"),
    "empty and quoted": ([(b"Idempotency-Key", b'""')], "IDEMPOTENCY_KEY_INVALID"),
    "256 characters": ([(b"Idempotency-Key", b"k" * 256)], "IDEMPOTENCY_KEY_INVALID"),
    "a space": ([(b"Idempotency-Key", b"a b")], "IDEMPOTENCY_KEY_INVALID"),
    "not ascii": ([(b"Idempotency-Key", "schlüssel".encode())], "IDEMPOTENCY_KEY_INVALID"),
    "two headers": ([(b"Idempotency-Key", b"one"), (b"Idempotency-Key", b"two")], "IDEMPOTENCY_KEY_INVALID"),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("what", ["hold", "convert"])
def test_an_idempotency_key_is_required_and_well_formed(guest: Guest, slot: Slot, name: str, what: str) -> None:
    """V10: without a key a retry could book twice, so there is no answer without one."""
    lines, code = KEYS[name]
    path = "/v1/holds" if what == "hold" else f"/v1/holds/{uuid4()}/convert"
    headers = [(b"Authorization", f"Bearer {guest.token}".encode()), *lines]
    url = guest.system.stack.url("reservation") + path
    answer = guest.system.http.post(url, headers=headers, json=slot.order() if what == "hold" else CONVERT)
    refused_as(answer, (400, code))


CONVERT: dict[str, Any] = {"customer": {"name": "Ada", "email": "ada@example.org"}, "payment": {"mode": "stripe"}}
CONVERSIONS = {
    "no customer": {"payment": {"mode": "stripe"}},
    "no payment": {"customer": CONVERT["customer"]},
    "an unknown mode": CONVERT | {"payment": {"mode": CANARY}},
    "a card number": CONVERT | {"payment": {"mode": "stripe", "card": {"number": "4242424242424242"}}},
    "an e-mail that is none": CONVERT | {"customer": {"name": "Ada", "email": CANARY}},
    "a name of nothing": CONVERT | {"customer": {"name": "", "email": "ada@example.org"}},
    "a name with NUL": CONVERT | {"customer": {"name": "A\0", "email": "ada@example.org"}},
    "an amount of one's own": CONVERT | {"amount": 1},
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_conversion_has_exactly_the_documented_form(system: System, name: str) -> None:
    """V02, V03: nobody names their own price, and card data is refused at the door; the hold stays as it was."""
    guest = a_customer(system)
    hold = a_hold(guest, a_slot(system))
    answer = guest.ask("POST", f"/v1/holds/{hold['id']}/convert", key=a_key(), json=CONVERSIONS[name])
    document = refused_as(answer, NOT_THE_FORM)
    assert "42424242" not in json.dumps(document)
    assert answered(guest.see_hold(hold["id"]))["status"] == "active"


@pytest.mark.parametrize(
    "bad_id",
    [
        CANARY,
        "0",
        "%00",
        "..%2f..%2fetc%2fpasswd",
        "' OR 1=1 --",
        "%F0%9F%8E%AB",
        "x" * 3000,
        "00000000-0000-0000-0000-0000000000000",
    ],
)
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/holds/{}", "HOLD_NOT_FOUND"),
        ("/v1/reservations/{}", "RESERVATION_NOT_FOUND"),
        ("/v1/time-slots/{}", "TIME_SLOT_NOT_FOUND"),
        ("/v1/experiences/{}", "EXPERIENCE_NOT_FOUND"),
    ],
)
def test_an_id_that_is_none_names_nothing(guest: Guest, path: str, code: str, bad_id: str) -> None:
    """X01: a malformed id answers as a missing one does."""
    refused_as(guest.ask("GET", path.format(bad_id)), (404, code), (404, "NOT_FOUND"))


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_method_that_a_path_does_not_take(guest: Guest, method: str) -> None:
    """A wrong method says which ones are right."""
    answer = guest.ask(method, "/v1/holds")
    refused_as(answer, (405, "METHOD_NOT_ALLOWED"))
    assert "POST" in answer.headers["allow"]


def test_a_path_that_does_not_exist(guest: Guest) -> None:
    """I26: even nothing is a problem document."""
    refused_as(guest.ask("GET", f"/v1/{CANARY}"), (404, "NOT_FOUND"))
