"""A guest who lost the token: reference and e-mail open that one booking for an hour, and say nothing about any other."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.answers import answered, refused
from tests.every_door import operations
from tests.reservation.box_office import CUSTOMER, BoxOffice, Customer, open_box_office
from tests.reservation.called_off import confirmed
from tests.reservation.test_every_door import ask
from tests.reservation.test_rate_limits import DEFAULTS, calling_from, metric

_BOUND = {"getReservation", "getReservationTimeline", "quoteCancellation", "cancelReservation"}
_FREE = {operation.id: operation for operation in operations("reservation", "/v1/") if operation.id not in _BOUND}
# Everybody may ask for these, with or without a token.
_PUBLIC = {
    "createGuestSession", "listExperiences", "getExperience", "getCalendar", "listTimeSlots", "getTimeSlot",
    "streamAvailability", "lookUpReservation",
}  # fmt: skip


async def pending(office: BoxOffice) -> dict[str, Any]:
    """Return a booking that waits for its card, as its guest sees it."""
    guest = office.customer()
    hold_id = answered(await guest.hold(await office.offer()), 201)["id"]
    booked: dict[str, Any] = answered(await guest.convert(hold_id), 201)
    assert booked["payment"]["client_secret"]
    return booked


async def look_up(http: httpx.AsyncClient, reference: str, email: str = CUSTOMER["email"]) -> httpx.Response:
    return await http.post("/v1/reservations/lookup", json={"reference": reference, "email": email})


async def bound(office: BoxOffice, reference: str) -> Customer:
    found = answered(await look_up(office.http, reference))
    return Customer(office.http, found["token"])


async def test_reference_and_email_open_the_booking(office: BoxOffice) -> None:
    """Read, timeline and quote, but not the secret to pay with: that stays with who has the guest's own token."""
    booked = await pending(office)
    found = answered(await look_up(office.http, booked["reference"].lower(), CUSTOMER["email"].upper()))
    assert found["reservation_id"] == booked["id"]
    lasts = datetime.fromisoformat(found["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=58) < lasts <= timedelta(hours=1)
    holder = Customer(office.http, found["token"])
    seen = answered(await holder.see(booked["id"]))
    assert (seen["reference"], seen["status"]) == (booked["reference"], "pending")
    assert (seen["payment"]["client_secret"], seen["outcome"]["type"]) == (None, "processing")
    secret = booked["payment"]["client_secret"]
    for path in ("", "/timeline", "/cancellation-quote"):
        answer = await holder.ask("GET", f"/v1/reservations/{booked['id']}{path}")
        assert answer.status_code == 200
        assert secret not in answer.text


async def test_a_booking_that_was_found_can_be_cancelled(office: BoxOffice) -> None:
    """The holder of the token takes it back by its terms, like its guest; the answer shows no secret either."""
    booked = await confirmed(office)
    shown = answered(await booked.guest.see(booked.id))
    holder = await bound(office, shown["reference"])
    over = answered(await holder.ask("POST", f"/v1/reservations/{booked.id}/cancel", key="c", json={}), 200, 202)
    assert (over["status"], over["payment"]["client_secret"]) == ("cancelled", None)
    assert answered(await booked.guest.see(booked.id))["status"] == "cancelled"


async def test_no_failure_says_what_was_wrong(office: BoxOffice) -> None:
    """I24: unknown reference, wrong address, another's address: word for word one answer, with the same headers."""
    booked = await pending(office)
    tries = [
        await look_up(office.http, "ZZZZZZ"),
        await look_up(office.http, booked["reference"], "eve@example.org"),
        await look_up(office.http, "no reference at all"),
        await look_up(office.http, booked["reference"], "%@%"),
    ]
    documents = [refused(answer, 404, "RESERVATION_NOT_FOUND") for answer in tries]
    for document in documents:
        for name in ("request_id", "instance", "trace_id"):
            document.pop(name, None)
    assert all(document == documents[0] for document in documents)
    assert len({tuple(sorted(answer.headers.keys())) for answer in tries}) == 1


async def test_no_failure_takes_other_work(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement, the same one, whichever half was wrong; and no row comes back from it."""
    asked: list[str] = []
    original = office.parts.database.reading

    def noted() -> Any:
        asked.append("reading")
        return original()

    booked = await pending(office)
    monkeypatch.setattr(office.parts.database, "reading", noted)
    await look_up(office.http, "ZZZZZZ")
    await look_up(office.http, booked["reference"], "eve@example.org")
    assert asked == ["reading", "reading"]


async def test_the_token_opens_nothing_else(office: BoxOffice) -> None:
    """Another booking, also one of the same guest, answers like none."""
    booked, other = await pending(office), await pending(office)
    holder = await bound(office, booked["reference"])
    for thing in (other["id"], str(uuid4())):
        refused(await holder.see(thing), 404, "RESERVATION_NOT_FOUND")
        for path in ("timeline", "cancellation-quote"):
            refused(await holder.ask("GET", f"/v1/reservations/{thing}/{path}"), 404, "RESERVATION_NOT_FOUND")
        cancel = await holder.ask("POST", f"/v1/reservations/{thing}/cancel", key="k", json={})
        refused(cancel, 404, "RESERVATION_NOT_FOUND")
    assert await office.status(other["id"]) == "pending"


@pytest.mark.parametrize("name", sorted(_FREE.keys() - _PUBLIC))
async def test_the_token_does_nothing_else(office: BoxOffice, name: str) -> None:
    """It holds nothing, converts nothing, pays nothing, lists nothing: 403, at each operation that asks who calls."""
    booked = await pending(office)
    holder = await bound(office, booked["reference"])
    refused(await ask(holder, _FREE[name], booked["id"]), 403, "FORBIDDEN")


async def test_the_token_has_no_role(office: BoxOffice) -> None:
    """X02: neither the admin door nor the internal one knows it."""
    holder = await bound(office, (await pending(office))["reference"])
    refused(await holder.ask("GET", "/admin/v1/reservations"), 403, "FORBIDDEN")
    refused(
        await holder.ask("POST", "/internal/v1/payment-events", key="k", json={}), 401, "INTERNAL_SIGNATURE_INVALID"
    )


async def test_each_token_is_somebody_else(office: BoxOffice) -> None:
    """Two look-ups of one booking share no subject, so neither owns what the other might leave behind."""
    reference = (await pending(office))["reference"]
    one, two = [await bound(office, reference) for _ in range(2)]
    callers = [await office.parts.tokens.caller(f"Bearer {holder.token}") for holder in (one, two)]
    assert callers[0].subject != callers[1].subject
    assert all(caller.subject.startswith("guest:") for caller in callers)


@pytest.mark.steady_redis  # it counts
async def test_guesses_are_few(reservation_database_url: str) -> None:
    """20 an hour per address, 5 per reference whether it exists or not; who is refused learns nothing more."""
    async with open_box_office(reservation_database_url, **DEFAULTS) as office:
        booked = await pending(office)
        for reference in (booked["reference"], "ZZZZZZ"):
            async with calling_from(office) as http:
                for _ in range(5):
                    refused(await look_up(http, reference, "eve@example.org"), 404, "RESERVATION_NOT_FOUND")
            async with calling_from(office) as http:  # another address does not get five more
                problem = refused(await look_up(http, reference), 429, "RATE_LIMITED")
                assert problem["policy"] == "lookups-of-one"
                assert 3_000_000 < problem["retry_after_ms"] <= 3_600_000
        async with calling_from(office) as http:
            for number in range(20):
                refused(await look_up(http, f"R{number}"), 404, "RESERVATION_NOT_FOUND")
            assert refused(await look_up(http, "ANOTHER"), 429, "RATE_LIMITED")["policy"] == "lookups"
        assert metric(office, "rate_limited", policy="lookups-of-one") == 2
