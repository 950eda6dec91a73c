"""What clients do, told so that it can be told again from the start at any time.

A story makes its calls with the same keys each time, and ends when the client has what it came for.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from shared.identifiers import derived_id
from shared.payment_contract import Outcome, RefundPayment
from tests.answers import answered
from tests.faults.forked.town import Town
from tests.reservation.box_office import Customer, Offer

SEATS = 2
PRICE_MINOR = SEATS * 4500
GOOD_CARD = "pm_card_visa"
BAD_CARD = "pm_card_visa_chargeDeclined"
UNKNOWN_INTENT = "pi_unknown_"


@dataclass(frozen=True)
class Case:
    """One telling of a story: its own people, keys and slot, the same in each attempt."""

    name: str
    offer: Offer


Story = Callable[[Town, Case], Awaitable[None]]


def _created(answer: httpx.Response) -> bool:
    return answer.status_code == 201


def _done(answer: httpx.Response) -> bool:
    return answer.status_code == 200


def _has(**members: Any) -> Callable[[httpx.Response], bool]:
    return lambda answer: answer.status_code == 200 and members == {name: answer.json().get(name) for name in members}


def _refused(code: str) -> Callable[[httpx.Response], bool]:
    return lambda answer: bool(answer.json().get("code") == code)


def _decided(answer: httpx.Response) -> bool:
    """Tell whether a convert call has said what a guest can do now."""
    if answer.status_code not in {200, 201}:
        return False
    return answer.json()["outcome"]["type"] in {"action_required", "payment_declined", "succeeded", "closed"}


async def _hold(town: Town, case: Case, who: str = "guest") -> tuple[Customer, str]:
    guest = town.customer(f"{who}-{case.name}")
    hold = await town.insist(lambda: guest.hold(case.offer, SEATS, key=f"hold-{case.name}"), _created)
    return guest, hold["id"]


async def _pay(town: Town, guest: Customer, hold_id: str, card: str) -> None:
    """Convert, and show a card if one is asked for; a payment that is settled by now takes none."""
    outcome = (await town.insist(lambda: guest.convert(hold_id), _decided))["outcome"]
    if secret := outcome.get("client_secret"):
        answer = await town.pay(secret, card)
        assert answer.status_code in {200, 400, 402}, answer.text


async def book(town: Town, case: Case) -> None:
    """A guest holds seats, converts, pays, and is confirmed."""
    guest, hold_id = await _hold(town, case)
    await _pay(town, guest, hold_id, GOOD_CARD)
    await town.insist(lambda: guest.see(hold_id), _has(status="confirmed"))
    outcome = (await town.insist(lambda: guest.convert(hold_id), _done))["outcome"]
    assert outcome == {"type": "succeeded"}, outcome


async def unwind(town: Town, case: Case) -> None:
    """The only card is declined and time runs out: the payment is cancelled, then the seats go back."""
    guest, hold_id = await _hold(town, case)
    await _pay(town, guest, hold_id, BAD_CARD)
    await _nobody_speaks_of(town, hold_id)
    values = {"id": UUID(hold_id)}
    late = "UPDATE reservations SET pay_until = clock_timestamp() WHERE id = :id"
    due = "UPDATE sagas SET due_at = clock_timestamp() WHERE reservation_id = :id AND due_at IS NOT NULL"
    for statement in (late, due):
        await town.sql(town.reservation_database, statement, **values)
    await town.insist(lambda: guest.see(hold_id), _has(status="failed"))


async def pay_late(town: Town, case: Case) -> None:
    """Stripe cancels nothing until the seats have gone back, and then the guest pays: the booking is made good.

    The secret comes from the database, because a booking that has failed shows it to nobody. Stripe refuses to the end:
    a worker that was overtaken must not cancel what the booking was made good with. Told again, the same key may have
    renewed the hold, and what was paid for the older one goes back.
    """
    guest, hold_id = await _hold(town, case)
    await town.insist(lambda: guest.convert(hold_id), _decided)
    values = {"id": UUID(hold_id)}
    due = "UPDATE sagas SET due_at = clock_timestamp() WHERE reservation_id = :id AND due_at IS NOT NULL"
    over = (
        "UPDATE reservations SET pay_until = clock_timestamp() - interval '1 day' WHERE id = :id AND status = 'pending'"
        " AND NOT EXISTS (SELECT FROM sagas WHERE reservation_id = :id AND begun_by = 'late_money')"
    )
    for statement in (over, due):
        await town.sql(town.reservation_database, statement, **values)
    await town.insist(lambda: guest.see(hold_id), lambda seen: seen.json().get("status") != "pending")
    (told,) = await town.sql(
        town.reservation_database,
        "SELECT payment ->> 'client_secret' AS secret FROM reservations WHERE id = :id",
        **values,
    )
    answer = await town.pay(told["secret"], GOOD_CARD)
    assert answer.status_code in {200, 400}, answer.text
    await town.insist(lambda: guest.see(hold_id), _has(status="confirmed", notices=["rebooked"]))
    await town.forgive_stripe()


async def _nobody_speaks_of(town: Town, booking_id: str) -> None:
    """Wait until all news of a payment has arrived and its saga rests, so that only time can move it."""
    news = "SELECT id FROM outbox WHERE due_at IS NOT NULL"
    busy = "SELECT id FROM sagas WHERE reservation_id = :id AND lease_until > clock_timestamp()"
    events = "SELECT id FROM webhook_events WHERE due_at IS NOT NULL"

    async def is_quiet() -> bool:
        deliveries = (await town.look_at_stripe("deliveries"))["deliveries"]
        return not (
            any(one["state"] == "pending" for one in deliveries)
            or await town.sql(town.payment_database, events)
            or await town.sql(town.payment_database, news)
            or await town.sql(town.reservation_database, busy, id=UUID(booking_id))
        )

    await town.wait_until(is_quiet)


async def end_as_failed(town: Town, case: Case) -> None:
    """A good card, but Stripe refuses to set the payment up, or to capture it: the booking ends without a trace."""
    guest, hold_id = await _hold(town, case)
    await _pay(town, guest, hold_id, GOOD_CARD)
    await town.insist(lambda: guest.see(hold_id), _has(status="failed"))


async def renew(town: Town, case: Case) -> None:
    """A hold lapses, the same key makes a new one, and the guest gives that back."""
    guest, hold_id = await _hold(town, case)
    await _let_lapse(town, hold_id)
    guest, hold_id = await _hold(town, case)
    await town.insist(lambda: guest.release(hold_id), _done)


async def displace(town: Town, case: Case) -> None:
    """A slot is full of a lapsed hold, and the next guest gets its seats. Told again, the first may come too late."""
    first = town.customer(f"first-{case.name}")
    held = await town.insist(
        lambda: first.hold(case.offer, SEATS, key=f"hold-{case.name}"),
        lambda answer: _created(answer) or _refused("SLOT_UNAVAILABLE")(answer),
    )
    if "id" in held:
        await _let_lapse(town, held["id"])
    guest, hold_id = await _hold(town, case, "second")
    await town.insist(lambda: guest.release(hold_id), _done)


async def discount(town: Town, case: Case) -> None:
    """The only use of a code goes from a lapsed hold to another guest, and from that one's lost key to a newer one.

    Told again, each of the older keys may be renewed or come too late.
    """
    code = await _code(town, case)

    def hold(guest: Customer, key: str) -> Awaitable[Any]:
        more = {"key": f"{key}-{case.name}", "discount_code": code}
        return town.insist(
            lambda: guest.hold(case.offer, SEATS, **more),
            lambda answer: _created(answer) or _refused("DISCOUNT_INVALID")(answer),
        )

    first, second = town.customer(f"first-{case.name}"), town.customer(f"second-{case.name}")
    lapsed = await hold(first, "lapses")
    if "id" in lapsed:
        await _let_lapse(town, lapsed["id"])
    for held in [await hold(second, key) for key in ("lost", "newer")]:
        if "id" in held:
            await town.insist(lambda held=held: second.release(held["id"]), _done)  # type: ignore[misc]


async def _code(town: Town, case: Case) -> str:
    """Make sure that this case has a code of its own, which can be used once."""
    body = {"code": f"C-{case.name}", "max_uses": 1}
    off = {"type": "percentage", "basis_points": 1000}
    await town.insist(
        lambda: town.operator().ask("POST", "/admin/v1/discounts", json=body | {"off": off}),
        lambda answer: _created(answer) or _refused("DISCOUNT_EXISTS")(answer),
    )
    return str(body["code"])


async def extend_and_sweep(town: Town, case: Case) -> None:
    """A hold is extended, lapses all the same, and is swept; the guest's own second hold is given back."""
    guest, hold_id = await _hold(town, case)
    await guest.extend(hold_id)
    await _let_lapse(town, hold_id)
    await town.insist(lambda: guest.see_hold(hold_id), _has(status="expired"))
    await _until_swept(town, hold_id)


async def _until_swept(town: Town, hold_id: str) -> None:
    swept = "SELECT id FROM reservations WHERE id = :id AND status = 'expired'"

    async def is_swept() -> bool:
        return bool(await town.sql(town.reservation_database, swept, id=UUID(hold_id)))

    await town.wait_until(is_swept)


async def _let_lapse(town: Town, hold_id: str) -> None:
    await town.sql(
        town.reservation_database,
        "UPDATE reservations SET expires_at = clock_timestamp() - interval '1 second' WHERE id = :id AND status = 'held'",
        id=UUID(hold_id),
    )


async def cancel(town: Town, case: Case) -> None:
    """A guest cancels a paid booking and makes the same call again until all the money is back.

    Told again, it may be cancelled by now.
    """
    guest, hold_id = await _booked(town, case)
    path = f"/v1/reservations/{hold_id}/cancel"
    done = await town.insist(lambda: guest.ask("POST", path, key=f"cancel-{case.name}"), _has(status="cancelled"))
    assert done["payment"]["refunded"]["amount"] == PRICE_MINOR, done


async def refund(town: Town, case: Case) -> None:
    """A paid booking's money goes back in full, and asking for more than there is changes nothing."""
    await book(town, case)
    guest, hold_id = await _hold(town, case)
    payment = derived_id(UUID(hold_id), "payment:1")
    too_much = RefundPayment(refund_id=derived_id(payment, "too-much"), amount=10 * PRICE_MINOR)
    in_full = RefundPayment(refund_id=derived_id(payment, "full"), amount=PRICE_MINOR)
    await town.insist(lambda: town.order_refund(payment, too_much), _refused("REFUND_EXCEEDS_PAYMENT"))
    await town.insist(lambda: town.order_refund(payment, in_full), _has(outcome=Outcome.OK))
    await town.insist(lambda: guest.see(hold_id), lambda seen: bool(seen.json()["payment"]["status"] == "refunded"))


async def dispute(town: Town, case: Case) -> None:
    """A paid booking's money is disputed at the bank, once; the booking shows it, and keeps its seats."""
    guest, hold_id = await _booked(town, case)
    lines = (await town.look_at_stripe("book"))["payment_intents"]
    (paid,) = [line for line in lines if line["metadata"].get("reservation_id") == hold_id]
    if paid["net"]:
        await town.dispute(paid["payment_intent"])
    await town.insist(lambda: guest.see(hold_id), lambda seen: bool(seen.json()["payment"]["status"] == "disputed"))


async def go_on_without_stripe(town: Town, case: Case) -> None:
    """Stripe takes the card and then answers no question, until an event had to wait; the booking ends well."""
    guest, hold_id = await _hold(town, case)
    await _pay(town, guest, hold_id, GOOD_CARD)
    operator = town.operator(town.payment)

    async def events() -> httpx.Response:
        return await operator.ask("GET", "/admin/v1/webhook-events?status=received&limit=100")

    if (await town.look_at_stripe("faults"))["faults"]:
        await town.insist(events, lambda seen: any(event["reason"] == "provider-away" for event in seen.json()["data"]))
        await town.forgive_stripe()
    await book(town, case)


async def bury(town: Town, case: Case) -> None:
    """An event speaks of an object that Stripe does not know, and is buried; every kind of replay ends there again."""
    event_id = f"evt_{case.name}"
    answer = await town.tell(event_id, "payment_intent.succeeded", f"{UNKNOWN_INTENT}{case.name}")
    assert answer.status_code == 200, answer.text
    operator = town.operator(town.payment)
    buried = await _when_dead(town, operator, event_id)
    await operator.ask("POST", f"/admin/v1/webhook-events/{buried}/replay")
    await _when_dead(town, operator, event_id)
    replays = "/admin/v1/webhook-replays"
    plan = await town.insist(lambda: operator.ask("POST", replays, json={}), _created)
    why = {"reason": "the object is back"}
    await town.insist(lambda: operator.ask("POST", f"{replays}/{plan['id']}/confirm", json=why), _done)
    await town.insist(lambda: operator.ask("GET", f"{replays}/{plan['id']}"), _has(status="done"))
    await _when_dead(town, operator, event_id)
    another = await town.insist(lambda: operator.ask("POST", replays, json={}), _created)
    await town.insist(lambda: operator.ask("POST", f"{replays}/{another['id']}/cancel"), _has(status="cancelled"))


async def _when_dead(town: Town, operator: Customer, event_id: str) -> str:
    async def events() -> httpx.Response:
        return await operator.ask("GET", "/admin/v1/webhook-events?status=dead&limit=100")

    def ours(seen: httpx.Response) -> list[str]:
        return [str(event["id"]) for event in seen.json()["data"] if event["stripe_event_id"] == event_id]

    await town.insist(events, lambda seen: bool(ours(seen)))
    return ours(await events())[0]


async def _booked(town: Town, case: Case) -> tuple[Customer, str]:
    """Book and pay, or find that it was done and taken back in an earlier life."""
    guest, hold_id = await _hold(town, case)
    await _pay(town, guest, hold_id, GOOD_CARD)
    ends = {"confirmed", "cancelled"}
    await town.insist(lambda: guest.see(hold_id), lambda seen: seen.json().get("status") in ends)
    return guest, hold_id


async def cancel_paid_departure(town: Town, case: Case) -> None:
    """An operator cancels a slot that is fully paid: the booking is cancelled, and its money goes back."""
    guest, hold_id = await _booked(town, case)
    await _cancel_slot(town, case)
    done = await town.insist(lambda: guest.see(hold_id), _has(status="cancelled"))
    assert done["payment"]["refunded"]["amount"] == PRICE_MINOR, done


async def _cancel_slot(town: Town, case: Case) -> None:
    operator = town.operator()
    path = f"/admin/v1/time-slots/{case.offer.slot_id}"
    change = {"status": "cancelled", "reason": "storm"}
    await town.insist(lambda: operator.ask("PATCH", path, json=change), _done)
    await town.insist(lambda: operator.ask("GET", f"{path}/cancellation"), _has(status="finished"))


async def cancel_departure(town: Town, case: Case) -> None:
    """An operator cancels a slot with one hold and one booking that waits for its card: both come to their end.

    Told again, the guests may find it cancelled.
    """
    for who in ("holder", "buyer"):
        guest = town.customer(f"{who}-{case.name}")
        held = await town.insist(
            lambda guest=guest, who=who: guest.hold(case.offer, 1, key=f"{who}-{case.name}"),  # type: ignore[misc]
            lambda answer: _created(answer) or _refused("SLOT_CLOSED")(answer),
        )
        if who == "buyer" and "id" in held:
            await town.insist(
                lambda guest=guest, hold_id=held["id"]: guest.convert(hold_id),  # type: ignore[misc]
                lambda answer: _decided(answer) or _refused("SLOT_CLOSED")(answer),
            )
    await _cancel_slot(town, case)


async def operate(town: Town, case: Case) -> None:
    """An operator puts something on sale, adds and changes a discount, and turns a flag at both services."""
    operator = town.operator()
    body = {
        "title": "Dusk kayak tour",
        "time_zone": "Europe/Lisbon",
        "currency": "EUR",
        "ticket_types": [{"code": "adult", "title": "Adult", "price": {"amount": 1, "currency": "EUR"}, "seats": 1}],
    }
    sold = await town.insist(lambda: operator.ask("POST", "/admin/v1/experiences", json=body), _created)
    slot = {
        "experience_id": sold["id"],
        "starts_at": "2040-01-01T08:00:00Z",
        "ends_at": "2040-01-01T10:00:00Z",
        "capacity": 4,
    }
    added = await town.insist(lambda: operator.ask("POST", "/admin/v1/time-slots", json=slot), _created)
    await _code(town, case)
    codes = answered(await operator.ask("GET", "/admin/v1/discounts?limit=1"))["data"]
    limits = {"max_uses_per_customer": 1}
    await town.insist(lambda: operator.ask("PATCH", f"/admin/v1/discounts/{codes[0]['id']}", json=limits), _done)
    change = {"capacity": 6, "reason": "a second boat"}
    await town.insist(lambda: operator.ask("PATCH", f"/admin/v1/time-slots/{added['id']}", json=change), _done)
    ticket = {"code": "child", "title": "Child", "price": {"amount": 1, "currency": "EUR"}, "seats": 1}
    path = f"/admin/v1/experiences/{sold['id']}"
    child = await town.insist(lambda: operator.ask("POST", f"{path}/ticket-types", json=ticket), _created)
    stop = {"active": False}
    await town.insist(lambda: operator.ask("PATCH", f"{path}/ticket-types/{child['id']}", json=stop), _done)
    await town.insist(lambda: operator.ask("PATCH", path, json={"cutoff_minutes": 60}), _done)
    flag = {"enabled": True, "percentage": 100, "reason": case.name}
    for door in (town.reservation, town.payment):
        flagging = town.operator(door)
        path = "/admin/v1/flags/signed_internal_calls"
        await town.insist(lambda who=flagging, path=path: who.ask("PUT", path, json=flag), _done)  # type: ignore[misc]
    turn, breaker = {"action": "auto", "reason": case.name}, "/admin/v1/breaker/interactive"
    await town.insist(lambda: town.operator(town.payment).ask("POST", breaker, json=turn), _done)
    key = {"name": case.name, "scopes": ["bookings:read"]}
    made = await town.insist(lambda: operator.ask("POST", "/admin/v1/api-keys", json=key), _created)
    end = {"reason": case.name}
    await town.insist(lambda: operator.ask("POST", f"/admin/v1/api-keys/{made['id']}/revoke", json=end), _done)
