"""Thousands of events at once: acknowledged at once, asked about once per payment, at a pace that Stripe allows."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.stripe_sandbox.rate_limit import RateLimit
from payment_service.gateway.paced import Pace
from shared.clock import SystemClock
from shared.payment_contract import PaymentView
from tests.answers import answered, refused
from tests.figures import tell
from tests.payment.line_to_stripe import says
from tests.payment.till import WEBHOOK_SECRETS, Till, intent_id, open_till
from tests.scenarios import fired

EVENTS, PAYMENTS = 2000, 100
ACK_WITHIN_S = 5.0
# Stripe's test mode and our pace, both four times as fast, so that nobody waits for it.
STRIPE_PER_S, LOOKS_PER_S = 100.0, 80.0
KINDS = (
    "payment_intent.created",
    "payment_intent.requires_action",
    "payment_intent.processing",
    "payment_intent.amount_capturable_updated",
)


class BusyStripe(httpx.AsyncBaseTransport):
    """Stripe with its limit: what comes faster is answered 429."""

    def __init__(self, stripe: httpx.AsyncBaseTransport, per_s: float) -> None:
        self._stripe = stripe
        self._limit = RateLimit(per_s, time.monotonic)
        self.answered = self.refused = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._limit.passes():
            self.answered += 1
            return await self._stripe.handle_async_request(request)
        self.refused += 1
        return httpx.Response(429, json={"error": {"type": "invalid_request_error", "code": "rate_limit"}})


def events_about(payments: Sequence[PaymentView], count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"evt_burst_{number}",
            "object": "event",
            "type": KINDS[number // len(payments) % len(KINDS)],
            "livemode": False,
            "data": {"object": {"object": "payment_intent", "id": intent_id(payments[number % len(payments)])}},
        }
        for number in range(count)
    ]


async def acknowledged_in(till: Till, event: dict[str, Any], room: asyncio.Semaphore) -> float:
    """Deliver an event; return how long its acknowledgement took."""
    async with room:
        started = time.monotonic()
        answered(await till.deliver(event))
        return time.monotonic() - started


async def work_until_idle(till: Till, clock: SystemClock, delivered: asyncio.Event) -> None:
    """Process as the job does, until everything has been delivered and nothing is left."""
    while await till.process() or not delivered.is_set():
        await clock.sleep(0)


@pytest.mark.timeout(300)
async def test_a_burst_is_acknowledged_and_drains(
    till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W18, I13, I14: 2,000 events about 100 payments: each taken in time, all processed, Stripe never over its limit."""
    changed = {"webhook_looks_per_s": LOOKS_PER_S}
    async with open_till(till_database_url, tmp_path, monkeypatch, **changed) as till:
        await till.sweep()
        payments = [await till.created() for _ in range(PAYMENTS)]
        for payment in payments:
            await till.pay(payment)
        busy = till.line.sandbox = BusyStripe(till.line.sandbox, STRIPE_PER_S)
        delivered, room = asyncio.Event(), asyncio.Semaphore(16)
        started = time.monotonic()
        worker = asyncio.create_task(work_until_idle(till, SystemClock(), delivered))
        took = await asyncio.gather(*(acknowledged_in(till, event, room) for event in events_about(payments, EVENTS)))
        delivered.set()
        await worker
        drained_s = time.monotonic() - started
        assert await till.sql("SELECT status, count(*) FROM webhook_events GROUP BY status") == [
            {"status": "processed", "count": EVENTS}
        ]
        assert {row["status"] for row in await till.sql("SELECT status FROM payments")} == {"authorized"}
        assert await till.violated() == {}
    fired("W18", len(took))
    tell(
        f"burst: {EVENTS} events about {PAYMENTS} payments acknowledged in {max(took):.2f} s at most, "
        f"drained in {drained_s:.1f} s by {busy.answered} questions to Stripe, {busy.refused} over its limit"
    )
    assert max(took) < ACK_WITHIN_S
    assert busy.refused == 0
    assert PAYMENTS <= busy.answered <= 4 * PAYMENTS


async def test_events_of_one_payment_are_served_by_one_look(till: Till) -> None:
    """Whether due or waiting for another try: what was stored before the question needs no question of its own."""
    payment = await till.created()
    await till.deliver_all("payment_intent.created")
    till.line.meets(says(503))
    await till.process()
    (waiting,) = await till.event_rows()
    assert waiting["status"] == "received"
    await till.pay(payment)
    for event in events_about([payment], 5):
        answered(await till.deliver(event))
    asked = len(till.line.calls)
    assert await till.process() == 6
    assert len(till.line.calls) == asked + 1
    rows = await till.event_rows()
    assert [row["reason"] for row in rows] == [None] + ["seen-with-another"] * 5
    assert {row["payment_id"] for row in rows} == {str(payment.id)}


async def test_slow_work_is_done_once(till: Till) -> None:
    """W20, C18: Stripe answers slower than the lease: the event was acknowledged, another worker does it, one effect."""
    payment = await till.created()
    await till.pay(payment)
    (event,) = await till.stripe_events("payment_intent.amount_capturable_updated")
    arrived, gate = asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request, sandbox: httpx.AsyncBaseTransport) -> httpx.Response:
        arrived.set()
        await gate.wait()
        return await sandbox.handle_async_request(request)

    till.line.meets(slow)
    answered(await till.deliver(event))
    first = asyncio.create_task(till.process())
    await arrived.wait()
    assert await till.process() == 0  # the lease is alive: nobody else takes it
    await till.sql("UPDATE webhook_events SET lease_until = clock_timestamp() - interval '1 second'")
    assert await till.process() == 1
    gate.set()
    await first
    fired("W20", 1)
    (row,) = await till.event_rows()
    assert (row["status"], row["reason"], row["deliveries"]) == ("processed", None, 1)
    told = await till.sql("SELECT status FROM outbox ORDER BY version")
    assert [row["status"] for row in told] == ["requires_payment", "authorized"]


async def test_old_events_and_new_secrets(
    till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, till: Till
) -> None:
    """W08, W11, peers B2.40: Stripe's retry of an old event has a new time and is taken; after the rotation the old secret is not."""
    old = {"id": "evt_old", "object": "event", "type": "customer.created", "created": 1_500_000_000, "livemode": False}
    answered(await till.deliver(old, at_s=time.time() - 200))
    fired("W08", 1)
    async with open_till(
        till_database_url, tmp_path / "rotated", monkeypatch, stripe_webhook_secrets=WEBHOOK_SECRETS[1]
    ) as rotated:
        refused(await rotated.deliver(old, secret=WEBHOOK_SECRETS[0]), 400, "WEBHOOK_SIGNATURE_INVALID")
        assert answered(await rotated.deliver(old, secret=WEBHOOK_SECRETS[1]))["duplicate"] is True
    fired("W11", 1)


class _HandClock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def monotonic(self) -> float:
        return self.at_s

    async def sleep(self, delay_s: float) -> None:
        self.at_s += delay_s


async def test_turns_come_at_their_pace() -> None:
    """A few at once, then twenty a second and never more; a turn that would come too late is not taken."""
    clock: Any = _HandClock()
    pace = Pace(20.0, clock)
    times = []
    for _ in range(60):
        assert await pace.turn(deadline=1000.0)
        times.append(clock.at_s - 100.0)
    assert sum(at == 0.0 for at in times) <= 5
    assert all(later - earlier >= 0.999 for earlier, later in zip(times, times[25:], strict=False))
    assert times[-1] == pytest.approx(55 * 0.05, abs=0.06)
    assert not await pace.turn(deadline=clock.at_s + 0.01)
    clock.at_s += 10
    assert await pace.turn(deadline=clock.at_s)
