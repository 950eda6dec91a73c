"""Old events that had their effect are forgotten; those that wait for somebody are not, however old they are."""

from datetime import UTC, datetime, timedelta

import pytest

from payment_service import background
from tests.answers import answered
from tests.payment.till import Till


async def _deliver(till: Till, event_id: str) -> None:
    event = {"id": event_id, "object": "event", "type": "customer.created", "livemode": False, "data": {"object": {}}}
    answered(await till.deliver(event))


async def _age(till: Till, event_id: str, days: int) -> None:
    """Let an event have come so long ago; its id, too, says when that was."""
    at = datetime.now(UTC) - timedelta(days=days)
    born = f"{int(at.timestamp() * 1000):012x}"
    await till.sql(
        """UPDATE webhook_events SET received_at = :at,
                  id = CAST(:born || substr(replace(id::text, '-', ''), 13) AS uuid) WHERE stripe_event_id = :event""",
        at=at,
        born=born,
        event=event_id,
    )


async def test_old_events_are_forgotten(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ninety days after it was handled an event goes, a few at a time; a dead one and one that is due stay."""
    monkeypatch.setattr(background, "_FORGET_BATCH", 2)
    for name in ("old1", "old2", "old3", "dead", "young"):
        await _deliver(till, f"evt_{name}")
    while await till.process():
        pass
    await _deliver(till, "evt_waiting")
    await till.sql("UPDATE webhook_events SET status = 'dead', reason = 'gave-up' WHERE stripe_event_id = 'evt_dead'")
    for name in ("old1", "old2", "old3", "dead", "waiting"):
        await _age(till, f"evt_{name}", 91)
    await _age(till, "evt_young", 89)
    assert [await till.run("forget_old_events") for _ in range(3)] == [2, 1, 0]
    assert {row["stripe_event_id"] for row in await till.event_rows()} == {"evt_dead", "evt_young", "evt_waiting"}
