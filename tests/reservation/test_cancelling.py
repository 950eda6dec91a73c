"""What a booking is worth when it is taken back: its terms, the clock, who may, and what was never paid."""

from uuid import uuid4

import pytest

from shared.payment_contract import PaymentStatus
from tests.answers import answered, refused
from tests.doubles import scripted_payments as acts
from tests.reservation.box_office import BoxOffice
from tests.reservation.called_off import TOTAL_MINOR, Booked, confirmed, held, pending


async def test_a_cancelled_booking_walks_the_page_backwards(office: BoxOffice) -> None:
    """I5, I18: seats first, then the money, each compensation of the page once; the same call again changes nothing."""
    booked = await confirmed(office)
    assert await office.free(booked.offer) == 8
    told = answered(await booked.quote())
    assert (told["kind"], told["refund"], told["cancellable"]) == ("full", {"amount": 9000, "currency": "EUR"}, True)
    shown = answered(await booked.cancel(reason="rain"))
    assert (shown["status"], shown["payment"]["status"]) == ("cancelled", "refunded")
    assert shown["cancellation"]["refund"] == told["refund"]
    assert shown["cancellation"]["cancelled_at"] >= shown["cancellation"]["requested_at"]
    assert await office.free(booked.offer) == 10
    assert await booked.undone() == ["confirm_reservation", "capture_payment", "create_payment_intent", "create_hold"]
    calls = len(office.payments.calls)
    assert answered(await booked.cancel(reason="rain")) == shown
    assert answered(await booked.cancel(key="another")) == shown
    assert len(office.payments.calls) == calls
    refused(await booked.cancel(reason="other words"), 422, "IDEMPOTENCY_KEY_REUSED")
    refused(await booked.quote(), 409, "INVALID_RESERVATION_STATUS")
    assert answered(await booked.guest.convert(booked.id))["outcome"] == {"type": "closed", "status": "cancelled"}


@pytest.mark.parametrize(
    ("currency", "price", "percent", "back"),
    [
        ("EUR", 4501, 50, 4501),
        ("JPY", 333, 50, 333),
        ("KWD", 1230, 33, 820),
        ("EUR", 4500, 0, 0),
        ("HUF", 17501, 1, 351),
    ],
)
async def test_part_of_the_money_comes_back(
    office: BoxOffice, currency: str, price: int, percent: int, back: int
) -> None:
    """V04, I7: a percentage of the total in the guest's favour, in what the currency is charged in; the rest is kept."""
    tiers = {"type": "tiers", "tiers": [{"until_minutes_before": 0, "refund_percent": percent}]}
    booked = await confirmed(office, currency=currency, prices={"adult": (price, 1)}, cancellation_policy=tiers)
    told = answered(await booked.quote())
    assert (told["kind"], told["refund"]["amount"]) == ("partial" if back else "nothing", back)
    shown = answered(await booked.cancel())
    assert (shown["payment"]["captured"]["amount"], shown["payment"]["refunded"]["amount"]) == (2 * price, back)
    assert shown["payment"]["status"] == ("partially_refunded" if back else "captured")
    assert (await booked.saga())["status"] == "compensated"
    assert office.payments.counted()["refund"] >= int(back > 0)
    assert [one.amount for one in office.payments.refunds_of(booked.entry.id)] == ([back] if back else [])


async def test_quote_and_cancel_follow_the_clock(office: BoxOffice) -> None:
    """Each tier counts until its minute, the quote says when the next begins, and after the last nothing can be done."""
    tiers = [{"until_minutes_before": 1440, "refund_percent": 100}, {"until_minutes_before": 60, "refund_percent": 25}]
    booked = await confirmed(office, cancellation_policy={"type": "tiers", "tiers": tiers})
    seen = []
    for minutes in (1441, 1439, 61, 59, -1):
        await booked.starts_in(minutes)
        told = answered(await booked.quote())
        seen.append((told["kind"], told["refund"]["amount"], told["expires_at"] is None))
    gone = ("not_cancellable", 0, True)
    assert seen == [("full", 9000, False), ("partial", 2250, False), ("partial", 2250, False), gone, gone]
    assert (
        told["policy"]
        == "100 % back until 1 day before the start, 25 % back until 1 hour before the start; nothing after that."
    )
    refusal = refused(await booked.cancel(), 409, "OUTSIDE_CANCELLATION_WINDOW")
    assert refusal["policy"] == told["policy"]
    assert await office.status(booked.id) == "confirmed"


async def test_terms_are_those_of_the_day_of_booking(office: BoxOffice) -> None:
    """B6: a policy that is made stricter later worsens nobody's terms; what is converted then has the new one."""
    booked = await confirmed(office)
    changed = await office.operator().ask(
        "PATCH", f"/admin/v1/experiences/{booked.offer.experience_id}", json={"cancellation_policy": {"type": "none"}}
    )
    assert answered(changed)["cancellation_policy"] == {"type": "none"}
    guest = office.customer()
    later = Booked(office, booked.offer, guest, answered(await guest.hold(booked.offer), 201)["id"])
    answered(await guest.convert(later.id), 201)
    await office.pay(later.id)
    refused(await later.cancel(), 409, "OUTSIDE_CANCELLATION_WINDOW")
    assert answered(await booked.quote())["kind"] == "full"
    assert answered(await booked.cancel())["payment"]["refunded"]["amount"] == TOTAL_MINOR


async def test_only_what_was_seen_is_cancelled(office: BoxOffice) -> None:
    """If-Match is judged by the call that would cancel: an old version is refused there, and harmless afterwards."""
    booked = await confirmed(office)
    tag = (await booked.quote()).headers["etag"]
    assert tag == (await booked.guest.see(booked.id)).headers["etag"]
    refused(await booked.cancel(headers={"If-Match": '"1"'}), 412, "VERSION_CONFLICT")
    assert await office.status(booked.id) == "confirmed"
    answered(await booked.cancel(headers={"If-Match": f'"77", {tag}'}))
    answered(await booked.cancel(headers={"If-Match": '"1"'}))


async def test_what_cannot_be_cancelled(office: BoxOffice) -> None:
    """X01: a stranger's booking, a hold, no id at all: 404; a booking that failed: 409; without a key: 400."""
    booked = await held(office)
    refused(await booked.cancel(), 404, "RESERVATION_NOT_FOUND")
    refused(await booked.quote(), 404, "RESERVATION_NOT_FOUND")
    answered(await booked.guest.convert(booked.id), 201)
    stranger = Booked(office, booked.offer, office.customer(), booked.id)
    for answer in (await stranger.cancel(), await stranger.quote()):
        refused(answer, 404, "RESERVATION_NOT_FOUND")
    nobody = Booked(office, booked.offer, booked.guest, str(uuid4()))
    refused(await nobody.cancel(), 404, "RESERVATION_NOT_FOUND")
    unkeyed = await booked.guest.ask("POST", f"/v1/reservations/{booked.id}/cancel")
    refused(unkeyed, 400, "IDEMPOTENCY_KEY_MISSING")
    await office.let_payment_time_run_out(booked.id)
    assert await office.status(booked.id) == "failed"
    refused(await booked.cancel(), 409, "INVALID_RESERVATION_STATUS")


async def test_a_pending_booking_is_called_off(office: BoxOffice) -> None:
    """I11: the payment is cancelled before the seats are free; nothing was charged, and nobody can pay any more."""
    booked = await pending(office, cancellation_policy={"type": "none"})
    told = answered(await booked.quote())
    assert (told["kind"], told["refund"]["amount"], told["cancellable"]) == ("void", 0, True)
    shown = answered(await booked.cancel())
    assert (shown["status"], shown["payment"]["status"]) == ("cancelled", "canceled")
    assert shown["payment"]["client_secret"] is None
    assert booked.entry.status is PaymentStatus.CANCELED
    assert await office.free(booked.offer) == 10


async def test_a_cancel_that_cannot_reach_the_payment_is_durable(office: BoxOffice) -> None:
    """202 while it unwinds; convert and the client secret are of no use from then on, and it ends cancelled."""
    booked = await pending(office)
    office.payments.always("cancel", acts.NO_CONNECTION)
    shown = answered(await booked.cancel(), 202)
    assert (shown["status"], shown["outcome"]["type"], shown["payment"]["client_secret"]) == (
        "pending",
        "processing",
        None,
    )
    again = answered(await booked.guest.convert(booked.id))
    assert again["outcome"]["type"] == "processing"
    office.payments.heal()
    assert answered(await booked.cancel())["status"] == "cancelled"


async def test_operators_cancel_by_the_terms_or_past_them(office: BoxOffice) -> None:
    """An operator gives the same reasons and refusals, and may waive the terms; who did it and why is kept."""
    booked = await confirmed(office, cancellation_policy={"type": "none"})
    refused(await booked.cancel_as_operator(), 409, "OUTSIDE_CANCELLATION_WINDOW")
    refused(
        await office.customer().ask("POST", f"/admin/v1/reservations/{booked.id}/cancel", json={}), 403, "FORBIDDEN"
    )
    refused(await booked.cancel_as_operator(reason=""), 422, "VALIDATION_FAILED")
    await booked.starts_in(-30)
    shown = answered(await booked.cancel_as_operator(waive_policy=True))
    asked = {name: shown["cancellation"][name] for name in ("by", "who", "reason", "kind")}
    assert asked == {"by": "operator", "who": "olga", "reason": "the guest called", "kind": "full"}
    assert booked.entry.refunded == TOTAL_MINOR
    seen = answered(await booked.guest.see(booked.id))["cancellation"]
    assert (seen["by"], "who" in seen) == ("operator", False)


async def test_what_was_paid_elsewhere_is_given_back_there(office: BoxOffice) -> None:
    """External and free bookings: seats back, nothing called, and the answer is 200 at once."""
    for scope, mode, prices, kind, back in (
        ("bookings:external", "external", {"adult": (4500, 1)}, "external", TOTAL_MINOR),
        ("", "stripe", {"adult": (0, 1)}, "void", 0),
    ):
        offer, guest = await office.offer(prices=prices), office.customer(scope=scope)
        booked = Booked(office, offer, guest, answered(await guest.hold(offer, 2), 201)["id"])
        assert answered(await guest.convert(booked.id, mode=mode), 201)["status"] == "confirmed"
        calls = len(office.payments.calls)
        told = answered(await booked.quote())
        assert (told["kind"], told["refund"]["amount"]) == (kind, back)
        assert answered(await booked.cancel())["cancellation"]["refund"]["amount"] == back
        assert (len(office.payments.calls), await office.free(offer)) == (calls, 10)
