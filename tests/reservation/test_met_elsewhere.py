"""What went wrong in other booking systems and has no other test here; tests/scenarios/elsewhere.toml lists all of it."""

from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from tests.answers import answered, refused
from tests.figures import tell
from tests.races.callers import all_until_held
from tests.reservation.box_office import BoxOffice

CROWD = 300


async def test_one_seat_and_a_crowd(office: BoxOffice) -> None:
    """Peers B1.1, B1.6, K01, I1: three hundred at once want the only seat: one has it, all others are told that none is left."""
    offer = await office.offer(capacity=1)
    answers = await all_until_held([(office.customer(), offer, f"key-{uuid4()}") for _ in range(CROWD)])
    for answer in answers:
        if answer.status_code != 201:
            assert refused(answer, 409, "SLOT_UNAVAILABLE")["available"] == 0
    told = Counter(answer.status_code for answer in answers)
    tell(f"one seat: attempts={CROWD} winners={told[201]} oversold={max(0, told[201] - 1)}")
    assert told == {201: 1, 409: CROWD - 1}


async def test_two_lines_of_one_party_are_one_demand(office: BoxOffice) -> None:
    """Peers B1.4, I1: the same ticket in two lines, and two tickets that take seats: it is their sum that must fit."""
    offer = await office.offer(capacity=3, prices={"adult": (4500, 1), "family": (9000, 2)})
    adult, family = (offer.tickets[code] for code in ("adult", "family"))

    async def party(*lines: tuple[str, int]) -> int:
        items = [{"ticket_type_id": ticket, "quantity": quantity} for ticket, quantity in lines]
        answer = await office.customer().ask(
            "POST", "/v1/holds", key=f"k-{uuid4()}", json={"time_slot_id": offer.slot_id, "items": items}
        )
        if answer.status_code == 409:
            assert refused(answer, 409, "SLOT_UNAVAILABLE")["available"] == 3
        return answer.status_code

    assert await party((adult, 2), (adult, 2)) == 409
    assert await party((family, 1), (adult, 2)) == 409
    assert await office.free(offer) == 3
    assert await party((family, 1), (adult, 1)) == 201
    assert await office.free(offer) == 0


async def test_ones_own_seats_are_in_nobodys_way(office: BoxOffice) -> None:
    """Peers B1.12, B1.18: a slot that is full of one's own hold: extending and converting it ask for no seat again."""
    offer, guest = await office.offer(capacity=2), office.customer()
    hold = answered(await guest.hold(offer, 2), 201)
    assert answered(await guest.extend(hold["id"], 600))["status"] == "active"
    assert answered(await guest.convert(hold["id"]), 201)["status"] == "pending"
    answered(await office.pay(hold["id"]))
    assert await office.status(hold["id"]) == "confirmed"
    assert await office.free(offer) == 0


async def test_what_is_paid_for_is_what_was_held(office: BoxOffice) -> None:
    """Peers B1.19, B6.79: once a payment exists, party and price stand still, whatever prices do: the amount is the total."""
    offer, guest = await office.offer(), office.customer()
    hold = answered(await guest.hold(offer, 2, key="k"), 201)
    answered(await guest.convert(hold["id"]), 201)
    path = f"/admin/v1/experiences/{offer.experience_id}/ticket-types/{offer.tickets['adult']}"
    price = {"price": {"amount": 9900, "currency": "EUR"}}
    answered(await office.operator().ask("PATCH", path, json=price))
    refused(await guest.hold(offer, 3, key="k"), 422, "IDEMPOTENCY_KEY_REUSED")
    refused(await guest.extend(hold["id"], 60), 409, "INVALID_HOLD_STATUS")
    again = answered(await guest.convert(hold["id"]))
    assert again["price"] == hold["price"]
    [entry] = office.payments.of(UUID(hold["id"]))
    assert entry.amount == hold["price"]["total"]["amount"] == 9000


async def test_all_pages_count_the_same_seats(office: BoxOffice) -> None:
    """Peers B4.54, B4.60: slot, calendar and refusal agree about what is free, with a hold that lapsed and nobody who swept."""
    offer = await office.offer(capacity=6)
    lapsing = answered(await office.customer().hold(offer, 2), 201)
    answered(await office.customer().hold(offer, 3), 201)
    for lapsed, free in ((False, 1), (True, 3)):
        if lapsed:
            await office.let_expire(lapsing["id"])
        slot = answered(await office.http.get(f"/v1/time-slots/{offer.slot_id}"))
        day = slot["local_start"][:10]
        path = f"/v1/experiences/{offer.experience_id}/calendar?from={day}&to={day}"
        [shown] = answered(await office.http.get(path))["days"]
        wanted = refused(await office.customer().hold(offer, 6), 409, "SLOT_UNAVAILABLE")
        assert (slot["available"], shown["vacancies"], wanted["available"]) == (free, free, free)


async def test_how_long_is_left_is_never_told_too_long(office: BoxOffice) -> None:
    """Peers B4.64: by the database's clock, before and after the answer was made: the header promises no more than there is."""
    offer, guest = await office.offer(), office.customer()
    hold = answered(await guest.hold(offer, ttl_seconds=60), 201)
    ends = datetime.fromisoformat(hold["expires_at"])
    [before] = await office.sql("SELECT clock_timestamp() AS now")
    shown = await guest.see_hold(hold["id"])
    [after] = await office.sql("SELECT clock_timestamp() AS now")
    left = timedelta(milliseconds=int(shown.headers["expires-in-ms"]))
    assert ends - after["now"] - timedelta(milliseconds=1) <= left <= ends - before["now"]
