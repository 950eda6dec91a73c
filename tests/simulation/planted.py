"""Bugs that cost money or seats, each put into the running product in a few words, for as long as a `with` lasts.

`tests/mutants` changes the product's text; here the names that its modules use are replaced, so that thousands of worlds
can be tried in one process. Each must be found.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from payment_service.errors import PaymentNotFound
from payment_service.gateway import guarded
from payment_service.payments import establishing, notifying, recording
from payment_service.store import payments as payment_rows
from payment_service.store import webhook_events
from payment_service.webhooks import inbox
from reservation_service.booking import reservations as booking_moves
from reservation_service.saga import journal, messages, patience, steps
from reservation_service.saga.definition import Event, LocalStep, Pause, Result, Verdict
from reservation_service.store import reservations as booking_rows
from reservation_service.store import saga_log
from shared.payment_contract import Outcome

Put = Callable[[Any, str, Any], None]


def undo_on_timeout(put: Put) -> None:
    """An unknown outcome of a payment call is taken for a refusal."""
    put(steps, "_EVENTS", {**steps._EVENTS, Outcome.UNKNOWN: Event.REFUSED})


def unknown_is_done(put: Put) -> None:
    """An unknown outcome of a payment call is taken for a success."""
    put(steps, "_EVENTS", {**steps._EVENTS, Outcome.UNKNOWN: Event.DONE})
    put(steps.Steps, "capture_payment", _capture_unchecked)


async def _capture_unchecked(act: Any, booking: Any) -> Result:
    return steps._result(await act._payments.capture(steps.payment_id(booking)))


def skip_the_fence(put: Put) -> None:
    """A worker whose lease is over, and whose saga somebody else has, writes all the same."""

    async def lock(tx: Any, saga_id: Any, epoch: int, *, lease_s: float) -> Any:
        row = await saga_log.saga(tx, saga_id)
        return {**row, "lease_epoch": epoch} if row else None

    put(saga_log, "lock", lock)


def confirm_without_money(put: Put) -> None:
    """The pause is passed before the guest's bank has said yes, and whatever capturing brings is taken for money."""
    put(steps.Steps, "payment_authorized", lambda *_: Verdict.PASSED)

    async def capture(act: Any, booking: Any) -> Result:
        told = await _capture_unchecked(act, booking)
        return Result(Event.DONE, told.payment)

    put(steps.Steps, "capture_payment", capture)


def release_before_cancelling(put: Put) -> None:
    """The way back begins with the seats, and money can arrive for what is already resold."""

    def from_the_front(self: Any, saga: Any) -> Any:
        parts = (part for part in saga.parts if not isinstance(part, Pause))
        return next((part for part in parts if self._may_have_happened(part)), None)

    put(journal.Journal, "next_backward", from_the_front)


def leave_the_payment_open(put: Put) -> None:
    """A booking that is given up does not cancel its payment."""

    async def nothing(*_: Any) -> Result:
        return Result(Event.DONE)

    put(steps.Steps, "cancel_payment_intent", nothing)


def keep_the_money(put: Put) -> None:
    """Taking back a booking that was paid meanwhile forgets the refund."""

    async def nothing(_act: Any, _booking: Any, _because: str) -> Result:
        return Result(Event.DONE)

    put(steps.Steps, "refund_payment", nothing)


def acknowledge_before_commit(put: Put) -> None:
    """Stripe is told 200 before its event is stored."""

    async def accept(self: Any, body: bytes, signature: str | None) -> bool:
        hint = self._verified(body, signature)

        async def soon() -> None:
            async with self._database.transaction("store_event") as tx:
                await webhook_events.store(tx, hint)

        self._soon = asyncio.get_running_loop().create_task(soon())
        return False

    put(inbox.Inbox, "accept", accept)


async def _note_unchecked(tx: Any, booking: Any, told: Mapping[str, Any]) -> None:
    known = dict(booking["payment"] or {})
    fresh = {name: value for name, value in told.items() if value is not None}
    await booking_rows.change(tx, booking["id"], payment={**known, **fresh}, payment_version=told["version"])


def older_answers_win(put: Put) -> None:
    """What payment_service answered replaces what it has told since."""
    put(booking_moves, "note_payment", _note_unchecked)


def older_news_wins(put: Put) -> None:
    """What is told of a payment replaces what is known, however old it is."""
    honest = messages.Messages._store

    async def store(self: Any, tx: Any, booking: Any, event: Any) -> bool:
        return await honest(self, tx, {**booking, "payment_version": -1}, event)

    put(messages.Messages, "_store", store)
    put(messages, "note_payment", _note_unchecked)


def backwards_is_news(put: Put) -> None:
    """An old answer of Stripe's moves a payment back to an earlier class."""
    put(recording, "_is_news", lambda *_: True)


def another_payment_each_time(put: Put) -> None:
    """A repeated create is another payment, under another id."""
    put(steps, "payment_id", lambda _booking: uuid.uuid4())


def another_key_each_time(put: Put) -> None:
    """A repeated call to Stripe carries another idempotency key."""

    def key_for(*_: Any) -> str:
        return str(uuid.uuid4())

    put(establishing, "key_for", key_for)


def sent_is_not_sent(put: Put) -> None:
    """A call whose first try may have had an effect, and whose last one stayed at home, is told as never sent."""

    class Course(guarded._Course):
        may_have_happened = property(lambda _self: False, lambda _self, _value: None)  # type: ignore[assignment]

    put(guarded, "_Course", Course)


def news_is_lost(put: Put) -> None:
    """News that was not delivered counts as delivered."""

    async def failed(tx: Any, row: Any, _error: str, *, due_in_s: float) -> bool:
        return await notifying.outbox.delivered(tx, row, "applied")

    put(notifying.outbox, "failed", failed)


def cancel_wishes_are_forgotten(put: Put) -> None:
    """The wish to end a payment is not written down, so that a late create starts it after all."""

    async def forget(tx: Any, payment_id: Any) -> Any:
        return await payment_rows.note(tx, payment_id, cancel_requested_at=None)

    async def nothing(*_: Any) -> None:
        raise PaymentNotFound

    put(payment_rows, "wish_cancelled", forget)
    put(payment_rows, "insert_cancelled_first", nothing)


def seats_without_patience(put: Put) -> None:
    """When the window is over the seats go back at once, whatever the payment is doing."""
    put(patience.Patience, "grace_left_s", property(lambda _self: -1.0))
    honest = journal.Journal.next_backward

    def seats_first(self: Any, saga: Any) -> Any:
        first = saga.parts[0]
        if isinstance(first, LocalStep) and self._may_have_happened(first):
            return first
        return honest(self, saga)

    put(journal.Journal, "next_backward", seats_first)


BUGS: tuple[Callable[[Put], None], ...] = (
    undo_on_timeout,
    unknown_is_done,
    skip_the_fence,
    confirm_without_money,
    release_before_cancelling,
    leave_the_payment_open,
    keep_the_money,
    acknowledge_before_commit,
    older_answers_win,
    older_news_wins,
    backwards_is_news,
    another_payment_each_time,
    another_key_each_time,
    sent_is_not_sent,
    news_is_lost,
    cancel_wishes_are_forgotten,
    seats_without_patience,
)


WITNESSES: dict[str, int] = {
    "undo_on_timeout": 758,
    "skip_the_fence": 67,
    "keep_the_money": 27,
    "older_answers_win": 193,
    "older_news_wins": 276,
    "backwards_is_news": 678,
}
"""The world in which each bug was found last, where it is looked for first; the code's next change may find it another."""


@contextmanager
def planted(bug: Callable[[Put], None]) -> Iterator[None]:
    """Let the product have a bug for a while."""
    honest: list[tuple[Any, str, Any]] = []

    def put(place: Any, name: str, instead: Any) -> None:
        honest.append((place, name, vars(place)[name]))
        setattr(place, name, instead)

    try:
        bug(put)
        yield
    finally:
        for place, name, was in reversed(honest):
            setattr(place, name, was)
