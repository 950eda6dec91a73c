"""What an operator did at the payment service can be looked up: who, what, why, before and after."""

from typing import Any

from tests.answers import answered, refused
from tests.payment.test_replaying import bury, rows
from tests.payment.till import Till

WHY = "after the fix"


async def actions(till: Till) -> dict[str, dict[str, Any]]:
    """Return the newest row of each action."""
    rows = answered(await till.admin("GET", "/operator-actions", roles=["viewer"]))["data"]
    assert all(row["operator"] == "olga" for row in rows)
    return {row["action"]: row for row in reversed(rows)}


async def test_replays_are_on_record(till: Till) -> None:
    """One dead event sent round, a plan, its confirmation and its end: each with what it was about."""
    await bury(till)
    (event,) = await rows(till)
    answered(await till.admin("POST", f"/webhook-events/{event}/replay"))
    await till.process()
    await bury(till)
    plan = answered(await till.admin("POST", "/webhook-replays", json={"status": "dead"}), 201)
    for _ in range(2):
        answered(await till.admin("POST", f"/webhook-replays/{plan['id']}/confirm", json={"reason": WHY}))
    answered(await till.admin("POST", f"/webhook-replays/{plan['id']}/cancel"))
    done = await actions(till)
    assert done["replayWebhookEvent"]["before"]["status"] == "dead"
    assert done["replayWebhookEvent"]["after"]["status"] == "received"
    assert (done["planWebhookReplay"]["target"], done["planWebhookReplay"]["after"]["total"]) == (plan["id"], 1)
    confirmed = done["confirmWebhookReplay"]
    assert (confirmed["reason"], confirmed["before"], confirmed["after"]) == (
        WHY,
        {"status": "planned"},
        {"status": "running"},
    )
    assert done["cancelWebhookReplay"]["after"] == {"status": "cancelled"}
    listed = answered(await till.admin("GET", f"/operator-actions?target={plan['id']}"))["data"]
    assert len(listed) == 3, "repeating a confirmation is no second action"


async def test_switches_are_on_record(till: Till) -> None:
    """A breaker that is held open, a flag, a comparison that was asked for; nothing where the call was refused."""
    refused(await till.admin("POST", "/breaker/interactive", json={"action": "open"}), 422, "VALIDATION_FAILED")
    assert await actions(till) == {}
    answered(await till.admin("POST", "/breaker/interactive", json={"action": "open", "reason": WHY}))
    answered(await till.admin("PUT", "/flags/payment_retries", json={"enabled": False, "reason": WHY}))
    answered(await till.admin("POST", "/reconciliation/run"), 202)
    done = await actions(till)
    assert (done["turnBreaker"]["target"], done["turnBreaker"]["reason"]) == ("interactive", WHY)
    assert (done["turnBreaker"]["before"], done["turnBreaker"]["after"]) == ({"forced": None}, {"forced": "open"})
    assert done["setFlag"]["after"] == {"enabled": False, "percentage": 100}
    assert done["runReconciliation"]["target"] == "reconciliation"
