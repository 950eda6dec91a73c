"""Old idempotency keys are forgotten a stretch at a time; those of bookings that somebody works on are not."""

import pytest

from reservation_service.booking import tidying
from reservation_service.booking.tidying import KeyBroom
from tests.answers import answered
from tests.reservation.box_office import BoxOffice, Customer, Offer

_OLD = "UPDATE idempotency SET created_at = created_at - interval '31 days' WHERE caller = :caller"


async def _keys(office: BoxOffice) -> set[str]:
    return {row["key"] for row in await office.sql("SELECT key FROM idempotency")}


async def _given_back(customer: Customer, offer: Offer, key: str) -> None:
    held = answered(await customer.hold(offer, key=key), 201)
    answered(await customer.release(held["id"]))


async def test_old_keys_are_forgotten(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys at a time, in as many stretches as it takes, and round again: the old ones go, and nothing else does."""
    monkeypatch.setattr(tidying, "KEYS_AT_ONCE", 2)
    await office.sql("DELETE FROM idempotency")
    offer, old, young = await office.offer(capacity=20), office.customer("a-guest-of-old"), office.customer()
    for number in range(4):
        await _given_back(old, offer, f"old-{number}")
    answered(await old.hold(offer, key="still-held"), 201)
    await office.sql(_OLD, caller="a-guest-of-old")
    await _given_back(young, offer, "young")
    broom = KeyBroom(office.parts.database, office.parts.metrics, keep_days=30)
    forgotten = [await broom.sweep() for _ in range(5)]
    assert sum(forgotten) == 4
    assert max(forgotten) <= 2
    assert await _keys(office) == {"still-held", "young"}
    answered(await office.customer("a-guest-of-old").hold(offer, key="old-0"), 201)


async def test_the_broom_goes_round_again(office: BoxOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the table it begins anew: what has become old meanwhile is found."""
    monkeypatch.setattr(tidying, "KEYS_AT_ONCE", 2)
    await office.sql("DELETE FROM idempotency")
    offer, guest = await office.offer(capacity=20), office.customer("a-guest-who-ages")
    for number in range(3):
        await _given_back(guest, offer, f"key-{number}")
    broom = KeyBroom(office.parts.database, office.parts.metrics, keep_days=30)
    assert [await broom.sweep() for _ in range(2)] == [0, 0]
    await office.sql(_OLD, caller="a-guest-who-ages")
    assert [await broom.sweep() for _ in range(2)] == [2, 1]
    assert await _keys(office) == set()
