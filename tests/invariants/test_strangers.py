"""What is mine is nobody else's: another customer's booking looks exactly like one that does not exist."""

from typing import Any
from uuid import uuid4

import pytest

from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice, Customer

_VARIES = ("request_id", "trace_id", "instance")


async def _try(customer: Customer, what: str, booking_id: str) -> Any:
    match what:
        case "see_hold":
            return await customer.see_hold(booking_id)
        case "extend":
            return await customer.extend(booking_id, 60)
        case "release":
            return await customer.release(booking_id)
        case "convert":
            return await customer.convert(booking_id)
        case _:
            return await customer.see(booking_id)


def _told(answer: Any) -> dict[str, Any]:
    document = refused(answer, 404, "HOLD_NOT_FOUND", "RESERVATION_NOT_FOUND")
    return {name: value for name, value in document.items() if name not in _VARIES}


@pytest.mark.parametrize("what", ["see_hold", "extend", "release", "convert"])
async def test_a_stranger_cannot_touch_a_hold(office: BoxOffice, what: str) -> None:
    """X01, I24, peers B1.8: reading, extending, releasing or converting another's hold is answered like a hold that never was."""
    offer, owner, stranger = await office.offer(), office.customer(), office.customer()
    hold = answered(await owner.hold(offer), 201)
    assert _told(await _try(stranger, what, hold["id"])) == _told(await _try(stranger, what, str(uuid4())))
    assert answered(await owner.see_hold(hold["id"]))["status"] == "active"


async def test_a_stranger_cannot_see_a_reservation(office: BoxOffice) -> None:
    """X01, I24: another's reservation, with its name and e-mail, is answered like one that never was, and is on no list."""
    offer, owner, stranger = await office.offer(), office.customer(), office.customer()
    hold = answered(await owner.hold(offer), 201)
    answered(await owner.convert(hold["id"]), 201)
    assert answered(await owner.see(hold["id"]))["customer"]["name"] == "Ada Example"
    assert _told(await _try(stranger, "see", hold["id"])) == _told(await _try(stranger, "see", str(uuid4())))
    assert answered(await stranger.ask("GET", "/v1/reservations"))["data"] == []
