"""What banks, people at Stripe, and Stripe itself do to money, through both services as real processes: seats and books stay right."""

from typing import Any

import pytest

from tests.answers import answered, eventually
from tests.builders import Guest, Slot, a_guest, a_hold, a_slot, awaiting_payment, free_seats
from tests.doubles.stripe_sandbox import Stripe
from tests.scenarios import fired
from tests.system import System

PENDING_REFUND_CARD = "4000000000007726"
PRICE = 9000


def booked(system: System, stripe: Stripe, *, card: str | None = None, **terms: Any) -> tuple[Guest, Slot, str, str]:
    """Book two of three seats and pay; return who, what, the booking's id and Stripe's id of its payment."""
    guest, slot = a_guest(system), a_slot(system, capacity=3, **terms)
    hold_id: str = a_hold(guest, slot, 2)["id"]
    assert stripe.pay_for(guest, hold_id, **({"card": card} if card else {})).status_code == 200
    guest.wait_for(hold_id, "confirmed", within_s=20)
    return guest, slot, hold_id, str(stripe.intents_of(hold_id)[0]["payment_intent"])


def shows(guest: Guest, booking: str, payment_status: str) -> Any:
    return eventually(
        lambda: answered(guest.see(booking)), lambda seen: seen["payment"]["status"] == payment_status, within_s=20
    )


def stopped(system: System, booking: str, reason: str) -> str:
    """Wait until the booking is a person's case for this reason; return its saga's id."""

    def cases() -> list[Any]:
        rows = system.admin("reservation", "GET", "/sagas?status=needs_attention&limit=100")["data"]
        return [row for row in rows if row["reservation_id"] == booking]

    (case,) = eventually(cases, bool, within_s=20)
    assert case["reason"] == reason
    return str(case["id"])


def at_stripe(system: System, path: str, **form: Any) -> Any:
    """Do something with Stripe's secret key, as a person in its dashboard does."""
    key = system.stack.credentials.stripe_secret_key
    return answered(system.call("sandbox", "POST", f"/v1{path}", token=key, data=form))


def test_a_cancel_meets_a_dispute(system: System, stripe: Stripe) -> None:
    """S28: the bank has the money when the guest cancels: the seats are free, a person is told, nothing goes out twice."""
    guest, slot, booking, intent = booked(system, stripe)
    path = f"/_sandbox/payment_intents/{intent}/dispute"
    system.call("sandbox", "POST", path, json={"reason": "fraudulent"}).raise_for_status()
    shows(guest, booking, "disputed")
    assert answered(guest.cancel(booking), 202)["status"] == "cancelled"
    assert free_seats(system, slot) == 3
    case = stopped(system, booking, "refund_payment: payment_disputed")
    (dispute,) = answered(
        system.call(
            "sandbox",
            "GET",
            f"/v1/disputes?payment_intent={intent}",
            token=system.stack.credentials.stripe_secret_key,
        )
    )["data"]
    at_stripe(system, f"/disputes/{dispute['id']}", **{"evidence[uncategorized_text]": "losing_evidence"})
    shows(guest, booking, "dispute_lost")
    (line,) = stripe.intents_of(booking)
    assert (line["net"], line["refunded"], line["disputed"]) == (0, 0, PRICE)
    system.assert_books_agree()
    why = {"outcome": "cancelled", "reason": "the bank gave it back"}
    system.admin("reservation", "POST", f"/sagas/{case}/resolve", json=why)
    answered(guest.cancel(booking))
    fired("S28", 1)


def test_a_refund_that_was_pending_fails(system: System, stripe: Stripe) -> None:
    """S27: 202 while it is on its way; when the bank sends it back a person is asked, whose other refund arrives."""
    guest, slot, booking, intent = booked(system, stripe, card=PENDING_REFUND_CARD)
    assert answered(guest.cancel(booking), 202)["status"] == "cancelled"
    assert free_seats(system, slot) == 3
    shows(guest, booking, "refund_pending")
    answered(guest.cancel(booking), 202)
    _bank_answers(system, intent, succeeded=False)
    case = stopped(system, booking, "refund_payment: refund_failed")
    assert shows(guest, booking, "refund_failed")["status"] == "cancelled"
    fired("S27", 1)
    system.admin("reservation", "POST", f"/sagas/{case}/retry", json={"reason": "the account is open again"})
    shows(guest, booking, "refund_pending")
    _bank_answers(system, intent, succeeded=True)
    shows(guest, booking, "refunded")
    eventually(lambda: guest.cancel(booking), lambda answer: answer.status_code == 200, within_s=20)
    (line,) = stripe.intents_of(booking)
    assert (line["net"], line["refunded"], line["refund_failed"]) == (0, PRICE, PRICE)


def _bank_answers(system: System, intent: str, *, succeeded: bool) -> None:
    """Let the newest refund of a payment come to its end."""
    key = system.stack.credentials.stripe_secret_key
    newest = answered(system.call("sandbox", "GET", f"/v1/refunds?payment_intent={intent}", token=key))["data"][0]
    path = f"/_sandbox/refunds/{newest['id']}/settle"
    system.call("sandbox", "POST", path, json={"succeeded": succeeded}).raise_for_status()


def test_a_person_refunds_at_stripe(system: System, stripe: Stripe) -> None:
    """S30: part, then all of it, in the dashboard: shown, the guest is told, the seats stay; a cancel adds nothing to it."""
    guest, slot, booking, intent = booked(system, stripe)
    at_stripe(system, "/refunds", payment_intent=intent, amount=1000)
    assert shows(guest, booking, "partially_refunded")["payment"]["refunded"]["amount"] == 1000
    at_stripe(system, "/refunds", payment_intent=intent)
    shown = shows(guest, booking, "refunded")
    assert (shown["status"], shown["notices"], free_seats(system, slot)) == ("confirmed", ["refunded_by_hand"], 1)
    eventually(lambda: guest.cancel(booking), lambda answer: answer.status_code == 200, within_s=20)
    assert (free_seats(system, slot), stripe.money_of(booking)) == (3, [0])


def test_a_person_cancels_at_stripe(system: System, stripe: Stripe) -> None:
    """S30: the open payment is called off in the dashboard: the same convert sets up another one, which is paid."""
    guest, slot = a_guest(system), a_slot(system, capacity=3)
    hold_id = a_hold(guest, slot, 2)["id"]
    first = awaiting_payment(guest, hold_id)
    at_stripe(system, f"/payment_intents/{first.partition('_secret_')[0]}/cancel")
    second = eventually(lambda: awaiting_payment(guest, hold_id), lambda secret: secret != first, within_s=20)
    assert stripe.pay(second).status_code == 200
    guest.wait_for(hold_id, "confirmed", within_s=20)
    assert (stripe.statuses_of(hold_id), stripe.money_of(hold_id)) == (["canceled", "succeeded"], [0, PRICE])


def test_an_authorisation_that_ends_before_the_capture(system: System, stripe: Stripe) -> None:
    """S15: Stripe lets the money go while it cannot be captured: nothing is confirmed, and the seats are back."""
    guest, slot = a_guest(system), a_slot(system, capacity=3)
    hold_id = a_hold(guest, slot, 2)["id"]
    with stripe.fault("status", operation="payment_intents.capture", status=503):
        secret = awaiting_payment(guest, hold_id)
        assert stripe.pay(secret).status_code == 200
        shows(guest, hold_id, "authorized")
        eventually(stripe.faults_met, bool)
        at_stripe(system, f"/payment_intents/{secret.partition('_secret_')[0]}/cancel")
    fired("S15", 1)
    guest.wait_for(hold_id, "failed", within_s=20)
    assert (free_seats(system, slot), stripe.money_of(hold_id), stripe.captures_of(hold_id)) == (3, [0], 0)


def test_stripe_shows_another_amount(system: System, stripe: Stripe) -> None:
    """S23: the capture's answer tells another amount: nothing is confirmed, a person is told why, and goes on from there."""
    guest, slot = a_guest(system), a_slot(system, capacity=3)
    hold_id = a_hold(guest, slot, 2)["id"]
    with stripe.fault("wrong_amount", operation="payment_intents.capture", count=1):
        assert stripe.pay_for(guest, hold_id).status_code == 200
        case = stopped(system, hold_id, "capture_payment: amount_mismatch")
    fired("S23", 1)
    assert guest.see(hold_id).json()["status"] == "needs_attention"
    assert free_seats(system, slot) == 1
    eventually(lambda: system.admin("payment", "GET", "/invariants"), lambda audit: bool(audit["ok"]), within_s=20)
    system.admin("reservation", "POST", f"/sagas/{case}/retry", json={"reason": "Stripe shows the right one"})
    guest.wait_for(hold_id, "confirmed", within_s=20)
    assert (stripe.money_of(hold_id), stripe.captures_of(hold_id)) == ([PRICE], 1)


@pytest.mark.parametrize(("currency", "price"), [("JPY", 333), ("KWD", 1230)])
def test_money_that_is_taken_at_once_comes_back_whole(
    system: System, stripe: Stripe, currency: str, price: int
) -> None:
    """V04, I7: automatic capture, and currencies of no and of three decimals: confirmed, cancelled, not a unit is left."""
    guest, slot, booking, _intent = booked(
        system, stripe, capture_method="automatic", price_minor=price, currency=currency
    )
    assert (stripe.money_of(booking), stripe.captures_of(booking)) == ([2 * price], 1)
    shown = eventually(lambda: guest.cancel(booking), lambda answer: answer.status_code == 200, within_s=20).json()
    assert shown["payment"]["refunded"] == {"amount": 2 * price, "currency": currency}
    assert (free_seats(system, slot), stripe.money_of(booking)) == (3, [0])


def test_a_method_that_takes_days_is_not_offered(system: System, stripe: Stripe) -> None:
    """S14: a bank debit would be `processing` for days: Stripe refuses it for our payments, and a card still pays."""
    guest, slot = a_guest(system), a_slot(system, capacity=3)
    hold_id = a_hold(guest, slot, 2)["id"]
    secret = awaiting_payment(guest, hold_id)
    form = {"client_secret": secret, "payment_method": "pm_usBankAccount_processing"}
    path = f"/v1/payment_intents/{secret.partition('_secret_')[0]}/confirm"
    key = system.stack.credentials.stripe_publishable_key
    assert system.call("sandbox", "POST", path, token=key, data=form).status_code == 400
    assert stripe.statuses_of(hold_id) == ["requires_payment_method"]
    assert stripe.pay(secret).status_code == 200
    guest.wait_for(hold_id, "confirmed", within_s=20)
