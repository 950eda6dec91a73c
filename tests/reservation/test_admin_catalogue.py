"""What sellers may see and change: terms for what is sold from now on, never for what is held or booked."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from reservation_service.booking import catalogue
from tests.answers import answered, refused
from tests.reservation.box_office import CUSTOMER, BoxOffice, Offer

EXPERIENCES, SLOTS = "/admin/v1/experiences", "/admin/v1/time-slots"


@pytest.fixture(autouse=True)
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Terms are remembered for five seconds; nobody waits for that here."""
    monkeypatch.setattr(catalogue, "_OFFER_LIFE_S", 0.0)


async def change(office: BoxOffice, path: str, **body: Any) -> httpx.Response:
    return await office.operator().ask("PATCH", path, json=body)


async def see(office: BoxOffice, path: str, **query: Any) -> Any:
    """Read as a viewer, who may not act."""
    return answered(await office.customer(roles=["viewer"]).ask("GET", path, params=query))


async def test_new_terms_are_for_what_is_sold_from_now_on(office: BoxOffice) -> None:
    """Another price, a new ticket, one that is no longer sold: a hold keeps its snapshot, the next one has the new price."""
    offer = await office.offer()
    path = f"{EXPERIENCES}/{offer.experience_id}"
    guest, adult = office.customer(), offer.tickets["adult"]
    before = answered(await guest.hold(offer), 201)
    dear = answered(await change(office, f"{path}/ticket-types/{adult}", price={"amount": 6000, "currency": "EUR"}))
    assert (dear["price"]["amount"], dear["active"]) == (6000, True)
    child = {"code": "child", "title": "Child", "price": {"amount": 2000, "currency": "EUR"}, "seats": 1}
    added = answered(await office.operator().ask("POST", f"{path}/ticket-types", json=child), 201)
    refused(await office.operator().ask("POST", f"{path}/ticket-types", json=child), 409, "TICKET_CODE_TAKEN")
    kept = answered(await guest.see_hold(before["id"]))
    assert kept["price"] == before["price"]
    both = Offer(offer.slot_id, offer.experience_id, offer.tickets | {"child": added["id"]})
    assert answered(await guest.hold(both), 201)["price"]["total"]["amount"] == 6000
    assert answered(await guest.hold(both, ticket="child"), 201)["price"]["total"]["amount"] == 2000
    for ticket in (adult, added["id"]):
        assert not answered(await change(office, f"{path}/ticket-types/{ticket}", active=False))["active"]
        refused(await guest.hold(both, ticket="adult" if ticket == adult else "child"), 422, "VALIDATION_FAILED")
    assert answered(await office.http.get(f"/v1/experiences/{offer.experience_id}"))["ticket_types"] == []
    assert answered(await office.http.get(f"/v1/time-slots/{offer.slot_id}"))["prices"] == []
    day = str((datetime.now(UTC) + timedelta(days=7)).date())
    calendar = await office.http.get(f"/v1/experiences/{offer.experience_id}/calendar?from={day}&to={day}")
    assert answered(calendar)["days"][0]["price_from"] is None
    assert [ticket["code"] for ticket in (await see(office, path))["ticket_types"]] == ["adult", "child"]


async def test_what_a_ticket_type_may_not_become(office: BoxOffice) -> None:
    """Another currency, another experience's ticket, a ticket that is none, fields that are none."""
    offer, other = await office.offer(), await office.offer()
    path = f"{EXPERIENCES}/{offer.experience_id}/ticket-types"
    mine, theirs = offer.tickets["adult"], other.tickets["adult"]
    refused(await change(office, f"{path}/{mine}", price={"amount": 1, "currency": "USD"}), 422, "VALIDATION_FAILED")
    refused(await change(office, f"{path}/{mine}", seats=2), 422, "VALIDATION_FAILED")
    for ticket in (theirs, "x"):
        refused(await change(office, f"{path}/{ticket}", active=False), 404, "TICKET_TYPE_NOT_FOUND")
    refused(await change(office, f"{EXPERIENCES}/{mine}/ticket-types/{mine}"), 404, "EXPERIENCE_NOT_FOUND")


async def test_a_cutoff_moves_the_end_of_sales_of_coming_slots(office: BoxOffice) -> None:
    """Every slot that has not started sells until the new cutoff; one that has started stays as it was."""
    offer = await office.offer()
    other = await office.slot(offer.experience_id, in_s=3 * 3600)
    past = await office.slot(offer.experience_id, in_s=60)
    await office.sql(
        "UPDATE time_slots SET starts_at = starts_at - interval '1 day', sells_until = sells_until - interval '1 day'"
        " WHERE id = :id",
        id=UUID(past),
    )
    changed = answered(await change(office, f"{EXPERIENCES}/{offer.experience_id}", cutoff_minutes=240, max_party=3))
    assert (changed["cutoff_minutes"], changed["max_party"]) == (240, 3)
    slots = (await see(office, SLOTS, experience_id=offer.experience_id))["data"]
    ahead = {
        slot["id"]: datetime.fromisoformat(slot["starts_at"]) - datetime.fromisoformat(slot["sells_until"])
        for slot in slots
    }
    assert ahead == {offer.slot_id: timedelta(hours=4), other: timedelta(hours=4), past: timedelta(0)}
    closed = Offer(other, offer.experience_id, offer.tickets)
    refused(await office.customer().hold(closed), 409, "SLOT_CLOSED")
    refused(await office.customer().hold(offer, 4), 422, "PARTY_SIZE_INVALID")


async def test_currency_and_time_zone_are_fixed_with_the_first_slot(office: BoxOffice) -> None:
    """Before it they may be corrected; after it they may not, and everything else still may."""
    offer = await office.offer()
    path = f"{EXPERIENCES}/{offer.experience_id}"
    for fixed in ({"currency": "USD"}, {"time_zone": "Asia/Tokyo"}):
        refused(await change(office, path, **fixed), 409, "TERMS_FIXED")
    answered(await change(office, path, currency="EUR", time_zone="Europe/Lisbon"))
    refused(await change(office, path, time_zone="Mars/Olympus"), 422, "VALIDATION_FAILED")
    refused(await change(office, path, capture_method="automatic"), 422, "VALIDATION_FAILED")
    seen = answered(
        await change(office, path, title="Dusk", description="", hold_ttl_seconds=60, late_payment_policy="refund")
    )
    assert [seen[name] for name in ("title", "description", "hold_ttl_seconds", "late_payment_policy")] == [
        "Dusk", "", 60, "refund",
    ]  # fmt: skip
    assert answered(await change(office, path, hold_ttl_seconds=None))["hold_ttl_seconds"] == 600
    empty = {"title": "A walk", "time_zone": "UTC", "currency": "EUR"}
    tickets = [{"code": "a", "title": "A", "price": {"amount": 100, "currency": "EUR"}, "seats": 1}]
    new = answered(await office.operator().ask("POST", EXPERIENCES, json=empty | {"ticket_types": tickets}), 201)
    moved = answered(await change(office, f"{EXPERIENCES}/{new['id']}", currency="JPY", time_zone="Asia/Tokyo"))
    assert (moved["time_zone"], moved["ticket_types"][0]["price"]["currency"]) == ("Asia/Tokyo", "JPY")


async def test_lists_of_what_is_sold_go_page_by_page(office: BoxOffice) -> None:
    """Experiences by age, slots by start and between two instants; each list gives every row exactly once."""
    offer = await office.offer()
    ids = [offer.slot_id, *[await office.slot(offer.experience_id, in_s=(8 + n) * 86_400) for n in range(4)]]
    assert await every(office, SLOTS, experience_id=offer.experience_id) == ids
    middle = (await see(office, f"{SLOTS}/{ids[2]}"))["starts_at"]
    assert await every(office, SLOTS, **{"experience_id": offer.experience_id, "from": middle}) == ids[2:]
    assert await every(office, SLOTS, experience_id=offer.experience_id, to=middle) == ids[:2]
    experiences = await every(office, EXPERIENCES)
    assert offer.experience_id in experiences
    assert experiences == sorted(experiences)
    for path, code in ((EXPERIENCES, "EXPERIENCE_NOT_FOUND"), (SLOTS, "TIME_SLOT_NOT_FOUND")):
        refused(await office.operator().ask("GET", f"{path}/x"), 404, code)
    refused(await office.operator().ask("GET", SLOTS, params={"from": "2028-01-01"}), 422, "VALIDATION_FAILED")


async def every(office: BoxOffice, path: str, **query: Any) -> list[str]:
    """Return the ids of all rows, two a page."""
    found: list[str] = []
    while True:
        page = await see(office, path, limit=2, **query)
        found += [row["id"] for row in page["data"]]
        assert len(found) == len(set(found))
        if not page["has_more"]:
            return found
        query["starting_after"] = page["next_cursor"]


async def test_holds_and_reservations_of_all_customers_are_found(office: BoxOffice) -> None:
    """By slot, status and e-mail; a lapsed hold is listed as expired, and nobody else's secret is shown."""
    offer = await office.offer()
    guest = office.customer("gina")
    active, lapsed, booked = [answered(await guest.hold(offer), 201)["id"] for _ in range(3)]
    given_back = answered(await guest.hold(offer), 201)["id"]
    answered(await guest.release(given_back))
    await office.let_expire(lapsed)
    mail = CUSTOMER | {"email": f"Gina-{booked}@example.org"}
    outcome = answered(await guest.convert(booked, customer=mail), 201)["outcome"]
    assert outcome["client_secret"]

    async def ids(path: str, **query: Any) -> set[str]:
        return set(await every(office, path, time_slot_id=offer.slot_id, **query))

    holds, reservations = "/admin/v1/holds", "/admin/v1/reservations"
    assert await ids(holds) == {active, lapsed, booked, given_back}
    assert await ids(holds, status="active") == {active}
    assert await ids(holds, status="expired") == {lapsed}
    assert await ids(holds, status="released") == {given_back}
    assert await ids(holds, status="converted") == {booked}
    assert await ids(reservations) == {booked}
    assert await ids(reservations, status="confirmed") == set()
    assert await every(office, reservations, email=mail["email"].lower()) == [booked]
    assert await ids(reservations, email="somebody@else.org") == set()
    shown = await see(office, f"{reservations}/{booked}")
    assert (shown["caller"], shown["status"], shown["customer"]["email"]) == ("gina", "pending", mail["email"])
    assert shown["payment"]["client_secret"] is None
    assert outcome["client_secret"] not in str(shown)
    refused(await office.operator().ask("GET", f"{reservations}/{active}"), 404, "RESERVATION_NOT_FOUND")
    refused(await office.operator().ask("GET", f"{holds}/{offer.slot_id}"), 404, "HOLD_NOT_FOUND")


async def test_an_operator_takes_a_hold_back(office: BoxOffice) -> None:
    """Its seats are free at once, its guest sees it released, the same key makes a new one; a booking is no hold."""
    offer = await office.offer(capacity=2)
    guest = office.customer()
    hold = answered(await guest.hold(offer, 2, key="again"), 201)
    path = f"/admin/v1/holds/{hold['id']}/release"
    refused(await office.operator().ask("POST", path, json={}), 422, "VALIDATION_FAILED")
    for _ in range(2):
        taken = answered(await office.operator().ask("POST", path, json={"reason": "a group has come"}))
        assert (taken["status"], taken["released_by"]) == ("released", "operator")
    assert await office.free(offer) == 2
    [noted] = await office.sql("SELECT reason FROM reservation_events WHERE reservation_id = :id", id=UUID(hold["id"]))
    assert noted["reason"] == "operator: a group has come"
    renewed = await guest.hold(offer, 2, key="again")
    assert answered(renewed, 201)["supersedes"] == hold["id"]
    answered(await guest.convert(renewed.json()["id"]), 201)
    booked = f"/admin/v1/holds/{renewed.json()['id']}/release"
    refused(await office.operator().ask("POST", booked, json={"reason": "x"}), 409, "INVALID_HOLD_STATUS")


async def test_only_operators_act_and_only_viewers_see(office: BoxOffice) -> None:
    """A customer reaches nothing, a viewer reads everything and changes nothing."""
    offer = await office.offer()
    hold = answered(await office.customer().hold(offer), 201)["id"]
    reads = [EXPERIENCES, SLOTS, "/admin/v1/holds", "/admin/v1/reservations", f"/admin/v1/holds/{hold}"]
    reads += [f"{EXPERIENCES}/{offer.experience_id}", f"{SLOTS}/{offer.slot_id}"]
    writes = [
        ("PATCH", f"{EXPERIENCES}/{offer.experience_id}", {"title": "x"}),
        ("POST", f"{EXPERIENCES}/{offer.experience_id}/ticket-types", {}),
        ("PATCH", f"{EXPERIENCES}/{offer.experience_id}/ticket-types/{offer.tickets['adult']}", {"active": False}),
        ("PATCH", f"{SLOTS}/{offer.slot_id}", {"status": "cancelled", "reason": "x"}),
        ("POST", f"/admin/v1/holds/{hold}/release", {"reason": "x"}),
    ]
    viewer, customer = office.customer(roles=["viewer"]), office.customer()
    for path in reads:
        answered(await viewer.ask("GET", path))
        refused(await customer.ask("GET", path), 403, "FORBIDDEN")
        refused(await office.http.get(path), 401, "UNAUTHENTICATED")
    for method, path, body in writes:
        for caller in (viewer, customer):
            refused(await caller.ask(method, path, json=body), 403, "FORBIDDEN")
    assert await office.free(offer) == 9
