"""What answers have said goes back with the next receipt: stored things only, once, and never the payment told about."""

from typing import Any
from uuid import UUID, uuid4

from reservation_service.saga.heard import Heard
from shared.payment_contract import KnownVersion
from tests.answers import answered
from tests.reservation.box_office import BoxOffice


def test_it_is_said_once_and_not_of_the_payment_in_hand() -> None:
    """The newest version of each, a bounded number at a time; the rest is said with the next receipt."""
    heard, ids = Heard(), [uuid4() for _ in range(20)]
    for one in ids:
        heard.note(one, 1)
    heard.note(ids[0], 3)
    heard.note(ids[0], 2)
    first, second = heard.say(besides=ids[19]), heard.say(besides=uuid4())
    assert first[0] == KnownVersion(payment_id=ids[0], version=3)
    assert [known.payment_id for known in (*first, *second)] == ids[:19]
    assert heard.say(besides=uuid4()) == ()


def test_it_is_bounded() -> None:
    """Nobody may ever tell anything: the oldest is forgotten, and told after all."""
    heard, ids = Heard(), [uuid4() for _ in range(1001)]
    for one in ids:
        heard.note(one, 1)
    said: list[UUID] = []
    while known := heard.say(besides=uuid4()):
        said += [one.payment_id for one in known]
    assert said == ids[1:]


async def test_a_receipt_says_what_answers_have_told(office: BoxOffice) -> None:
    """A booking was captured, and that is stored: the receipt of the next one's message says so, and not again after that."""
    first, _ = await _paid(office)
    second, receipt = await _paid(office)
    (row,) = await office.sql("SELECT payment_version FROM reservations WHERE id = :id", id=first)
    (mine,) = office.payments.of(first)
    (other,) = office.payments.of(second)
    known = {known["payment_id"]: known["version"] for known in receipt["known"]}
    assert known[str(mine.id)] == row["payment_version"]
    assert str(other.id) not in known
    assert answered(await office.tell(office.payments.event(other.id)))["known"] == []


async def _paid(office: BoxOffice) -> tuple[UUID, Any]:
    """Return a booking that was paid and confirmed, and the receipt of the message that said so."""
    guest, offer = office.customer(), await office.offer()
    hold_id: str = answered(await guest.hold(offer), 201)["id"]
    answered(await guest.convert(hold_id), 201)
    receipt = answered(await office.pay(hold_id))
    assert await office.status(hold_id) == "confirmed"
    return UUID(hold_id), receipt
