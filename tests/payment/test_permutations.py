"""All orders in which a payment's events can come, on time, late and tripled: each ends in the same place, told once.

Stripe is scripted here and can only be asked, because nothing else than a question may ever come of an event.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from payment_service.gateway.paced import PacedGateway
from payment_service.gateway.results import IntentSeen, RefundSeen, Result, done
from payment_service.metrics import Metrics
from payment_service.states import RefundStatus
from payment_service.store import webhook_events
from payment_service.store.webhook_events import Hint
from payment_service.webhooks.processing import Processing, ProcessingLimits
from shared.payment_contract import Outcome
from shared.payment_contract import PaymentStatus as Is
from tests.figures import tell
from tests.payment.till import Till
from tests.scenarios import fired

AMOUNT = 4500


@dataclass(frozen=True)
class Moment:
    """An event, and what Stripe shows from then on."""

    event: str
    status: Is
    decline: str | None = None
    refund: RefundStatus | None = None


STORIES = {
    "paid with 3-D Secure and refunded": (
        Moment("payment_intent.created", Is.REQUIRES_PAYMENT),
        Moment("payment_intent.requires_action", Is.REQUIRES_ACTION),
        Moment("payment_intent.amount_capturable_updated", Is.AUTHORIZED),
        Moment("payment_intent.succeeded", Is.CAPTURED),
        Moment("charge.refunded", Is.CAPTURED, refund=RefundStatus.SUCCEEDED),
    ),
    "declined, then paid": (
        Moment("payment_intent.created", Is.REQUIRES_PAYMENT),
        Moment("payment_intent.payment_failed", Is.REQUIRES_PAYMENT, decline="card_declined"),
        Moment("payment_intent.processing", Is.PROCESSING),
        Moment("payment_intent.amount_capturable_updated", Is.AUTHORIZED),
    ),
    "given up": (
        Moment("payment_intent.created", Is.REQUIRES_PAYMENT),
        Moment("payment_intent.requires_action", Is.REQUIRES_ACTION),
        Moment("payment_intent.amount_capturable_updated", Is.AUTHORIZED),
        Moment("payment_intent.canceled", Is.CANCELED),
    ),
    "a refund that fails later": (
        Moment("payment_intent.succeeded", Is.CAPTURED),
        Moment("refund.created", Is.CAPTURED, refund=RefundStatus.PENDING),
        Moment("refund.updated", Is.CAPTURED, refund=RefundStatus.SUCCEEDED),
        Moment("refund.failed", Is.CAPTURED, refund=RefundStatus.FAILED),
    ),
}
ENDS: dict[str, tuple[str, int, int]] = {
    "paid with 3-D Secure and refunded": ("refunded", AMOUNT, AMOUNT),
    "declined, then paid": ("authorized", 0, 0),
    "given up": ("canceled", 0, 0),
    "a refund that fails later": ("refund_failed", AMOUNT, 0),
}


@dataclass
class Tale:
    """One payment on its way through one order of its events."""

    moments: Sequence[Moment]
    order: Sequence[int]
    payment_id: UUID = field(default_factory=uuid4)
    at: int = 0

    @property
    def intent_id(self) -> str:
        return f"pi_{self.payment_id.hex}"

    @property
    def refund_id(self) -> str:
        return f"re_{self.payment_id.hex}"

    def hint(self, index: int, *, twin: bool = False) -> Hint:
        kind = self.moments[index].event
        about = self.refund_id if kind.startswith("refund.") else self.intent_id
        return Hint(f"evt_{self.payment_id.hex}_{index}_{twin}", kind, about, self.intent_id, livemode=False)


class ScriptedStripe:
    """Shows each payment at the moment it has come to."""

    def __init__(self, tales: Sequence[Tale]) -> None:
        self._tales = {tale.intent_id: tale for tale in tales} | {tale.refund_id: tale for tale in tales}
        self.asked = 0

    def budget(self, budget_s: float) -> float:
        return budget_s

    async def retrieve_intent(self, intent_id: str, *, deadline: float) -> Result[IntentSeen]:
        self.asked += 1
        tale = self._tales[intent_id]
        now = tale.moments[tale.at]
        received = AMOUNT if now.status is Is.CAPTURED else 0
        return done(
            IntentSeen(intent_id, now.status, AMOUNT, "EUR", received, "secret", tale.payment_id, now.decline, None)
        )

    async def list_refunds(self, intent_id: str, *, deadline: float) -> Result[Sequence[RefundSeen]]:
        one = await self.retrieve_refund(self._tales[intent_id].refund_id, deadline=deadline)
        return done([one.value] if one.value else [])

    async def retrieve_refund(self, refund_id: str, *, deadline: float) -> Result[RefundSeen]:
        self.asked += 1
        tale = self._tales[refund_id]
        status = tale.moments[tale.at].refund
        if status is None:
            return Result(Outcome.DECLINED, code="resource_missing")
        return done(RefundSeen(refund_id, status, AMOUNT, "EUR", tale.intent_id, None, None))


async def begin(till: Till, tales: Sequence[Tale]) -> Processing:
    """Write the payments down as before the answer of their create, and make a worker that asks the script."""
    async with till.parts.database.transaction("test") as tx:
        await tx.exec_driver_sql(
            "INSERT INTO payments (id, reservation_id, generation, status, amount, currency, capture_method) "
            "VALUES ($1, $2, 1, 'none', $3, 'EUR', 'manual')",
            [(tale.payment_id, uuid4(), AMOUNT) for tale in tales],
        )
    limits = ProcessingLimits(50, 45.0, 30.0, 12, 3600.0, livemode=False)
    stripe = cast("PacedGateway", ScriptedStripe(tales))
    metrics = Metrics(CollectorRegistry())
    return Processing(till.parts.database, stripe, metrics, limits, backoff=lambda _n: 0.0, nudge_news=lambda: None)


async def deliver(till: Till, hints: Sequence[Hint], processing: Processing) -> None:
    """Deliver events, and let all of them have their effect."""
    async with till.parts.database.transaction("test") as tx:
        for hint in hints:
            await webhook_events.store(tx, hint)
    while await processing.process_due():
        pass


async def tell_in_order(till: Till, tales: Sequence[Tale], *, late: bool) -> None:
    """Deliver all events of all tales, each in its order and thrice, and one under a second id at the end.

    `late`: all at once, when nothing more happens at Stripe; else one after the other, and again when all is over.
    """
    processing = await begin(till, tales)
    length = len(tales[0].moments)
    for known in [length] if late else range(1, length + 1):
        for tale in tales:
            tale.at = max(tale.order[:known])  # an event is never ahead of what Stripe shows
        new = slice(0, known) if late else slice(known - 1, known)
        await deliver(till, [tale.hint(index) for tale in tales for index in tale.order[new]], processing)
    again = [tale.hint(index) for tale in tales for index in tale.order] * 2
    await deliver(till, again + [tale.hint(tale.order[0], twin=True) for tale in tales], processing)


async def ends(till: Till) -> list[tuple[str, int, int]]:
    rows = await till.sql("SELECT status, captured, refunded FROM payments")
    return [(row["status"], row["captured"], row["refunded"]) for row in rows]


@pytest.fixture
async def told(till: Till) -> AsyncIterator[list[int]]:
    """Count the orders that a test has gone through, and tell the number when it is over."""
    counted = [0, 0]
    yield counted
    tell(f"permutations of a payment's events {counted[0]}/{counted[1]} end alike")


@pytest.mark.parametrize("late", [False, True], ids=["on time", "late"])
async def test_every_order_ends_alike(till: Till, late: bool, told: list[int]) -> None:
    """W02, W03, W04, I15, I22, peers B2.29, B2.30: n! orders, each event three times and one under a second id: one end, one news a state."""
    for name, moments in STORIES.items():
        tales = [Tale(moments, order) for order in permutations(range(len(moments)))]
        told[1] += len(tales)
        await till.sweep()
        await tell_in_order(till, tales, late=late)
        found = await ends(till)
        assert set(found) == {ENDS[name]}, name
        told[0] += found.count(ENDS[name])
        await assert_told_once(till, tales, late=late)
    fired("W02", told[0])
    fired("W03", told[0])
    fired("W04", told[0])


async def assert_told_once(till: Till, tales: Sequence[Tale], *, late: bool) -> None:
    """Each state was told once, nothing was asked of Stripe but how things are, and no event is left or dead."""
    assert await till.violated() == {}
    assert await till.sql("SELECT 1 FROM payment_calls") == []
    events = await till.sql("SELECT status, deliveries FROM webhook_events")
    assert {row["status"] for row in events} == {"processed"}
    assert {row["deliveries"] for row in events} == {1, 3}
    told = await till.sql("SELECT payment_id, count(*) AS news FROM outbox GROUP BY payment_id")
    states_max = len(tales[0].moments) if not late else 3
    assert len(told) == len(tales)
    assert max(row["news"] for row in told) <= states_max


async def test_a_second_event_about_the_same_state_adds_nothing(till: Till) -> None:
    """W02: Stripe may make two events of one fact: both are processed, the second one finds nothing new."""
    payment = await till.created()
    await till.pay(payment)
    (event,) = await till.stripe_events("payment_intent.amount_capturable_updated")
    reasons: list[Any] = []
    for twin in (event, event | {"id": "evt_twin"}):
        await till.deliver(twin)
        await till.process()
        reasons.append((await till.event_rows())[-1]["reason"])
    fired("W02", len(reasons) - 1)
    assert reasons == [None, "nothing-new"]
    told = await till.sql("SELECT status FROM outbox ORDER BY version")
    assert [row["status"] for row in told] == ["requires_payment", "authorized"]
