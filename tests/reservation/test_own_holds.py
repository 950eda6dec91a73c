"""A guest's own older hold never stands in the way of a newer one, and never costs anybody else a seat."""

import asyncio
import random
from uuid import UUID, uuid4

import pytest

from reservation_service.booking.slow_lane import SlowLane
from reservation_service.flags import REPLACE_OWN_HOLD
from reservation_service.store.slots import NewHold
from shared.flags import Override
from tests.answers import answered, refused
from tests.figures import tell
from tests.reservation.box_office import BoxOffice, Customer, Offer

SEED = 20_261_124


@pytest.fixture(autouse=True)
def _abandoned_at_once(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests of these tests have left the moment they have a hold."""
    monkeypatch.setattr(office.parts.holds._slow_lane, "_abandoned_after_s", 0)


async def held(guest: Customer, offer: Offer, seats: int = 1, *, key: str | None = None) -> str:
    return str(answered(await guest.hold(offer, seats, key=key), 201)["id"])


async def reasons(office: BoxOffice, hold_id: str) -> list[str]:
    events = await office.sql(
        "SELECT reason FROM reservation_events WHERE reservation_id = :id ORDER BY id", id=UUID(hold_id)
    )
    return [str(event["reason"]) for event in events]


def replacements(office: BoxOffice) -> float:
    return office.parts.metrics.registry.get_sample_value("reservation_holds_total", {"outcome": "replaced"}) or 0.0


async def test_an_abandoned_hold_makes_way(office: BoxOffice) -> None:
    """Peers B4.57: The last seats are one's own, under a key that is lost: a new key gets them, and the old hold is released."""
    offer, guest, before = await office.offer(capacity=4), office.customer(), replacements(office)
    old = await held(guest, offer, 3)
    new = answered(await guest.hold(offer, 4), 201)
    assert new["supersedes"] is None
    assert answered(await guest.see_hold(old))["status"] == "released"
    assert await reasons(office, old) == ["replaced by a newer hold"]
    assert replacements(office) == before + 1
    assert await office.free(offer) == 0
    assert refused(await guest.convert(old), 409, "INVALID_HOLD_STATUS")["hold_status"] == "released"
    answered(await guest.convert(new["id"]), 201)


async def test_a_hold_of_a_moment_ago_is_not_abandoned(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """K01, K10: whoever asks twice at once has two holds; seats and places are refused, and nothing is released."""
    monkeypatch.setattr(office.parts.holds._slow_lane, "_abandoned_after_s", 60)
    offer, roomy, guest = await office.offer(capacity=2), await office.offer(), office.customer()
    old = await held(guest, offer, 2)
    refused(await guest.hold(offer, 1), 409, "SLOT_UNAVAILABLE")
    for _ in range(4):
        await held(guest, roomy)
    refused(await guest.hold(roomy), 409, "TOO_MANY_ACTIVE_HOLDS")
    assert await office.status(old) == "held"


async def test_only_as_many_as_are_needed_the_oldest_first(office: BoxOffice) -> None:
    """Of three own holds the oldest one is enough; holds on other slots and of other guests are not touched."""
    offer, other, guest = await office.offer(capacity=7), await office.offer(), office.customer()
    first, second, third = [await held(guest, offer, 2) for _ in range(3)]
    elsewhere, stranger = await held(guest, other), await held(office.customer(), offer)
    await held(guest, offer, 2)
    statuses = [await office.status(hold) for hold in (first, second, third, elsewhere, stranger)]
    assert statuses == ["released", "held", "held", "held", "held"]


async def test_if_it_does_not_suffice_nothing_is_released(office: BoxOffice) -> None:
    """Seats of others stay theirs: the refusal says what is free, and the own hold is as it was."""
    offer, guest = await office.offer(capacity=5), office.customer()
    old = await held(guest, offer, 2)
    await held(office.customer(), offer, 2)
    assert refused(await guest.hold(offer, 4), 409, "SLOT_UNAVAILABLE")["available"] == 1
    assert await office.status(old) == "held"
    assert await reasons(office, old) == []
    await held(guest, offer, 3)
    assert await office.status(old) == "released"


async def test_the_sixth_hold_replaces_the_first_on_its_slot(office: BoxOffice) -> None:
    """K10: at the limit of active holds the oldest of the same slot makes way; on another slot it is a refusal."""
    offer, other, guest = await office.offer(capacity=20), await office.offer(), office.customer()
    holds = [await held(guest, offer) for _ in range(5)]
    refused(await guest.hold(other), 409, "TOO_MANY_ACTIVE_HOLDS")
    await held(guest, offer)
    assert [await office.status(hold) for hold in holds] == ["released", "held", "held", "held", "held"]
    assert await office.free(offer) == 15


async def test_an_own_use_of_a_discount_makes_way(office: BoxOffice) -> None:
    """A guest who lost the key of a discounted hold gets the code's only use again; another guest does not."""
    offer, guest = await office.offer(), office.customer()
    single = await office.discount(max_uses=1)
    plain = await held(guest, offer)
    old = answered(await guest.hold(offer, discount_code=single["code"]), 201)["id"]
    refused(await office.customer().hold(offer, discount_code=single["code"]), 422, "DISCOUNT_INVALID")
    answered(await guest.hold(offer, discount_code=single["code"]), 201)
    assert [await office.status(hold) for hold in (plain, old)] == ["held", "released"]
    assert await office.used(single) == 1


async def test_two_tabs_do_not_take_turns(office: BoxOffice) -> None:
    """The newer key wins: the old key's call is renewed only if seats are free, and takes none from the newer hold."""
    offer, guest = await office.offer(capacity=2), office.customer()
    old = await held(guest, offer, 2, key="tab-1")
    new = await held(guest, offer, 2, key="tab-2")
    for _ in range(3):
        assert refused(await guest.hold(offer, 2, key="tab-1"), 409, "SLOT_UNAVAILABLE")["available"] == 0
        assert answered(await guest.hold(offer, 2, key="tab-2"), 201)["id"] == new
    answered(await guest.release(new))
    renewed = answered(await guest.hold(offer, 2, key="tab-1"), 201)
    assert renewed["supersedes"] == old
    assert await office.free(offer) == 0


async def test_who_books_for_others_keeps_all_holds(office: BoxOffice) -> None:
    """A reseller's older hold is another guest's: with the scope `bookings:external` nothing is replaced."""
    offer, reseller = await office.offer(capacity=2), office.customer(scope="bookings:external")
    old = await held(reseller, offer, 2)
    refused(await reseller.hold(offer), 409, "SLOT_UNAVAILABLE")
    assert await office.status(old) == "held"


async def test_the_flag_turned_off(office: BoxOffice) -> None:
    """Without `replace_own_hold` one's own hold is in the way like anybody's, until its time is over."""
    offer, guest = await office.offer(capacity=2), office.customer()
    old = await held(guest, offer, 2)
    flags, database = office.parts.flags, office.parts.database
    await flags.set(database, REPLACE_OWN_HOLD, Override(enabled=False), by="test", reason="test")
    refused(await guest.hold(offer), 409, "SLOT_UNAVAILABLE")
    await office.let_expire(old)
    await held(guest, offer)
    await flags.set(database, REPLACE_OWN_HOLD, Override(enabled=True), by="test", reason="test")


async def test_many_tabs_at_once(office: BoxOffice) -> None:
    """K02, I1: forty tabs of four guests fight for two seats while some convert: never more than there are, none lost."""
    offer, guests = await office.offer(capacity=2), [office.customer() for _ in range(4)]
    tabs = [guests[n % 4] for n in range(40)]
    random.Random(SEED).shuffle(tabs)
    answers = await asyncio.gather(*(guest.hold(offer, 1 + n % 2) for n, guest in enumerate(tabs)))
    assert {answer.status_code for answer in answers} <= {201, 409, 503}
    made = [(tabs[n], answer.json()["id"]) for n, answer in enumerate(answers) if answer.status_code == 201]
    converted = await asyncio.gather(*(guest.convert(hold) for guest, hold in made), tabs[0].hold(offer))
    won = sum(answer.status_code == 201 for answer in converted[:-1])
    pinned = await office.sql(
        "SELECT count(*) AS n, sum(seats) AS seats FROM reservations WHERE seats_pinned AND time_slot_id = :id",
        id=UUID(offer.slot_id),
    )
    assert pinned[0]["seats"] <= 2
    tell(f"tabs=40 holds={len(made)} converted={won} pinned_seats={pinned[0]['seats']}")
    assert won >= 1


async def test_the_same_new_key_twice_replaces_once(office: BoxOffice) -> None:
    """K02: twins with one new key, at once: one replaces the old hold, all the others replay what it made."""
    offer, guest = await office.offer(capacity=2), office.customer()
    old = await held(guest, offer, 2)
    answers = await asyncio.gather(*(guest.hold(offer, 2, key="new") for _ in range(12)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert await reasons(office, old) == ["replaced by a newer hold"]


async def test_a_slot_that_closes_meanwhile_releases_nothing(office: BoxOffice) -> None:
    """The statement that takes the seats has the last word: if it takes none, the older hold is as it was."""
    offer, guest = await office.offer(capacity=2), office.customer("closes-meanwhile")
    old = await held(guest, offer, 2)
    await office.sql("UPDATE time_slots SET status = 'closed' WHERE id = :id", id=UUID(offer.slot_id))
    wanted = NewHold(
        hold_id=uuid4(), caller="closes-meanwhile", key="new", fingerprint=b"f", time_slot_id=UUID(offer.slot_id),
        seats=2, ttl_s=600, items=[], price={}, total_minor=0, currency="EUR", capture_method="manual",
        client_reference=None, metadata=None, active_holds_max=5,
    )  # fmt: skip
    assert await SlowLane(office.parts.database, abandoned_after_s=0).replace(wanted) is None
    assert await office.status(old) == "held"
    assert await reasons(office, old) == []
