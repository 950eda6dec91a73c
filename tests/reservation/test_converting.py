"""Convert from outside: one call that may be repeated for ever, and always says what to do next."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest

from shared.payment_contract import Outcome, PaymentStatus
from tests.answers import answered, refused
from tests.doubles import scripted_payments as acts
from tests.reservation.box_office import BoxOffice, Customer
from tests.scenarios import fired


async def a_hold(office: BoxOffice, **terms: Any) -> tuple[Customer, str]:
    guest, offer = office.customer(), await office.offer(**terms)
    return guest, str(answered(await guest.hold(offer, 2), 201)["id"])


async def test_converting_sets_a_payment_up(office: BoxOffice) -> None:
    """201 on the transition: seats pinned, a reference, a deadline, and the secret to pay with; then 200, the same."""
    guest, hold_id = await a_hold(office)
    first = await guest.convert(hold_id)
    booking = answered(first, 201)
    assert (booking["id"], booking["status"], booking["payment"]["status"]) == (hold_id, "pending", "requires_payment")
    assert (booking["outcome"]["type"], booking["outcome"]["action"]) == ("action_required", "confirm_payment")
    assert booking["outcome"]["client_secret"] == booking["payment"]["client_secret"]
    assert len(booking["reference"]) == 6
    assert set(booking["reference"]) <= set("ABCDEFGHJKMNPQRSTUVWXYZ23456789")
    assert 890_000 < int(first.headers["expires-in-ms"]) <= 900_000
    again = answered(await guest.convert(hold_id, key="another-key"), 200)
    assert again | {"version": 0} == booking | {"version": 0}
    assert len(office.payments.of(UUID(hold_id))) == 1


async def test_paying_confirms(office: BoxOffice) -> None:
    """The message confirms the booking; convert then answers `succeeded`, without the secret."""
    guest, hold_id = await a_hold(office)
    await guest.convert(hold_id)
    assert answered(await office.pay(hold_id))["result"] == "applied"
    answer = await guest.convert(hold_id)
    booking = answered(answer)
    assert (booking["status"], booking["outcome"]) == ("confirmed", {"type": "succeeded"})
    assert booking["payment"]["captured"] == booking["payment"]["amount"] == {"amount": 9000, "currency": "EUR"}
    assert (booking["payment"]["client_secret"], booking["expires_at"]) == (None, None)
    assert answer.headers["expires-in-ms"] == "0"


async def test_converting_again_goes_and_looks(office: BoxOffice) -> None:
    """No message came: the same call asks how the payment stands, and confirms."""
    guest, hold_id = await a_hold(office)
    await guest.convert(hold_id)
    (entry,) = office.payments.of(UUID(hold_id))
    office.payments.pay(entry.id)
    assert answered(await guest.convert(hold_id))["outcome"] == {"type": "succeeded"}


async def test_a_decline_is_an_outcome(office: BoxOffice) -> None:
    """S11: 200 with the class of the decline and the same secret, so that the guest can try another card."""
    guest, hold_id = await a_hold(office)
    secret = answered(await guest.convert(hold_id), 201)["outcome"]["client_secret"]
    (entry,) = office.payments.of(UUID(hold_id))
    office.payments.change(entry.id, decline_class="card_declined")
    booking = answered(await guest.convert(hold_id))
    assert booking["outcome"]["type"] == "payment_declined"
    assert (booking["outcome"]["decline_class"], booking["outcome"]["client_secret"]) == ("card_declined", secret)
    assert booking["payment"]["last_error"] == {"code": "PAYMENT_DECLINED", "detail": "card_declined"}


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (acts.NO_CONNECTION, "payment_setup_failed"),
        (acts.NOT_SENT, "payment_setup_failed"),
        (acts.TIMEOUT, "processing"),
        (acts.BUSY, "processing"),
        (acts.GARBAGE, "processing"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
async def test_trouble_is_an_outcome(office: BoxOffice, act: acts.Act, outcome: str) -> None:
    """S01, S17: what was never sent is `payment_setup_failed`, what is unknown is `processing`; always 2xx, seats kept."""
    guest, hold_id = await a_hold(office)
    office.payments.script("create", act)
    booking = answered(await guest.convert(hold_id), 201)
    assert (booking["status"], booking["outcome"]["type"]) == ("pending", outcome)
    if outcome == "payment_setup_failed":
        assert booking["outcome"]["error"]["code"] == "SERVICE_UNAVAILABLE"
        assert booking["payment"]["status"] == "setup_failed"
    again = answered(await guest.convert(hold_id))
    assert (again["outcome"]["type"], again["payment"]["last_error"]) == ("action_required", None)


async def test_the_wait_that_is_asked_for_is_passed_on(office: BoxOffice) -> None:
    """S17: payment_service says when it will try again; the guest hears the same, in milliseconds, and not a guess."""
    guest, hold_id = await a_hold(office)
    cut_off = acts.Act("cut_off", outcome=Outcome.NOT_SENT, code="breaker_open", retry_after_ms=23_400)
    office.payments.script("create", cut_off)
    booking = answered(await guest.convert(hold_id), 201)
    outcome = booking["outcome"]
    assert (outcome["type"], outcome["retryable"], outcome["retry_after_ms"]) == ("payment_setup_failed", True, 23_400)
    assert outcome["error"]["retry_after_ms"] == 23_400
    assert booking["payment"]["last_error"]["code"] == "breaker_open"


async def test_a_doubt_asks_for_patience_too(office: BoxOffice) -> None:
    """S17: nobody knows whether a payment was set up, and nobody may ask for a while: guests stay away meanwhile.

    Not for all of it: what happened after all may be told by Stripe at any moment.
    """
    guest, hold_id = await a_hold(office)
    for status, wait_ms, told_ms in ((201, 23_400, 5000), (200, 1200, 1200), (200, 10, 800)):
        office.payments.script("create", acts.Act("cut_off", outcome=Outcome.UNKNOWN, retry_after_ms=wait_ms))
        outcome = answered(await guest.convert(hold_id), status)["outcome"]
        assert outcome == {"type": "processing", "poll_after_ms": told_ms}
    assert answered(await guest.convert(hold_id))["outcome"]["type"] == "action_required"


async def test_the_wait_of_a_try_before_is_not_told_during_the_next(office: BoxOffice) -> None:
    """S17: the saga tries again by itself just when the guest asks again: half a minute more would be a wrong answer."""
    guest, hold_id = await a_hold(office)
    cut_off = acts.Act("cut_off", outcome=Outcome.NOT_SENT, code="breaker_open", retry_after_ms=23_400)
    office.payments.script("create", cut_off)
    assert answered(await guest.convert(hold_id), 201)["outcome"]["retry_after_ms"] == 23_400
    trying, healed = asyncio.Event(), asyncio.Event()

    async def wait(_operation: str) -> None:
        trying.set()
        await healed.wait()

    office.payments.before = wait
    first = asyncio.create_task(guest.convert(hold_id))
    await trying.wait()
    assert answered(await guest.convert(hold_id))["outcome"] == {"type": "processing", "poll_after_ms": 800}
    healed.set()
    assert answered(await first)["outcome"]["type"] == "action_required"


async def test_a_slow_payment_service_costs_no_more_than_the_budget(office: BoxOffice) -> None:
    """S21: convert answers `processing` when its time is up; what it began goes on after the answer."""
    guest, hold_id = await a_hold(office)
    slow = asyncio.Event()

    async def wait(operation: str) -> None:
        await slow.wait()

    office.payments.before = wait
    booking = answered(await guest.convert(hold_id), 201)
    assert booking["outcome"] == {"type": "processing", "poll_after_ms": 800}
    concurrent = answered(await guest.convert(hold_id))
    assert concurrent["outcome"]["type"] == "processing"
    slow.set()
    office.payments.before = None
    await office.parts.engine.drain(5)
    assert answered(await guest.see(hold_id))["outcome"]["type"] == "action_required"


@pytest.mark.parametrize("end", ["failed", "needs_attention"])
async def test_an_ended_booking_is_closed(office: BoxOffice, end: str) -> None:
    """`closed` with the status, again and again; it never starts a second payment."""
    guest, hold_id = await a_hold(office)
    if end == "needs_attention":
        office.payments.script("create", acts.WRONG_AMOUNT)
    await guest.convert(hold_id)
    if end == "failed":
        await office.let_payment_time_run_out(hold_id)
    for _ in range(2):
        assert answered(await guest.convert(hold_id))["outcome"] == {"type": "closed", "status": end}
    assert len(office.payments.of(UUID(hold_id))) == 1


async def test_many_converts_at_once(office: BoxOffice) -> None:
    """K03, I4, peers B1.9: one is 201, all others 200, with different keys; one saga, one payment."""
    guest, hold_id = await a_hold(office)
    answers = await asyncio.gather(*(guest.convert(hold_id, key=f"c-{n}-{hold_id}") for n in range(20)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 19}
    assert len(office.payments.of(UUID(hold_id))) == 1
    assert len(await office.sql("SELECT id FROM sagas WHERE reservation_id = :id", id=UUID(hold_id))) == 1
    fired("K03", len(answers) - 1)


async def test_the_key_only_detects_another_body(office: BoxOffice) -> None:
    """V07: the same key with another customer is 422; a new key may correct the customer while it is pending."""
    guest, hold_id = await a_hold(office)
    await guest.convert(hold_id, key="c1")
    other = {"name": "Ada King", "email": "ada.king@example.org"}
    refused(await guest.convert(hold_id, key="c1", customer=other), 422, "IDEMPOTENCY_KEY_REUSED")
    assert answered(await guest.convert(hold_id, key="c2", customer=other))["customer"]["name"] == "Ada King"
    await office.pay(hold_id)
    last = answered(await guest.convert(hold_id, key="c3"))
    assert (last["status"], last["customer"]["name"]) == ("confirmed", "Ada King")


async def test_how_it_is_paid_is_fixed(office: BoxOffice) -> None:
    """PAYMENT_MODE_FIXED: a pending card payment cannot be turned into one that was made elsewhere."""
    guest, hold_id = await a_hold(office)
    await guest.convert(hold_id)
    reseller = office.customer(guest_subject(guest), scope="bookings:external")
    refused(await reseller.convert(hold_id, key="c9", mode="external"), 409, "PAYMENT_MODE_FIXED")


def guest_subject(guest: Customer) -> str:
    return str(jwt.decode(guest.token, options={"verify_signature": False})["sub"])


async def test_paid_elsewhere_needs_the_scope(office: BoxOffice) -> None:
    """External mode: 403 without the scope, and nothing happens; confirmed at once with it, without any payment."""
    guest, hold_id = await a_hold(office)
    refused(await guest.convert(hold_id, mode="external"), 403, "FORBIDDEN")
    assert await office.status(hold_id) == "held"
    reseller = office.customer(guest_subject(guest), scope="other bookings:external")
    booking = answered(await reseller.convert(hold_id, mode="external"), 201)
    assert (booking["status"], booking["payment"]["status"]) == ("confirmed", "external")
    assert not office.payments.of(UUID(hold_id))


async def test_a_free_booking_is_confirmed_at_once(office: BoxOffice) -> None:
    """A total of zero skips the payment, for anybody."""
    guest, hold_id = await a_hold(office, prices={"adult": (0, 1)})
    booking = answered(await guest.convert(hold_id), 201)
    assert (booking["status"], booking["outcome"], booking["payment"]["status"]) == (
        "confirmed",
        {"type": "succeeded"},
        "none",
    )


async def test_a_customer_has_a_form(office: BoxOffice) -> None:
    """V01, V02, V05: unknown fields, no e-mail, NUL or card fields are 422, and the hold stays a hold."""
    guest, hold_id = await a_hold(office)
    good = {"name": "Ada", "email": "a@example.org"}
    for customer in (
        {"name": "Ada"},
        good | {"email": "nobody"},
        good | {"name": ""},
        good | {"name": "A\x00"},
        good | {"card[number]": "4242424242424242"},
        good | {"phone": "call me"},
    ):
        problem = refused(await guest.convert(hold_id, customer=customer), 422, "VALIDATION_FAILED")
        assert "4242424242424242" not in str(problem)
    assert await office.status(hold_id) == "held"


async def test_reservations_begin_with_convert(office: BoxOffice) -> None:
    """X01, I24, peers B1.17: a hold is no reservation; another customer's is 404 exactly like one that does not exist."""
    guest, hold_id = await a_hold(office)
    refused(await guest.see(hold_id), 404, "RESERVATION_NOT_FOUND")
    await guest.convert(hold_id)
    assert answered(await guest.see(hold_id))["status"] == "pending"
    for path in (hold_id, str(uuid4()), "x", "%00", "' OR 1=1"):
        refused(await office.customer().see(path), 404, "RESERVATION_NOT_FOUND")


async def test_a_reservation_has_an_etag(office: BoxOffice) -> None:
    """`If-None-Match` with the version answers 304 without a body, until something changes."""
    guest, hold_id = await a_hold(office)
    await guest.convert(hold_id)
    etag = (await guest.see(hold_id)).headers["etag"]
    same = await guest.see(hold_id, headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    await office.pay(hold_id)
    changed = await guest.see(hold_id, headers={"If-None-Match": etag})
    assert answered(changed)["status"] == "confirmed"
    assert changed.headers["etag"] != etag


async def test_any_of_several_etags_matches(office: BoxOffice) -> None:
    """RFC 9110: If-None-Match is a list, may be weak, and `*` matches whatever is there; reservations too."""
    guest, hold_id = await a_hold(office)
    hold = await guest.see_hold(hold_id)
    for tags in (f'"x", {hold.headers["etag"]}', f"W/{hold.headers['etag']}", "*"):
        assert (await guest.see_hold(hold_id, headers={"If-None-Match": tags})).status_code == 304
    await guest.convert(hold_id)
    shown = await guest.see(hold_id)
    for tags in (f'"x", {shown.headers["etag"]}', f"W/{shown.headers['etag']}", "*"):
        assert (await guest.see(hold_id, headers={"If-None-Match": tags})).status_code == 304


async def test_my_reservations_page_by_page(office: BoxOffice) -> None:
    """Newest first, only mine, only reservations; the cursor goes on where the page ended."""
    guest, offer = office.customer(), await office.offer(prices={"adult": (0, 1)})
    ids = [answered(await guest.hold(offer), 201)["id"] for _ in range(4)]
    for hold_id in ids[:3]:
        await guest.convert(hold_id)
    await office.customer().hold(offer)
    first = answered(await guest.ask("GET", "/v1/reservations?limit=2"))
    assert [row["id"] for row in first["data"]] == [ids[2], ids[1]]
    assert (first["has_more"], first["next_cursor"]) == (True, ids[1])
    rest = answered(await guest.ask("GET", f"/v1/reservations?limit=2&starting_after={first['next_cursor']}"))
    assert ([row["id"] for row in rest["data"]], rest["has_more"], rest["next_cursor"]) == ([ids[0]], False, None)
    for query in ("limit=0", "limit=101", "limit=x", "starting_after=x", "starting_after=%00"):
        refused(await guest.ask("GET", f"/v1/reservations?{query}"), 422, "VALIDATION_FAILED")


async def test_a_declined_setup_gives_the_seats_back(office: BoxOffice) -> None:
    """S11: the payment service refuses the payment itself: 201 with `closed`, and the seats are free again."""
    offer, guest = await office.offer(), office.customer()
    hold_id = answered(await guest.hold(offer, 2), 201)["id"]
    office.payments.script("create", acts.DECLINED)
    booking = answered(await guest.convert(hold_id), 201)
    assert booking["outcome"] == {"type": "closed", "status": "failed"}
    assert await office.free(offer) == 10


async def test_the_payment_never_shows_more_than_it_may(office: BoxOffice) -> None:
    """I25: once the card is authorised, no answer carries the client secret any more."""
    guest, hold_id = await a_hold(office)
    await guest.convert(hold_id)
    office.payments.always("capture", acts.BUSY)
    await office.pay(hold_id)
    shown = await guest.see(hold_id)
    assert answered(shown)["payment"]["status"] == PaymentStatus.AUTHORIZED
    assert "_secret_" not in shown.text
    office.payments.heal()
    await guest.convert(hold_id)
    assert await office.status(hold_id) == "confirmed"
