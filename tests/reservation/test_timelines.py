"""A booking's timeline: whole, in order, with nothing in it that is not for who reads it, and there when others are not."""

import asyncio
from typing import Any
from uuid import UUID

from tests.answers import answered, refused
from tests.doubles import scripted_payments as acts
from tests.races.callers import locking, outsider
from tests.reservation.box_office import BoxOffice, Customer
from tests.scenarios import fired


async def booked(office: BoxOffice, guest: Customer) -> str:
    """Return a confirmed booking in whose saga an operator had a hand."""
    hold = answered(await guest.hold(await office.offer()), 201)
    office.payments.script("create", acts.BUSY)
    answered(await guest.convert(hold["id"]), 201)
    (saga,) = await office.sql("SELECT id FROM sagas WHERE reservation_id = :id", id=UUID(hold["id"]))
    await office.sql("UPDATE sagas SET lease_until = NULL WHERE id = :id", id=saga["id"])
    answered(await office.operator().ask("POST", f"/admin/v1/sagas/{saga['id']}/retry", json={"reason": "it is back"}))
    await office.parts.engine.drain(5)
    await office.pay(hold["id"])
    assert await office.status(hold["id"]) == "confirmed"
    return str(hold["id"])


def whats(story: dict[str, Any]) -> list[str]:
    return [f"{line['service']} {line['kind']} {line['what']}" for line in story["data"]]


async def test_a_timeline_tells_everything_in_order(office: BoxOffice) -> None:
    """From the hold to the confirmation, out of both services; operators see why, who, and under which trace."""
    guest = office.customer()
    booking_id = await booked(office, guest)
    story = answered(await office.operator().ask("GET", f"/admin/v1/reservations/{booking_id}/timeline"))
    told = whats(story)
    assert story["partial"] is False
    assert [line["at"] for line in story["data"]] == sorted(line["at"] for line in story["data"])
    wanted = [
        "reservation state held",
        "reservation state pending",
        "reservation saga create_payment_intent unknown",
        "reservation operator retry",
        "reservation saga create_payment_intent done",
        "reservation message payment authorized",
        "reservation saga capture_payment done",
        "reservation state confirmed",
        "payment status captured",
    ]
    places = [told.index(one) for one in wanted]
    assert places == sorted(places), told
    (word,) = [line for line in story["data"] if line["kind"] == "operator"]
    assert (word["by"], word["detail"]) == ("olga", "it is back")
    assert any(line["trace_id"] for line in story["data"])


async def test_a_guest_sees_no_names_and_no_codes(office: BoxOffice) -> None:
    """The same lines, without operators, traces and what banks and machines say; strangers find nothing."""
    guest = office.customer()
    booking_id = await booked(office, guest)
    path = f"/v1/reservations/{booking_id}/timeline"
    raw = await guest.ask("GET", path)
    story = answered(raw)
    assert {tuple(line) for line in story["data"]} == {("at", "service", "kind", "what")}
    assert "reservation operator retry" in whats(story)
    for word in ("olga", "it is back", "trace", "SERVICE_UNAVAILABLE"):
        assert word not in raw.text
    refused(await office.customer().ask("GET", path), 404, "RESERVATION_NOT_FOUND")
    refused(await guest.ask("GET", "/v1/reservations/nonsense/timeline"), 404, "RESERVATION_NOT_FOUND")
    refused(await guest.ask("GET", f"/admin{path}"), 403, "FORBIDDEN")
    held = answered(await guest.hold(await office.offer()), 201)
    refused(await guest.ask("GET", f"/v1/reservations/{held['id']}/timeline"), 404, "RESERVATION_NOT_FOUND")


async def test_a_wait_for_the_slots_lock_is_told(office: BoxOffice, module_database_url: str) -> None:
    """K09: somebody had the slot locked: operators see how long the hold waited; its guest does not, nor who never did."""
    guest, offer = office.customer(), await office.offer()
    async with outsider(module_database_url) as other:
        async with locking(other, offer):
            held = asyncio.create_task(guest.hold(offer))
            await asyncio.sleep(0.6)
        waited = answered(await held, 201)["id"]
    quick = await booked(office, guest)
    answered(await guest.convert(waited), 201)
    line = await lock_lines(office, waited)
    assert [one["what"] for one in line] == ["waited for the slot's lock"]
    assert int(line[0]["detail"].removesuffix(" ms")) >= 50
    assert await lock_lines(office, quick) == []
    story = answered(await guest.ask("GET", f"/v1/reservations/{waited}/timeline"))
    assert "lock" not in {one["kind"] for one in story["data"]}
    fired("K09", len(line))


async def lock_lines(office: BoxOffice, booking_id: str) -> list[dict[str, Any]]:
    story = answered(await office.operator().ask("GET", f"/admin/v1/reservations/{booking_id}/timeline"))
    return [line for line in story["data"] if line["kind"] == "lock"]


async def test_a_timeline_without_payment_service(office: BoxOffice) -> None:
    """S21: payment_service is away, or speaks nonsense: our own part is told, and that the rest is missing."""
    guest = office.customer()
    booking_id = await booked(office, guest)
    garbled = acts.Act("garbled", http=(200, b"<html>it works</html>"))
    for act in (acts.TIMEOUT, acts.NO_CONNECTION, acts.BROKEN, garbled):
        office.payments.script("timeline", act)
        story = answered(await guest.ask("GET", f"/v1/reservations/{booking_id}/timeline"))
        assert story["partial"] is True, act.name
        assert "reservation state confirmed" in whats(story)
        assert not any(line["service"] == "payment" for line in story["data"])


async def test_a_reservation_is_found_by_its_reference(office: BoxOffice) -> None:
    """Operators look for what the guest reads to them, in upper or lower case."""
    guest = office.customer()
    hold = answered(await guest.hold(await office.offer()), 201)
    reference = answered(await guest.convert(hold["id"]), 201)["reference"]
    for spelled in (reference, reference.lower()):
        found = answered(await office.operator().ask("GET", f"/admin/v1/reservations?reference={spelled}"))["data"]
        assert [row["id"] for row in found] == [hold["id"]]
    assert answered(await office.operator().ask("GET", "/admin/v1/reservations?reference=ZZZZZZ"))["data"] == []
