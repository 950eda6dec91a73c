"""The other doors: what operators may do, what guests may see, what only the payment service may tell."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest

from reservation_service.flags import FLAGS, SIGNED_INTERNAL_CALLS
from reservation_service.store.audit import INVARIANTS
from shared.flags import Override
from tests.answers import answered, refused
from tests.doubles import scripted_payments as acts
from tests.reservation.box_office import BEARER, GUEST_SECRET, BoxOffice, Customer

EXPERIENCE: dict[str, Any] = {
    "title": "Night walk",
    "time_zone": "Europe/Lisbon",
    "currency": "EUR",
    "ticket_types": [{"code": "adult", "title": "Adult", "price": {"amount": 4500, "currency": "EUR"}, "seats": 1}],
}
READS = ["/admin/v1/sagas", f"/admin/v1/sagas/{uuid4()}", "/admin/v1/invariants", "/admin/v1/flags"]
ACTS = [
    ("POST", "/admin/v1/experiences", EXPERIENCE),
    ("POST", "/admin/v1/time-slots", {}),
    ("PATCH", f"/admin/v1/time-slots/{uuid4()}", {}),
    ("PUT", "/admin/v1/flags/hold_cleanup", {"enabled": False, "reason": "x"}),
    ("POST", f"/admin/v1/sagas/{uuid4()}/retry", {"reason": "x"}),
    ("POST", f"/admin/v1/sagas/{uuid4()}/unwind", {"reason": "x"}),
    ("POST", f"/admin/v1/sagas/{uuid4()}/resolve", {"outcome": "failed", "reason": "x"}),
]


async def test_only_operators_and_viewers_look(office: BoxOffice) -> None:
    """X02: no token 401, a customer's 403; a viewer may look at everything."""
    viewer, customer = office.customer(roles=["viewer"]), office.customer(roles=["admin", "root"])
    for path in READS:
        refused(await office.http.get(path), 401, "UNAUTHENTICATED")
        refused(await customer.ask("GET", path), 403, "FORBIDDEN")
        assert (await viewer.ask("GET", path)).status_code in {200, 404}


async def test_only_operators_act(office: BoxOffice) -> None:
    """X02: neither a customer nor a viewer nor a guest who writes roles into a token changes anything."""
    claims = {"iss": "holdfast-guest", "sub": "guest:1", "exp": datetime.now(UTC) + timedelta(hours=1)}
    forged = jwt.encode(claims | {"roles": ["operator"], "scope": "bookings:external"}, GUEST_SECRET, algorithm="HS256")
    for method, path, body in ACTS:
        refused(await office.http.request(method, path, json=body), 401, "UNAUTHENTICATED")
        for who in (office.customer(), office.customer(roles=["viewer"]), Customer(office.http, forged)):
            refused(await who.ask(method, path, json=body), 403, "FORBIDDEN")


async def test_a_guest_session_owns_what_it_makes(office: BoxOffice) -> None:
    """An anonymous token holds seats, lasts thirty days, and is nobody else."""
    session = answered(await office.http.post("/v1/guest-sessions"), 201)
    lasts = datetime.fromisoformat(session["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < lasts <= timedelta(days=30)
    guest, offer = Customer(office.http, session["token"]), await office.offer()
    hold_id = answered(await guest.hold(offer), 201)["id"]
    assert answered(await guest.see_hold(hold_id))["id"] == hold_id
    other = answered(await office.http.post("/v1/guest-sessions"), 201)
    refused(await Customer(office.http, other["token"]).see_hold(hold_id), 404, "HOLD_NOT_FOUND")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"time_zone": "../../etc/passwd"}, "/time_zone"),
        ({"time_zone": "localtime"}, "/time_zone"),
        ({"time_zone": "Factory"}, "/time_zone"),
        ({"currency": "EURO"}, "/currency"),
        ({"max_party": 0}, "/max_party"),
        ({"ticket_types": []}, "/ticket_types"),
        ({"ticket_types": EXPERIENCE["ticket_types"] * 2}, "/ticket_types"),
        ({"currency": "JPY"}, "/ticket_types"),
        ({"cancellation_policy": {"type": "maybe"}}, "/cancellation_policy"),
        ({"owner": "me"}, "/owner"),
    ],
)
async def test_an_experience_has_a_form(office: BoxOffice, change: dict[str, Any], pointer: str) -> None:
    """V02, T07: what makes no sense is 422 and says where."""
    answer = await office.operator().ask("POST", "/admin/v1/experiences", json=EXPERIENCE | change)
    assert refused(answer, 422, "VALIDATION_FAILED")["errors"][0]["pointer"].startswith(pointer)


@pytest.mark.parametrize(
    ("times", "status"),
    [
        (("2030-01-01T10:00:00Z", "2030-01-01T09:00:00Z"), 422),
        (("2030-01-01T10:00:00Z", "2030-01-01T10:00:00Z"), 422),
        (("2030-01-01T10:00:00", "2030-01-01T12:00:00"), 422),
        (("0001-01-01T00:00:00+14:00", "2030-01-01T12:00:00Z"), 422),
        ((0, 1), 422),
        (("2028-02-29T10:00:00+01:00", "2028-02-29T12:00:00+01:00"), 201),
    ],
)
async def test_a_slot_has_times(office: BoxOffice, times: tuple[Any, Any], status: int) -> None:
    """T09, I28: starts before it ends, with an offset; stored as the instant it is."""
    offer = await office.offer()
    body = {"experience_id": offer.experience_id, "starts_at": times[0], "ends_at": times[1], "capacity": 1}
    answer = await office.operator().ask("POST", "/admin/v1/time-slots", json=body)
    assert answer.status_code == status, answer.text
    if status == 201:
        assert answer.json()["starts_at"] == "2028-02-29T09:00:00Z"


async def test_a_slot_needs_its_experience(office: BoxOffice) -> None:
    """A departure of nothing is 404."""
    starts_at = datetime.now(UTC) + timedelta(days=1)
    body = {"experience_id": str(uuid4()), "starts_at": starts_at.isoformat(), "capacity": 1}
    body["ends_at"] = (starts_at + timedelta(hours=1)).isoformat()
    refused(await office.operator().ask("POST", "/admin/v1/time-slots", json=body), 404, "EXPERIENCE_NOT_FOUND")


async def test_clocks_that_change(office: BoxOffice) -> None:
    """T07, I28: an hour that exists twice is two slots with their offsets, on one local day of 25 hours."""
    offer, operator = await office.offer(), office.operator()
    starts = ["2030-10-27T00:30:00Z", "2030-10-27T01:30:00Z", "2030-10-27T23:30:00Z", "2030-10-28T00:30:00Z"]
    for start in starts:
        body = {
            "experience_id": offer.experience_id,
            "starts_at": start,
            "ends_at": "2030-10-29T00:00:00Z",
            "capacity": 1,
        }
        answered(await operator.ask("POST", "/admin/v1/time-slots", json=body), 201)
    page = answered(await office.http.get(f"/v1/time-slots?experience_id={offer.experience_id}&date=2030-10-27"))
    assert [slot["local_start"] for slot in page["data"]] == [
        "2030-10-27T01:30:00+01:00",
        "2030-10-27T01:30:00+00:00",
        "2030-10-27T23:30:00+00:00",
    ]
    assert [slot["starts_at"] for slot in page["data"]] == starts[:3]


async def test_the_capacity_is_never_below_what_is_taken(office: BoxOffice) -> None:
    """K06, I1: refused with the number of seats that are taken; exactly that many is fine."""
    offer, operator, guest = await office.offer(capacity=10), office.operator(), office.customer()
    answered(await guest.hold(offer, 4), 201)
    path = f"/admin/v1/time-slots/{offer.slot_id}"
    refusal = refused(
        await operator.ask("PATCH", path, json={"capacity": 3, "reason": "x"}), 409, "CAPACITY_BELOW_TAKEN"
    )
    assert refusal["taken"] == 4
    changed = answered(await operator.ask("PATCH", path, json={"capacity": 4, "reason": "smaller boat"}))
    assert (changed["capacity"], changed["available"]) == (4, 0)
    for unknown in (str(uuid4()), "x"):
        answer = await operator.ask("PATCH", f"/admin/v1/time-slots/{unknown}", json={"capacity": 1, "reason": "x"})
        refused(answer, 404, "TIME_SLOT_NOT_FOUND")


async def test_the_catalogue_page_by_page(office: BoxOffice) -> None:
    """Experiences oldest first, slots by start, both with cursors, both public."""
    offers = [await office.offer() for _ in range(3)]
    ids, cursor = list[str](), offers[0].experience_id
    ids.append(cursor)
    for _ in range(2):
        page = answered(await office.http.get(f"/v1/experiences?limit=1&starting_after={cursor}"))
        cursor = page["data"][0]["id"]
        ids.append(cursor)
    assert ids == [offer.experience_id for offer in offers]
    later = [await office.slot(offers[0].experience_id, in_s=8 * 86_400 + n) for n in range(3)]
    path = f"/v1/time-slots?experience_id={offers[0].experience_id}&limit=2"
    first = answered(await office.http.get(path))
    rest = answered(await office.http.get(f"{path}&starting_after={first['next_cursor']}"))
    assert [slot["id"] for slot in first["data"] + rest["data"]] == [offers[0].slot_id, *later]
    assert (first["has_more"], rest["has_more"]) == (True, False)


@pytest.mark.parametrize("path", ["/v1/experiences/{}", "/v1/time-slots/{}", "/v1/time-slots?experience_id={}"])
async def test_nothing_there_is_404(office: BoxOffice, path: str) -> None:
    """X01: an id that is none and an id of nothing get the same answer."""
    for nothing in (str(uuid4()), "x", "00000000-0000-0000-0000-00000000000g"):
        refused(await office.http.get(path.format(nothing)), 404, "EXPERIENCE_NOT_FOUND", "TIME_SLOT_NOT_FOUND")


@pytest.mark.parametrize("query", ["date=2030-13-01", "date=x", "date=9999-12-31", "date=0001-01-01"])
async def test_a_date_has_a_range(office: BoxOffice, query: str) -> None:
    """T09: no date makes the service fail: 422, or an empty page."""
    offer = await office.offer(time_zone="Pacific/Kiritimati")
    answer = await office.http.get(f"/v1/time-slots?experience_id={offer.experience_id}&{query}")
    assert answer.status_code in {200, 422}, answer.text


async def test_public_pages_have_etags(office: BoxOffice) -> None:
    """If-None-Match answers 304 for experience and slot, until a seat is taken."""
    offer = await office.offer()
    slot_path = f"/v1/time-slots/{offer.slot_id}"
    for path in (slot_path, f"/v1/experiences/{offer.experience_id}"):
        etag = (await office.http.get(path)).headers["etag"]
        same = await office.http.get(path, headers={"If-None-Match": etag})
        assert (same.status_code, same.content) == (304, b"")
    etag = (await office.http.get(slot_path)).headers["etag"]
    await office.customer().hold(offer)
    assert (await office.http.get(slot_path, headers={"If-None-Match": etag})).status_code == 200


async def test_sagas_can_be_looked_at(office: BoxOffice) -> None:
    """A saga shows its journal and, when it needs somebody, why; lists can be narrowed to a status."""
    guest, offer, viewer = office.customer(), await office.offer(), office.customer(roles=["viewer"])
    hold_id = answered(await guest.hold(offer), 201)["id"]
    office.payments.script("create", acts.WRONG_AMOUNT)
    await guest.convert(hold_id)
    page = answered(await viewer.ask("GET", "/admin/v1/sagas?status=needs_attention&limit=1"))
    (saga,) = page["data"]
    assert (saga["reservation_id"], saga["reason"]) == (hold_id, "create_payment_intent: amount_mismatch")
    shown = answered(await viewer.ask("GET", f"/admin/v1/sagas/{saga['id']}"))
    assert [(step["step"], step["direction"], step["event"]) for step in shown["steps"]] == [
        ("create_hold", "do", "done"),
        ("create_payment_intent", "do", "started"),
        ("create_payment_intent", "do", "stuck"),
    ]
    refused(await viewer.ask("GET", f"/admin/v1/sagas/{uuid4()}"), 404, "SAGA_NOT_FOUND")
    refused(await viewer.ask("GET", "/admin/v1/sagas/x"), 404, "SAGA_NOT_FOUND")
    refused(await viewer.ask("GET", "/admin/v1/sagas?status=lost"), 422, "VALIDATION_FAILED")


async def test_the_audit_finds_what_is_wrong(office: BoxOffice) -> None:
    """I1..I23: clean when nothing is wrong; a counter that was tampered with is named with its slot."""
    offer, viewer = await office.offer(), office.customer(roles=["viewer"])
    clean = answered(await viewer.ask("GET", "/admin/v1/invariants"))
    assert (clean["ok"], [check["id"] for check in clean["checks"]]) == (True, [check.id for check in INVARIANTS])
    await office.sql("UPDATE time_slots SET taken = 1 WHERE id = :id", id=UUID(offer.slot_id))
    broken = answered(await viewer.ask("GET", "/admin/v1/invariants"))
    await office.sql("UPDATE time_slots SET taken = 0 WHERE id = :id", id=UUID(offer.slot_id))
    assert broken["ok"] is False
    (check,) = [check for check in broken["checks"] if check["violations"]]
    assert (check["id"], check["violations"], check["examples"]) == ("I2", 1, [offer.slot_id])


async def test_flags_are_switched_without_a_restart(office: BoxOffice) -> None:
    """An operator turns a flag off and on; a flag that is not declared is 404, a percentage has a range."""
    operator = office.operator()
    listed = answered(await operator.ask("GET", "/admin/v1/flags"))["data"]
    assert [flag["name"] for flag in listed] == [flag.name for flag in FLAGS]
    assert all(flag["enabled"] and flag["off_means"] for flag in listed)
    path = "/admin/v1/flags/hold_cleanup"
    off = answered(await operator.ask("PUT", path, json={"enabled": False, "reason": "look"}))
    assert (off["name"], off["enabled"], off["overridden"]) == ("hold_cleanup", False, True)
    listed = answered(await operator.ask("GET", "/admin/v1/flags"))["data"]
    assert [flag["name"] for flag in listed if not flag["enabled"]] == ["hold_cleanup"]
    assert not office.parts.flags.is_on("hold_cleanup")
    answered(await operator.ask("PUT", path, json={"enabled": True, "reason": "seen"}))
    assert office.parts.flags.is_on("hold_cleanup")
    (row,) = await office.sql("SELECT updated_by, reason FROM flag_overrides WHERE name = 'hold_cleanup'")
    assert (row["updated_by"], row["reason"]) == ("olga", "seen")
    refused(
        await operator.ask("PUT", "/admin/v1/flags/nothing", json={"enabled": True, "reason": "x"}),
        404,
        "FLAG_NOT_FOUND",
    )
    for body in (
        {"enabled": "yes", "reason": "x"},
        {"enabled": True, "percentage": 101, "reason": "x"},
        {"enabled": True},
    ):
        refused(await operator.ask("PUT", path, json=body), 422, "VALIDATION_FAILED")


async def pending(office: BoxOffice) -> UUID:
    guest, offer = office.customer(), await office.offer()
    hold_id = answered(await guest.hold(offer), 201)["id"]
    await guest.convert(hold_id)
    (entry,) = office.payments.of(UUID(hold_id))
    return entry.id


async def test_messages_are_signed(office: BoxOffice) -> None:
    """X03, X05: unsigned, or with any customer's token, a message is 401 and moves nothing."""
    payment_id = await pending(office)
    event = office.payments.pay(payment_id)
    path, body = "/internal/v1/payment-events", event.model_dump_json()
    headers = {"content-type": "application/json", "idempotency-key": "e"}
    refused(await office.http.post(path, content=body, headers=headers), 401, "INTERNAL_SIGNATURE_INVALID")
    answer = await office.operator().ask("POST", path, key="e", content=body)
    refused(answer, 401, "INTERNAL_SIGNATURE_INVALID")
    bearer = headers | {"authorization": f"Bearer {BEARER}"}
    refused(await office.http.post(path, content=body, headers=bearer), 401, "INTERNAL_SIGNATURE_INVALID")
    assert answered(await office.tell(event)) == {"result": "applied", "known": []}
    assert answered(await office.tell(event)) == {"result": "ignored", "known": []}


async def test_a_bearer_secret_is_taken_only_while_the_flag_is_off(office: BoxOffice) -> None:
    """X14: flag off: the shared secret opens the door, a wrong one does not, signatures always do, nobody is anonymous."""
    flags, database = office.parts.flags, office.parts.database
    event = office.payments.pay(await pending(office))
    path, body = "/internal/v1/payment-events", event.model_dump_json()
    headers = {"content-type": "application/json", "idempotency-key": "e"}
    await flags.set(database, SIGNED_INTERNAL_CALLS, Override(enabled=False), by="test", reason="test")
    try:
        anonymous = await office.http.post(path, content=body, headers=headers)
        wrong = await office.http.post(path, content=body, headers=headers | {"authorization": "Bearer x"})
        right = await office.http.post(path, content=body, headers=headers | {"authorization": f"Bearer {BEARER}"})
        signed = await office.tell(event)
    finally:
        await flags.set(database, SIGNED_INTERNAL_CALLS, Override(enabled=True), by="test", reason="test")
    refused(anonymous, 401, "INTERNAL_SIGNATURE_INVALID")
    refused(wrong, 401, "INTERNAL_SIGNATURE_INVALID")
    assert [answered(answer)["result"] for answer in (right, signed)] == ["applied", "ignored"]


async def test_a_message_has_a_form_and_may_grow(office: BoxOffice) -> None:
    """X12: fields of a newer release are read past; nonsense is 422 even when it is signed."""
    event = office.payments.event(await pending(office))
    newer = event.model_copy(update={"version": event.version + 1}).model_dump(mode="json") | {"colour": "blue"}
    assert answered(await office.tell_raw(newer))["result"] == "applied"
    refused(await office.tell_raw(newer | {"version": "many"}), 422, "VALIDATION_FAILED")
    refused(await office.tell_raw(newer | {"status": "rich"}), 422, "VALIDATION_FAILED")
