"""What an operator did can be looked up: who, what, why, what it was before and after; a refused call leaves nothing."""

from typing import Any
from uuid import uuid4

from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice
from tests.reservation.test_saga_verbs import a_case, stuck_in_capture

WHY = "the boat is smaller"


async def actions(office: BoxOffice, target: str) -> list[dict[str, Any]]:
    """Return what was done to something, newest first, as a viewer sees it."""
    viewer = office.customer(roles=["viewer"])
    page = answered(await viewer.ask("GET", f"/admin/v1/operator-actions?target={target}"))
    rows: list[dict[str, Any]] = page["data"]
    assert all(row["target"] == target and row["operator"] == "olga" for row in rows)
    return rows


async def the_action(office: BoxOffice, target: str, what: str) -> dict[str, Any]:
    """Return the one row that an action has left."""
    (row,) = [row for row in await actions(office, target) if row["action"] == what]
    return row


async def test_a_change_of_a_slot_is_on_record(office: BoxOffice) -> None:
    """Capacity from 10 to 6: who, why, the request that did it, and that repeating the call changes nothing more."""
    offer, operator = await office.offer(capacity=10), office.operator()
    path = f"/admin/v1/time-slots/{offer.slot_id}"
    answer = await operator.ask("PATCH", path, json={"capacity": 6, "reason": WHY})
    answered(await operator.ask("PATCH", path, json={"capacity": 6, "reason": WHY}))
    row = await the_action(office, offer.slot_id, "changeTimeSlot")
    assert (row["before"], row["after"], row["reason"]) == ({"capacity": 10}, {"capacity": 6}, WHY)
    assert row["request_id"] == answer.headers["request-id"]
    added = await the_action(office, offer.slot_id, "addTimeSlot")
    assert (added["before"], added["after"]["capacity"]) == (None, 10)


async def test_the_catalogue_keeps_its_history(office: BoxOffice) -> None:
    """Terms, prices and discounts: what they were stands beside what they are."""
    offer, operator = await office.offer(), office.operator()
    path = f"/admin/v1/experiences/{offer.experience_id}"
    answered(await operator.ask("PATCH", path, json={"max_party": 3, "reason": WHY}))
    change = {"price": {"amount": 5000, "currency": "EUR"}}
    answered(await operator.ask("PATCH", f"{path}/ticket-types/{offer.tickets['adult']}", json=change))
    ticket = {"code": "child", "title": "Child", "price": {"amount": 100, "currency": "EUR"}, "seats": 1}
    child = answered(await operator.ask("POST", f"{path}/ticket-types", json=ticket), 201)
    discount = await office.discount(max_uses=3)
    await office.change_discount(discount, max_uses=5)

    changed = await the_action(office, offer.experience_id, "changeExperience")
    assert (changed["before"], changed["after"], changed["reason"]) == ({"max_party": 20}, {"max_party": 3}, WHY)
    priced = await the_action(office, offer.tickets["adult"], "changeTicketType")
    assert (priced["before"], priced["after"]) == ({"price_minor": 4500}, {"price_minor": 5000})
    assert (await the_action(office, child["id"], "addTicketType"))["after"]["code"] == "child"
    assert (await the_action(office, offer.experience_id, "addExperience"))["after"]["currency"] == "EUR"
    limited = await the_action(office, discount["id"], "changeDiscount")
    assert (limited["before"], limited["after"]) == ({"max_uses": 3}, {"max_uses": 5})
    assert (await the_action(office, discount["id"], "addDiscount"))["after"]["basis_points"] == 1000


async def test_a_hold_that_was_taken_back_says_by_whom(office: BoxOffice) -> None:
    """One row for the release, none for repeating it, none where it was refused."""
    offer, operator, guest = await office.offer(), office.operator(), office.customer()
    hold_id = answered(await guest.hold(offer), 201)["id"]
    path = f"/admin/v1/holds/{hold_id}/release"
    refused(await operator.ask("POST", path, json={}), 422, "VALIDATION_FAILED")
    assert await actions(office, hold_id) == []
    for _ in range(2):
        answered(await operator.ask("POST", path, json={"reason": WHY}))
    row = await the_action(office, hold_id, "releaseAnyHold")
    assert (row["before"], row["after"], row["reason"]) == ({"status": "held"}, {"status": "released"}, WHY)


async def test_the_verbs_on_sagas_are_on_record(office: BoxOffice) -> None:
    """Retry, unwind and resolve leave who asked and why it had stopped."""
    case = await stuck_in_capture(office)
    answered(await case.ask("retry"))
    saga = await case.saga()
    row = await the_action(office, saga["id"], "retrySaga")
    assert row["before"] == {"status": "needs_attention", "reason": "capture_payment: unknown 4 times"}
    waiting = await a_case(office)
    await waiting.guest.convert(waiting.hold_id)
    answered(await waiting.ask("unwind"))
    assert (await the_action(office, (await waiting.saga())["id"], "unwindSaga"))["before"]["status"] == "waiting"
    stuck = await stuck_in_capture(office)
    answered(await stuck.ask("resolve", outcome="failed"))
    assert (await the_action(office, (await stuck.saga())["id"], "resolveSaga"))["after"]["outcome"] == "failed"


async def test_a_flag_that_was_turned_says_by_whom(office: BoxOffice) -> None:
    """The first turn comes from nothing, the second from the first."""
    operator, path = office.operator(), "/admin/v1/flags/rate_limiting"
    for enabled in (False, True):
        answered(await operator.ask("PUT", path, json={"enabled": enabled, "reason": WHY}))
    second, first = (await actions(office, "rate_limiting"))[:2]
    assert (first["before"], first["after"]) == (
        {"enabled": None, "percentage": None},
        {"enabled": False, "percentage": 100},
    )
    assert (second["before"], second["after"]) == (first["after"], {"enabled": True, "percentage": 100})


async def test_a_refused_action_leaves_nothing(office: BoxOffice) -> None:
    """Not allowed, not there, or not possible: nothing was done, so nothing is on record."""
    offer, guest = await office.offer(capacity=4), office.customer()
    answered(await guest.hold(offer, 3), 201)
    path = f"/admin/v1/time-slots/{offer.slot_id}"
    before = await actions(office, offer.slot_id)
    refused(await guest.ask("PATCH", path, json={"capacity": 9, "reason": WHY}), 403, "FORBIDDEN")
    answer = await office.operator().ask("PATCH", path, json={"capacity": 2, "reason": WHY})
    refused(answer, 409, "CAPACITY_BELOW_TAKEN")
    assert await actions(office, offer.slot_id) == before
    missing = str(uuid4())
    answer = await office.operator().ask("PATCH", f"/admin/v1/time-slots/{missing}", json={"reason": WHY})
    refused(answer, 404, "TIME_SLOT_NOT_FOUND")
    assert await actions(office, missing) == []


async def test_actions_are_listed_page_by_page(office: BoxOffice) -> None:
    """Newest first, with a cursor, and by who acted."""
    offer = await office.offer()
    for capacity in (1, 2, 3):
        change = {"capacity": capacity, "reason": WHY}
        answered(await office.operator().ask("PATCH", f"/admin/v1/time-slots/{offer.slot_id}", json=change))
    viewer, path = office.customer(roles=["viewer"]), f"/admin/v1/operator-actions?target={offer.slot_id}&limit=3"
    first = answered(await viewer.ask("GET", path))
    rest = answered(await viewer.ask("GET", f"{path}&starting_after={first['next_cursor']}"))
    capacities = [row["after"]["capacity"] for row in first["data"] + rest["data"]]
    assert (capacities, first["has_more"], rest["has_more"]) == ([3, 2, 1, 10], True, False)
    nobody = answered(await viewer.ask("GET", "/admin/v1/operator-actions?operator=nobody"))
    assert nobody["data"] == []
