"""The calls that `parity` makes of both stores: each takes its arguments from the play, and returns what was answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from payment_service.states import BreakerState, EventStatus, FindingKind, Pass
from payment_service.store import breakers, calls, outbox, payments, reconciliation, webhook_events
from payment_service.store import idempotency as answers
from payment_service.store.idempotency import Keyed
from payment_service.store.webhook_events import Hint
from reservation_service.states import LEGAL_MOVES, BookingStatus, CancellationStatus, Notice, SagaStatus
from reservation_service.store import catalogue, reservations, saga_lists, saga_log, slot_cancellations, slots
from shared.changes import FromNow
from shared.payment_contract import CancelPayment, CreatePayment, Outcome, PaymentStatus, RefundPayment

if TYPE_CHECKING:
    from tests.simulation.parity import Play

# reservation_service


async def _take(play: Play, tx: Any) -> Any:
    hold_id = play._id()
    supersedes = play.either(None, None, None, play.one(play.bookings)) if play.bookings else None
    new = slots.NewHold(
        hold_id=hold_id, caller=play.either("ada", "bob"), key=play.either("k1", "k2", str(hold_id), str(hold_id)),
        fingerprint=play.either(b"one", b"two"), time_slot_id=play.one(play.slots), seats=play.number(1, 3),
        ttl_s=play.number(1, 300), items=[{"n": 1}], price={"total": 5}, total_minor=500, currency="EUR",
        capture_method="manual", client_reference=None, metadata=play.either(None, {"a": "b"}), active_holds_max=3,
        supersedes=supersedes,
    )  # fmt: skip
    row = await slots.take_seats(tx, new)
    if row["expires_at"] is not None:
        play.bookings.append(hold_id)
    return row


async def _move(play: Play, tx: Any) -> Any:
    row = await reservations.lock_booking(tx, play.one(play.bookings))
    if row is None:
        return None
    targets = sorted(LEGAL_MOVES[BookingStatus(row["status"])])
    if not targets:
        return None
    target = play.either(*targets)
    if not row["seats_pinned"]:
        if not await reservations.pin_again(tx, row):
            return "sold"
        row = await reservations.lock_booking(tx, row["id"])
    values: dict[str, Any] = {"pay_until": FromNow(60)} if target == "pending" else {}
    await reservations.move(tx, row, BookingStatus(target), reason="because", **values)
    return await reservations.booking(tx, row["id"])


async def _change(play: Play, tx: Any) -> Any:
    values: dict[str, Any] = play.either(
        {"payment": {"status": "authorized", "capture_before": "2031-03-02T10:00:00+00:00"}, "payment_version": 3},
        {"customer": {"email": "Ada@example.org"}},
        {"cancel_requested_at": FromNow(0)},
        {},
    )
    if not values:
        return await reservations.extend(tx, play.one(play.bookings), play.number(1, 90), lifetime_max_s=400)
    return await reservations.change(tx, play.one(play.bookings), **values)


async def _rivals(play: Play, tx: Any) -> Any:
    row = await reservations.lock_booking(tx, play.one(play.bookings))
    if row is None:
        return None
    await reservations.tell_guest(tx, row["id"], play.either(*Notice))
    return await reservations.rivals(tx, row), await reservations.booking(tx, row["id"])


async def _start_saga(play: Play, tx: Any) -> Any:
    saga_id = play._id()
    row = await saga_log.create(
        tx, saga_id=saga_id, reservation_id=play.one(play.bookings), generation=1, flags={"a": True}, lease_s=play.number(1, 60)
    )  # fmt: skip
    play.sagas.append(saga_id)
    return row


async def _note_line(play: Play, tx: Any) -> Any:
    row = await saga_log.saga(tx, play.one(play.sagas))
    if row is not None:
        detail = play.either(None, {"code": "x"})
        await saga_log.append(tx, row, play.either("a", "b"), play.either("do", "undo"), "started", detail=detail)
        return await saga_log.lines(tx, row["id"])
    return None


async def _rest_saga(play: Play, tx: Any) -> Any:
    epoch = play.number(1, 3)
    if play.either(True, False, False):
        await saga_log.end(
            tx, play.one(play.sagas), epoch, play.either(SagaStatus.COMPLETED, SagaStatus.NEEDS_ATTENTION)
        )
    else:
        await saga_log.rest(tx, play.one(play.sagas), epoch, due_in_s=play.number(0, 60), status=SagaStatus.WAITING)


async def _claim_sagas(play: Play, tx: Any) -> Any:
    known = play.either(["a", "b"], ["a"])
    rows = await saga_log.claim_batch(tx, known_steps=known, limit=play.number(1, 3), lease_s=play.number(1, 60))
    return sorted(play.told(row) for row in rows)


async def _claim_saga(play: Play, tx: Any) -> Any:
    known = play.either(["a", "b"], ["b"])
    return await saga_log.claim(tx, play.one(play.sagas), known_steps=known, lease_s=play.number(1, 60))


async def _claim_cancellations(play: Play, tx: Any) -> Any:
    rows = await slot_cancellations.claim(tx, limit=2, lease_s=play.number(1, 60))
    for row in sorted(rows, key=lambda row: row["id"]):
        await slot_cancellations.release_held(tx, row["id"], batch=play.number(1, 3))
        told_why = {"by": "operator", "reason": play.either("storm", "fog")}
        await slot_cancellations.ask_to_unwind(tx, row["id"], batch=play.number(1, 3), cancellation=told_why)
        await slot_cancellations.call_off(tx, row["id"], batch=play.number(1, 3), cancellation=told_why)
        left = await slot_cancellations.left(tx, row["id"], since=row["started_at"])
        await slot_cancellations.rest(tx, row, CancellationStatus.RUNNING, due_in_s=play.number(0, 30))
        return left
    return None


_RESERVATION: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
    "take": _take,
    "take again": _take,
    "take once more": _take,
    "move": _move,
    "move on": _move,
    "change": _change,
    "rivals": _rivals,
    "start saga": _start_saga,
    "note line": _note_line,
    "rest saga": _rest_saga,
    "claim sagas": _claim_sagas,
    "claim saga": _claim_saga,
    "lock saga": lambda play, tx: saga_log.lock(tx, play.one(play.sagas), play.number(1, 3), lease_s=30),
    "wake saga": lambda play, tx: saga_log.wake(tx, play.one(play.sagas)),
    "take in hand": lambda play, tx: saga_log.take_in_hand(tx, play.one(play.sagas), SagaStatus.UNWINDING),
    "live saga": lambda play, tx: saga_log.live_saga_of(tx, play.one(play.bookings)),
    "reasons": lambda _play, tx: saga_lists.reasons(tx),
    "signal": lambda play, tx: saga_log.store_signal(
        tx,
        payment_id=play.one(play.bookings),
        version=play.number(1, 3),
        reservation_id=play.one(play.bookings),
        generation=1,
        body={"status": "captured"},
    ),
    "forget payment": lambda play, tx: reservations.forget_payment(tx, play.one(play.bookings), generation=2),
    "remember key": lambda play, tx: reservations.remember_key(
        tx,
        caller="ada",
        route="r",
        key=play.either("a", "b"),
        booking_id=play.one(play.bookings),
        fingerprint=play.either(b"one", b"two"),
    ),
    "own holds": lambda play, tx: reservations.lock_own_holds(tx, "ada", play.one(play.slots), older_than_s=5),
    "active holds": lambda _play, tx: reservations.active_holds(tx, "ada"),
    "page": lambda play, tx: reservations.page(
        tx, statuses=["held", "pending"], limit=3, after=None, due=play.either(None, True, False)
    ),
    "expire": lambda play, tx: slots.expire_due(
        tx, batch=play.number(1, 3), time_slot_id=play.either(None, play.one(play.slots))
    ),
    "free seats": lambda play, tx: slots.free_seats(tx, play.one(play.slots)),
    "offer": lambda play, tx: catalogue.offer(tx, play.one(play.slots)),
    "slot": lambda play, tx: catalogue.time_slot(tx, play.one(play.slots)),
    "cancel slot": lambda play, tx: slot_cancellations.start(tx, play.one(play.slots)),
    "claim cancellations": _claim_cancellations,
}


# payment_service


def _order(play: Play) -> CreatePayment:
    reservation_id = play.one(play.payments)
    return CreatePayment(
        payment_id=play.one(play.payments),
        reservation_id=reservation_id,
        generation=play.number(1, 2),
        amount=500,
        currency="EUR",
    )


async def _insert(play: Play, tx: Any) -> Any:
    order = _order(play)
    await payments.insert_new(tx, order)
    play.payments.append(order.payment_id)
    return await payments.lock(tx, order.payment_id)


async def _cancel_first(play: Play, tx: Any) -> Any:
    payment_id = play.one(play.payments)
    await payments.insert_cancelled_first(tx, payment_id, CancelPayment(reservation_id=play._id(), generation=1))
    play.payments.append(payment_id)
    return await payments.read(tx, payment_id)


async def _alter(play: Play, tx: Any) -> Any:
    values: dict[str, Any] = play.either(
        {"status": PaymentStatus.AUTHORIZED, "intent_id": f"pi_{play.number(1, 4)}"},
        {"status": PaymentStatus.CAPTURED, "captured": 500},
        {"refunded": 200},
        {"captured": 600},
        {"status": PaymentStatus.REQUIRES_PAYMENT, "decline_class": "card_declined"},
    )
    return await payments.change(tx, play.one(play.payments), **values)


async def _refund(play: Play, tx: Any) -> Any:
    order = RefundPayment(refund_id=play.one(play.refunds), amount=play.number(1, 300))
    refund = await payments.insert_refund(tx, play.one(play.payments), order)
    play.refunds.append(refund.id)
    return refund


async def _begin_call(play: Play, tx: Any) -> Any:
    payment_id, step = play.one(play.payments), play.either("create", "capture")
    call = await calls.begin(tx, payment_id, step, key_number=play.number(1, 2))
    if play.either(True, False):
        await calls.end(tx, call, play.either(*Outcome), "code", key_is_spent=play.either(True, False))
    return await calls.earlier(tx, payment_id, step), await calls.journal(tx, payment_id)


async def _append_news(play: Play, tx: Any) -> Any:
    payment_id = play.one(play.payments)
    await outbox.append(tx, payment_id, play.number(1, 9), "captured", {"a": 1})
    return await outbox.history(tx, payment_id)


async def _claim_news(play: Play, tx: Any) -> Any:
    rows = sorted(
        await outbox.claim(tx, limit=play.number(1, 3), lease_s=play.number(1, 30)), key=lambda row: row["id"]
    )
    for row in rows[:1]:
        if play.either(True, False):
            await outbox.delivered(tx, row, "applied")
        else:
            await outbox.failed(tx, row, "no", due_in_s=play.number(1, 30))
    return [rows, await outbox.backlog(tx)]


def _hint(play: Play) -> Hint:
    return Hint(f"evt_{play.number(1, 12)}", "refund.created", "re_1", play.either("pi_1", "pi_2", ""), livemode=False)


async def _store_event(play: Play, tx: Any) -> Any:
    accepted = await webhook_events.store(tx, _hint(play))
    play.events.append(accepted.id)
    return accepted


async def _claim_events(play: Play, tx: Any) -> Any:
    claimed = await webhook_events.claim(tx, limit=play.number(1, 3), lease_s=play.number(1, 30))
    mine = await webhook_events.still_mine(tx, claimed, lease_s=30) if claimed else []
    if mine and play.either(True, False):
        await webhook_events.finish(
            tx, mine[:1], EventStatus.PROCESSED, reason=None, payment_id=play.one(play.payments)
        )
    elif mine:
        await webhook_events.put_back(tx, mine[0], reason="later", error="E", due_in_s=play.number(0, 30), attempts=2)
    return [claimed, mine, await webhook_events.waiting(tx)]


def _keyed(play: Play) -> Keyed:
    return Keyed("route", play.either("a", "b", "c"), play.either(b"one", b"two"), play.one(play.payments))


async def _settle_key(play: Play, tx: Any) -> Any:
    keyed = _keyed(play)
    if play.either(True, False):
        await answers.keep(tx, keyed, Outcome.OK, play.either(None, {"code": "x"}))
    else:
        await answers.let_go(tx, keyed)
    return await answers.claim(tx, keyed, lease_s=15)


async def _compare(play: Play, tx: Any) -> Any:
    settle = {Pass.EVENTS: 60.0, Pass.INTENTS: 3600.0}
    windows = await reconciliation.claim(tx, lease_s=play.number(1, 60), settle_s=settle, overlap_s=900)
    windows = sorted(windows, key=lambda window: window.name)
    for window in windows[:1]:
        await reconciliation.note_page(tx, window, cursor="c", looked=play.number(0, 9), found=1)
        if play.either(True, False):
            await reconciliation.complete(tx, window, next_in_s=play.number(1, 60))
        else:
            await reconciliation.interrupt(tx, window, "no", next_in_s=5)
    return [windows, await reconciliation.state(tx)]


async def _breaker(play: Play, tx: Any) -> Any:
    probe = UUID(int=play.number(1, 2))
    match play.number(1, 5):
        case 1 | 2:
            await breakers.open_(tx, "interactive", "sick", rest_s=play.number(1, 30))
        case 3:
            await breakers.claim_probe(tx, "interactive", probe, lease_s=15)
        case 4:
            await breakers.close(tx, "interactive", probe, "well")
        case _:
            await breakers.force(tx, "background", play.either(None, BreakerState.OPEN), by="ops", reason="why")
    return sorted(play.told(row) for row in await breakers.read(tx))


_PAYMENT: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
    "insert": _insert,
    "insert again": _insert,
    "cancel first": _cancel_first,
    "learn": lambda play, tx: payments.learn_order(tx, _order(play)),
    "alter": _alter,
    "alter again": _alter,
    "by intent": lambda play, tx: payments.lock_by_intent(
        tx, f"pi_{play.number(1, 4)}", play.either(None, play.one(play.payments))
    ),
    "claim refresh": lambda play, tx: payments.claim_refresh(tx, play.one(play.payments), interval_s=2.0),
    "claim unsettled": lambda play, tx: payments.claim_unsettled(tx, limit=1, interval_s=play.number(1, 60)),
    "wish": lambda play, tx: payments.wish_cancelled(tx, play.one(play.payments)),
    "both ids": lambda play, tx: payments.by_stripe_or_our_id(tx, ["pi_1"], [play.one(play.payments)]),
    "page": lambda play, tx: payments.page(tx, limit=3, after=None, status=play.either(None, PaymentStatus.CAPTURED)),
    "refund": _refund,
    "refunds": lambda play, tx: payments.refunds_of(tx, play.one(play.payments)),
    "begin call": _begin_call,
    "append news": _append_news,
    "append more": _append_news,
    "claim news": _claim_news,
    "store event": _store_event,
    "store events": _store_event,
    "store missing": lambda play, tx: webhook_events.store_missing(tx, [_hint(play)]),
    "claim events": _claim_events,
    "claim event": lambda play, tx: webhook_events.claim_one(tx, play.one(play.events), lease_s=30),
    "revive": lambda play, tx: webhook_events.revive(
        tx, play.one(play.events), by="ops", force=play.either(True, False)
    ),
    "claim key": lambda play, tx: answers.claim(tx, _keyed(play), lease_s=play.number(1, 20)),
    "settle key": _settle_key,
    "compare": _compare,
    "finding": lambda play, tx: reconciliation.add_finding(
        tx, play.either(*FindingKind), stripe_id="pi_1", payment_id=None, amount=5, currency="EUR"
    ),
    "findings": lambda _play, tx: reconciliation.known_findings(tx, ["pi_1"]),
    "breaker": _breaker,
}


WAYS: dict[str, dict[str, Callable[[Any, Any], Awaitable[Any]]]] = {"reservation": _RESERVATION, "payment": _PAYMENT}
