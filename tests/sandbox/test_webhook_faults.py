"""Events lost, never told, doubled, told twice, late and out of order."""

import time

from tests.sandbox.conftest import Start
from tests.sandbox.receiver import WebhookReceiver


async def test_lost(start: Start, receiver: WebhookReceiver) -> None:
    """The event is listed but never delivered."""
    sandbox = await start(receiver.url)
    await sandbox.fault(event="payment_intent.created", action="lose", count=1)
    lost, next_one = await sandbox.intent(), await sandbox.intent()
    await receiver.until(lambda: receiver.about(next_one.id))
    assert receiver.about(lost.id) == []
    assert await sandbox.events(lost.id) == ["payment_intent.created"]


async def test_never_generated(start: Start, receiver: WebhookReceiver) -> None:
    """Neither delivered nor listed: only asking for the object finds it."""
    sandbox = await start(receiver.url)
    await sandbox.fault(event="payment_intent.*", action="never")
    intent = await sandbox.authorised()
    assert await sandbox.events(intent.id) == ["charge.succeeded"]


async def test_doubled(start: Start, receiver: WebhookReceiver) -> None:
    """The same event id arrives five times."""
    sandbox = await start(receiver.url)
    await sandbox.fault(event="*", action="double", copies=5)
    await sandbox.intent()
    await receiver.until(lambda: len(receiver.deliveries) == 5)
    assert len({event.id for event in receiver.deliveries}) == 1


async def test_told_twice(start: Start, receiver: WebhookReceiver) -> None:
    """Two event ids for one fact, as Stripe may do."""
    sandbox = await start(receiver.url)
    await sandbox.fault(event="*", action="twin")
    await sandbox.intent()
    await receiver.until(lambda: len(receiver.deliveries) == 2)
    assert len({event.id for event in receiver.deliveries}) == 2


async def test_late(start: Start, receiver: WebhookReceiver) -> None:
    """It comes, half a second later."""
    sandbox = await start(receiver.url)
    await sandbox.fault(event="*", action="delay", delay_ms=500)
    began = time.monotonic()
    await sandbox.intent()
    await receiver.until(lambda: len(receiver.deliveries) == 1)
    assert 0.45 < receiver.arrived_at[0] - began < 5


async def test_out_of_order(start: Start, receiver: WebhookReceiver) -> None:
    """The first event arrives after the one that followed it; a last one waits two seconds at most."""
    sandbox = await start(receiver.url)
    await sandbox.fault(event="charge.succeeded", action="reorder")
    intent = await sandbox.authorised()
    await receiver.until(lambda: len(receiver.deliveries) == 3)
    arrived = receiver.about(intent.id)
    assert arrived.index("charge.succeeded") > arrived.index("payment_intent.amount_capturable_updated")
