"""The five stories. Each yields what happened, step by step, and raises DemoFailed where it does not end right."""

import signal
from collections.abc import Callable, Iterator

from deploy.embedded.demo import Booking
from deploy.stories.scene import Scene, a_key, expect, total, until

Told = Iterator[tuple[str, str]]
Tale = Callable[[Scene], Told]

# Stripe's own names for cards that behave alike each time in test mode.
_GOOD_CARD = "pm_card_visa"
_DECLINED_CARD = "pm_card_visa_chargeDeclined"
_SHORT_S = 3
# Where payment_service is about to ask Stripe for the money that the guest's bank has promised.
_BEFORE_CAPTURE = "capture_payment_intent.before"


def booking(scene: Scene) -> Told:
    walk = Booking(scene.stack.url("reservation"), scene.cashier)
    for step in walk.steps():
        yield step.title, step.detail
    expect(walk.reservation["status"] == "confirmed", f"the reservation is {walk.reservation['status']}")
    yield "the money", scene.paid_once(walk.reservation)


def declined_card(scene: Scene) -> Told:
    with scene.guest() as guest:
        hold = guest.hold(*guest.find_slot(), key=a_key()).json()
        asked = guest.convert_until(hold, "action_required")
        yield "convert", f"{total(hold)} to pay"

        status, said = guest.pay(asked["outcome"], _DECLINED_CARD)
        expect(status == 402, f"the card should have been declined, not {said}")
        yield "bad card", f"Stripe answers {status}: {said}"

        declined = guest.convert_until(hold, "payment_declined")
        same = declined["outcome"]["client_secret"] == asked["outcome"]["client_secret"]
        expect(same, "a decline must not make another payment")
        yield "same call", f"{declined['outcome']['decline_class']}; seats kept, the same payment may be tried again"

        status, said = guest.pay(asked["outcome"], _GOOD_CARD)
        expect(status == 200, f"the good card was refused: {said}")
        yield "good card", said
        reservation = guest.await_confirmation(hold)
        expect(guest.convert(hold)["outcome"] == {"type": "succeeded"}, "the same call should now say: succeeded")
        yield "same call", "succeeded"
        yield "the money", scene.paid_once(reservation)


def renewed_hold(scene: Scene) -> Told:
    with scene.guest() as guest:
        key, (experience, slot) = a_key(), guest.find_slot()
        free = guest.free(slot)
        first = guest.hold(experience, slot, key=key, ttl_seconds=_SHORT_S)
        yield "hold", f"1 seat for {_SHORT_S} s"
        again = guest.hold(experience, slot, key=key, ttl_seconds=_SHORT_S)
        expect(again.content == first.content, "the same key should have been answered byte for byte the same")
        yield "same key", "the same hold, byte for byte: nothing was taken twice"

        old = first.json()
        until(lambda: guest.hold_status(old), lambda status: status == "expired", "the hold's end")
        until(lambda: guest.free(slot), lambda seen: seen == free, "the seat's return")
        yield "time is over", "anybody could have the seat now"

        renewed = guest.hold(experience, slot, key=key, ttl_seconds=_SHORT_S)
        hold = renewed.json()
        expect(renewed.headers.get("Idempotency-Renewed") == "true", "the same key should have made a new hold")
        expect(hold["supersedes"] == old["id"], f"the new hold should supersede {old['id']}")
        asked = guest.convert_until(hold, "action_required")
        yield "same key", "a new hold in place of the old one, and converted in time"
        status, said = guest.pay(asked["outcome"], _GOOD_CARD)
        expect(status == 200, f"the good card was refused: {said}")
        yield "the money", scene.paid_once(guest.await_confirmation(hold))
        expect(guest.free(slot) == free - 1, "exactly one seat should be taken")


def stripe_away(scene: Scene) -> Told:
    with scene.guest() as guest:
        experience, slot = guest.find_slot()
        free = guest.free(slot)
        hold = guest.hold(experience, slot, key=a_key()).json()
        yield "hold", f"1 of {free} seats"
        with scene.stripe.away():
            yield "Stripe is away", "every call is answered with 500"
            outcome = guest.convert(hold)["outcome"]["type"]
            expect(outcome in {"processing", "payment_setup_failed"}, f"convert said {outcome}")
            expect(guest.free(slot) == free - 1, "the seat should be kept")
            yield "convert", f"{outcome}: no error, and the seat is kept"
        yield "Stripe is back", "nothing else was done"
        asked = guest.convert_until(hold, "action_required")
        yield "same call", f"{total(hold)} to pay"
        status, said = guest.pay(asked["outcome"], _GOOD_CARD)
        expect(status == 200, f"the good card was refused: {said}")
        yield "pay", said
        yield "the money", scene.paid_once(guest.await_confirmation(hold))


def killed_before_capture(scene: Scene) -> Told:
    stack = scene.stack
    with scene.guest() as guest:
        hold = guest.hold(*guest.find_slot(), key=a_key()).json()
        asked = guest.convert_until(hold, "action_required")
        yield "convert", f"{total(hold)} to pay"

        stack.restart("payment", env={"HOLDFAST_CRASH_AT": _BEFORE_CAPTURE})
        yield "a trap is set", f"payment_service will kill itself at {_BEFORE_CAPTURE}"
        status, said = guest.pay(asked["outcome"], _GOOD_CARD)
        expect(status == 200, f"the good card was refused: {said}")
        yield "pay", f"{said}: authorised, and not captured yet"

        died = until(lambda: stack.exit_code("payment"), lambda code: code is not None, "the end of payment_service")
        expect(died == -signal.SIGKILL, f"payment_service ended with {died} instead of SIGKILL")
        (line,) = scene.stripe.lines_of(hold)
        expect(line["status"] == "requires_capture", f"Stripe has the payment as {line['status']}")
        yield "kill -9", "payment_service died by SIGKILL; the money is reserved, and not taken"

        stack.restart("payment", env={"HOLDFAST_CRASH_AT": ""})
        yield "start again", "an ordinary start; nobody repairs anything, the guest does nothing"
        reservation = guest.await_confirmation(hold)
        yield "confirmed", "found by its own journal"
        yield "the money", scene.paid_once(reservation)


TALES: tuple[tuple[str, Tale], ...] = (
    ("A booking", booking),
    ("A declined card, and the same call again", declined_card),
    ("A hold that runs out, and is renewed by the same key", renewed_hold),
    ("Stripe is away during convert, and comes back", stripe_away),
    ("payment_service is killed between authorisation and capture", killed_before_capture),
)
