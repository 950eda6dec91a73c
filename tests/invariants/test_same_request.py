"""A key stands for one request: the same one is replayed, another one under the same key is refused."""

from tests.answers import answered, refused
from tests.reservation.box_office import BoxOffice

KEY = "one-key"


async def test_the_same_request_again_is_the_same_hold(office: BoxOffice) -> None:
    """I20: a repeated call takes no more seats and is answered byte for byte like the first."""
    offer, customer = await office.offer(capacity=10), office.customer()
    first, again = [await customer.hold(offer, 2, key=KEY) for _ in range(2)]
    assert answered(first, 201)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert await office.free(offer) == 8


async def test_another_request_under_the_same_key_is_refused(office: BoxOffice) -> None:
    """V07: who changes the party but keeps the key learns that, rather than getting the old party's hold."""
    offer, customer = await office.offer(capacity=10), office.customer()
    answered(await customer.hold(offer, 2, key=KEY), 201)
    refused(await customer.hold(offer, 3, key=KEY), 422, "IDEMPOTENCY_KEY_REUSED")
    assert await office.free(offer) == 8


async def test_a_key_belongs_to_its_caller(office: BoxOffice) -> None:
    """V08: two customers who happen to choose the same key each get their own hold."""
    offer = await office.offer(capacity=10)
    holds = [answered(await office.customer().hold(offer, 2, key=KEY), 201) for _ in range(2)]
    assert holds[0]["id"] != holds[1]["id"]
    assert await office.free(offer) == 6
