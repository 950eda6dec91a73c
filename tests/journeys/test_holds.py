"""A hold's short life: it replays, runs out, is renewed by the same key, is given back, and is nobody else's business."""

from uuid import uuid4

import httpx
import pytest

from tests.answers import answered, eventually, refused
from tests.builders import Guest, a_guest, a_hold, a_key, a_slot, free_seats
from tests.system import System


def test_the_same_key_replays_the_hold_byte_for_byte(system: System) -> None:
    """I20, V12: the same call again is the first answer again, whatever the spacing and the order of its body."""
    guest, slot, key = a_guest(system), a_slot(system, capacity=3), a_key()
    first = guest.hold(slot, 2, key=key)
    answered(first, 201)
    assert "idempotent-replayed" not in first.headers

    again = guest.hold(slot, 2, key=key)
    assert again.status_code == 201
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"

    reordered = dict(reversed(slot.order(2).items()))
    quoted = guest.ask("POST", "/v1/holds", key=f'"{key}"', json=reordered)
    assert quoted.content == first.content
    assert free_seats(system, slot) == 1


def test_a_replay_shows_the_hold_as_it_was_created(system: System) -> None:
    """I20: a hold the guest gave back replays as `active`, and takes no seat again; GET tells the present."""
    guest, slot, key = a_guest(system), a_slot(system, capacity=1), a_key()
    first = guest.hold(slot, key=key)
    hold = answered(first, 201)
    answered(guest.release(hold["id"]))
    assert guest.hold(slot, key=key).content == first.content
    assert answered(guest.see_hold(hold["id"]))["status"] == "released"
    assert free_seats(system, slot) == 1


def test_the_same_key_with_another_body_is_refused(system: System) -> None:
    """V07, V08: a key belongs to one request of one caller; another caller's same key is another key."""
    guest, slot, key = a_guest(system), a_slot(system), a_key()
    mine = a_hold(guest, slot, 1, key=key)
    refused(guest.hold(slot, 2, key=key), 422, "IDEMPOTENCY_KEY_REUSED")
    theirs = a_hold(a_guest(system), slot, 2, key=key)
    assert theirs["id"] != mine["id"]
    assert free_seats(system, slot) == 7


def test_an_expired_hold_is_renewed_by_the_same_key(system: System) -> None:
    """V11, I21: the seats of an expired hold are free at once, and the same call makes a new hold that says so."""
    guest, slot, key = a_guest(system), a_slot(system, capacity=2), a_key()
    first = guest.hold(slot, 2, key=key, ttl_seconds=1)
    old = answered(first, 201)
    assert old["status"] == "active"
    assert 0 < int(first.headers["expires-in-ms"]) <= 1000
    assert free_seats(system, slot) == 0
    eventually(lambda: free_seats(system, slot), lambda seats: seats == 2, within_s=3)
    refused(guest.convert(old["id"]), 410, "HOLD_EXPIRED")

    renewed = guest.hold(slot, 2, key=key, ttl_seconds=1)
    new = answered(renewed, 201)
    assert renewed.headers["idempotency-renewed"] == "true"
    assert new["supersedes"] == old["id"] != new["id"]
    assert answered(guest.see_hold(old["id"]))["status"] == "expired"
    assert guest.hold(slot, 2, key=key, ttl_seconds=1).content == renewed.content


def test_seats_that_ran_out_are_sold_at_once(system: System) -> None:
    """I2: nobody waits for the sweeper: the next guest takes the seats in the moment they are due."""
    slot = a_slot(system, capacity=1)
    slow, quick = a_guest(system), a_guest(system)
    a_hold(slow, slot, ttl_seconds=1)
    document = refused(quick.hold(slot), 409, "SLOT_UNAVAILABLE")
    assert document["available"] == 0
    eventually(lambda: quick.hold(slot), lambda answer: answer.status_code == 201, within_s=3)


def test_a_hold_is_extended_at_most_twice(system: System) -> None:
    """The guest may ask for more time, but not for ever; asking for less never shortens a hold."""
    guest, slot = a_guest(system), a_slot(system)
    hold, other = a_hold(guest, slot, ttl_seconds=60), a_hold(guest, slot, ttl_seconds=60)

    def extend(hold_id: str, seconds: int) -> httpx.Response:
        return guest.ask("POST", f"/v1/holds/{hold_id}/extend", json={"seconds": seconds})

    once = answered(extend(hold["id"], 200))
    twice = answered(extend(hold["id"], 400))
    assert hold["expires_at"] < once["expires_at"] < twice["expires_at"]
    refused(extend(hold["id"], 600), 409, "HOLD_EXTENSION_LIMIT")
    assert answered(extend(other["id"], 1))["expires_at"] == other["expires_at"]


def test_a_released_hold_gives_its_seats_back_at_once(system: System) -> None:
    """I3, peers B4.53: seats return exactly once, however often the guest says so; what was given back cannot be converted."""
    guest, slot = a_guest(system), a_slot(system, capacity=3)
    hold = a_hold(guest, slot, 2)
    assert free_seats(system, slot) == 1
    for _ in range(2):
        assert answered(guest.release(hold["id"]))["status"] == "released"
        assert free_seats(system, slot) == 3
    refused(guest.convert(hold["id"]), 409, "INVALID_HOLD_STATUS")


def test_one_customer_cannot_hold_everything(system: System) -> None:
    """K10: five active holds are enough for one customer; releasing one makes room for another."""
    guest, slot = a_guest(system), a_slot(system)
    holds = [a_hold(guest, slot) for _ in range(5)]
    refused(guest.hold(slot), 409, "TOO_MANY_ACTIVE_HOLDS")
    answered(guest.release(holds[0]["id"]))
    a_hold(guest, slot)
    a_hold(a_guest(system), slot)
    assert free_seats(system, slot) == slot.capacity - 6


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/holds/{}"),
        ("DELETE", "/v1/holds/{}"),
        ("POST", "/v1/holds/{}/extend"),
        ("POST", "/v1/holds/{}/convert"),
        ("GET", "/v1/reservations/{}"),
    ],
)
def test_another_guests_booking_is_like_one_that_does_not_exist(system: System, method: str, path: str) -> None:
    """X01, I24: a stranger learns nothing from an id, not even that it means something."""
    owner, stranger, slot = a_guest(system), a_guest(system), a_slot(system)
    held, pending = a_hold(owner, slot), a_hold(owner, slot)
    answered(owner.convert(pending["id"]), 201)

    def try_it(booking_id: str) -> httpx.Response:
        return _touch(stranger, method, path.format(booking_id))

    missing = _without_ids(try_it(str(uuid4())))
    for booking in (held, pending):
        assert _without_ids(try_it(booking["id"])) == missing
    assert answered(owner.see_hold(held["id"]))["status"] == "active"


def _touch(guest: Guest, method: str, path: str) -> httpx.Response:
    if path.endswith("/convert"):
        return guest.convert(path.split("/")[3])
    return guest.ask(method, path, **({"json": {}} if method == "POST" else {}))


def _without_ids(answer: httpx.Response) -> dict[str, object]:
    document = refused(answer, 404, "HOLD_NOT_FOUND", "RESERVATION_NOT_FOUND")
    return {name: value for name, value in document.items() if name not in {"instance", "request_id", "trace_id"}}
