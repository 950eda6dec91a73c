"""Twelve bugs that would cost seats, money or trust, each as the few words of the product that it changes.

A bug is written as honest text and the planted text in its place, like a diff, and lives nowhere but here: the product
has no switch for it. `caught_by` names ordinary tests, which know nothing of this page.
"""

from dataclasses import dataclass

_SEATS = "tests/invariants/test_seats.py"
_STRANGERS = "tests/invariants/test_strangers.py"
_SAME_REQUEST = "tests/invariants/test_same_request.py"
_MONEY = "tests/invariants/test_money.py"
_UNKNOWN_OUTCOMES = "tests/invariants/test_unknown_outcomes.py"
_STRIPES_DOOR = "tests/invariants/test_stripes_door.py"


@dataclass(frozen=True)
class Edit:
    """One change to one file of the product; `honest` stands there exactly `times` times."""

    path: str
    honest: str
    planted: str
    times: int = 1


@dataclass(frozen=True)
class Bug:
    """What goes wrong, how it is done, and where the tests are that must notice."""

    name: str
    meaning: str
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]

    @property
    def is_in_the_schema(self) -> bool:
        """Tell whether it takes databases of its own to plant it."""
        return any("/migrations/" in edit.path for edit in self.edits)


_STORED_THEN_TOLD = """
        async with self._database.transaction("store_event", of_one_statement=known is not None) as tx:
            accepted, settled = await self._store(tx, delivery, known)
"""
_TOLD_THEN_STORED = """
        import asyncio, uuid
        async def store_soon():
            async with self._database.transaction("store_event") as tx:
                await webhook_events.store(tx, delivery.hint)
        self._soon = asyncio.create_task(store_soon())
        settled = None
        accepted = Accepted(uuid.uuid4(), duplicate=False, finished=True)
"""
_RELEASED_AGAIN = """
            elif booking["status"] == BookingStatus.RELEASED:
                await slots.give_back_seats(tx, booking["time_slot_id"], booking["seats"])
            elif booking["status"] not in {BookingStatus.RELEASED, BookingStatus.EXPIRED}:
"""

_JUDGED_INSIDE = """
                with suppress(_Sick, CircuitBreakerError):
                    await self._machine.call_async(judged)
"""
_READ_FROM_THE_BREAKER = """
                try:
                    await self._machine.call_async(judged)
                except CircuitBreakerError:
                    return self._refusal()
                except _Sick:
                    pass
"""

BUGS: tuple[Bug, ...] = (
    Bug(
        "oversell",
        "the CHECK is dropped and seats are taken without looking at the capacity",
        (
            Edit(
                "reservation_service/store/migrations/versions/0001_first_tables.py",
                '        sa.CheckConstraint("0 <= taken AND taken <= capacity", name="time_slots_never_oversold"),\n',
                "",
            ),
            Edit(
                "reservation_service/store/slots.py",
                "sells_until > clock_timestamp() AND taken + :seats <= capacity",
                "sells_until > clock_timestamp()",
            ),
        ),
        (_SEATS,),
    ),
    Bug(
        "skip-the-fence",
        "a worker writes although its lease is over and somebody else has taken over",
        (Edit("shared/due_rows.py", 'lease_epoch == bindparam("epoch")', 'lease_epoch >= bindparam("epoch")'),),
        (_UNKNOWN_OUTCOMES,),
    ),
    Bug(
        "undo-on-timeout",
        "an unknown outcome of a payment call is taken for a refusal",
        (
            Edit(
                "reservation_service/saga/steps.py", "Outcome.UNKNOWN: Event.UNKNOWN", "Outcome.UNKNOWN: Event.REFUSED"
            ),
        ),
        (_UNKNOWN_OUTCOMES,),
    ),
    Bug(
        "acknowledge-before-commit",
        "Stripe is told 200 before its event is stored",
        (Edit("payment_service/webhooks/inbox.py", _STORED_THEN_TOLD, _TOLD_THEN_STORED),),
        (_STRIPES_DOOR,),
    ),
    Bug(
        "no-deduplication",
        "a second delivery of an event is stored as another event",
        (
            Edit(
                "payment_service/store/webhook_events.py",
                "**vars(hint), **outcome)",
                '**{**vars(hint), "stripe_event_id": f"{hint.stripe_event_id}:{new_id()}"}, **outcome)',
            ),
        ),
        (_STRIPES_DOOR,),
    ),
    Bug(
        "sweep-a-pending-one",
        "the sweeper frees the seats of a booking that is being paid for",
        (
            Edit(
                "reservation_service/store/slots.py",
                "    WHERE r.status = 'held' AND r.expires_at",
                "    WHERE r.status IN ('held', 'pending') AND r.expires_at",
            ),
        ),
        (_SEATS,),
    ),
    Bug(
        "no-owner-check",
        "whoever knows an id reads and changes another customer's booking",
        (
            Edit(
                "reservation_service/store/reservations.py",
                'reservations.c.caller == bindparam("of_caller")) if',
                '(reservations.c.caller == bindparam("of_caller")).is_not(None)) if',
            ),
        ),
        (_STRANGERS,),
    ),
    Bug(
        "key-without-body",
        "an idempotency key replays whatever the body says now",
        (Edit("shared/idempotency.py", "path.encode(), canonical)", "path.encode())"),),
        (_SAME_REQUEST,),
    ),
    Bug(
        "float-money",
        "a price passes through a float of major units",
        (
            Edit(
                "reservation_service/booking/pricing.py",
                '"amount": money(ticket["price_minor"] * quantity, currency)',
                '"amount": money(int(ticket["price_minor"] / 100 * quantity * 100), currency)',
            ),
        ),
        (_MONEY,),
    ),
    Bug(
        "in-flight-as-not-sent",
        "the call that trips the breaker was sent, and is reported as never sent",
        (
            Edit("payment_service/gateway/breaker.py", _JUDGED_INSIDE, _READ_FROM_THE_BREAKER),
            Edit(
                "payment_service/gateway/guarded.py",
                "course.may_have_happened |= result.outcome is Outcome.UNKNOWN",
                "course.may_have_happened = False",
            ),
        ),
        (_STRIPES_DOOR,),
    ),
    Bug(
        "release-twice",
        "giving a hold back again gives its seats back again",
        (
            Edit(
                "reservation_service/booking/holds.py",
                '\n            elif booking["status"] not in {BookingStatus.RELEASED, BookingStatus.EXPIRED}:\n',
                _RELEASED_AGAIN,
            ),
        ),
        (_SEATS,),
    ),
    Bug(
        "unwind-without-cancelling",
        "a booking that is given up leaves its payment open",
        (
            Edit(
                "reservation_service/saga/steps.py",
                "answer = await self._payments.cancel(payment_id(booking), body)",
                "return Result(Event.DONE)",
            ),
        ),
        (_UNKNOWN_OUTCOMES,),
    ),
)
