"""Dead events are grouped by what went wrong, and sent round again after a fix: one, or all that match a plan."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared import crashpoints
from shared.payment_contract import PaymentView
from tests.answers import answered, refused
from tests.payment.line_to_stripe import says
from tests.payment.till import Till, open_till
from tests.scenarios import fired

GONE = says(404, {"error": {"type": "invalid_request_error", "code": "resource_missing"}})
WHY = {"reason": "the object is back"}


@pytest.fixture
async def slow_till(till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Till]:
    """A till whose replays send two events at a time and pause for no longer than a test waits."""
    changed = {"webhook_replay_batch_size": 2, "webhook_replay_poll_seconds": 0.001}
    async with open_till(till_database_url, tmp_path, monkeypatch, **changed) as till:
        await till.sweep()
        yield till
        assert await till.violated() == {}


async def bury(till: Till, count: int = 1) -> list[PaymentView]:
    """Let the events of so many new payments die of an object that Stripe does not find."""
    made = [await till.created() for _ in range(count)]
    ids = {payment.id for payment in made}
    for event in await till.stripe_events("payment_intent.created"):
        if event["data"]["object"]["metadata"]["payment_id"] in map(str, ids):
            answered(await till.deliver(event))
    till.line.meets(*[GONE] * count)
    while await till.process():
        pass
    assert not till.line.script
    return made


async def rows(till: Till) -> dict[str, str]:
    return {row["id"]: row["status"] for row in await till.event_rows()}


async def plan(till: Till, **criteria: Any) -> Any:
    return answered(await till.admin("POST", "/webhook-replays", json=criteria), 201)


async def run_replay(till: Till, replay_id: str) -> Any:
    """Turn the job and the worker until the replay has ended."""
    for _ in range(50):
        await till.run("replay_webhooks")
        await till.process()
        seen = answered(await till.admin("GET", f"/webhook-replays/{replay_id}"))
        if seen["status"] != "running":
            return seen
        await asyncio.sleep(0.002)
    pytest.fail(f"the replay never ended: {seen}")


async def test_dead_events_are_grouped_by_what_went_wrong(till: Till) -> None:
    """Same type, reason and class of error are one group with its count and examples; another cause is another one."""
    await bury(till, 3)
    await till.deliver({"id": "evt_x", "object": "event", "type": "payment_intent.succeeded", "data": {"object": {
        "object": "payment_intent", "id": "pi_gone"}}})  # fmt: skip
    await till.process()
    first, second = answered(await till.admin("GET", "/webhook-events/groups", roles=["viewer"]))["data"]
    assert (first["type"], first["reason"], first["last_error"], first["count"]) == (
        "payment_intent.created", "object-missing", "resource_missing", 3,
    )  # fmt: skip
    assert (second["type"], second["count"]) == ("payment_intent.succeeded", 1)
    assert first["first_at"] < first["last_at"]
    assert set(first["example_ids"]) <= (await rows(till)).keys()
    assert len(first["example_ids"]) == 3
    assert len({first["fingerprint"], second["fingerprint"]}) == 2
    await till.run("count_backlogs")
    page = (await till.http.get("/metrics")).text
    assert 'payment_webhooks_dead_by_reason{reason="object-missing"} 4.0' in page
    assert "payment_webhooks_dead 4.0" in page


async def test_a_dead_event_may_be_old(till: Till) -> None:
    """W14: days later it is replayed, by name of who did it; its age counts from then, and no signature is asked for."""
    await bury(till)
    await till.sql("UPDATE webhook_events SET received_at = received_at - interval '9 days'")
    (dead,) = await till.event_rows()
    answered(await till.admin("POST", f"/webhook-events/{dead['id']}/replay"))
    till.line.meets(says(503))
    await till.process()
    (waiting,) = await till.event_rows()
    assert (waiting["status"], waiting["reason"]) == ("received", "provider-away")  # not buried for its age
    await till.make_all_due()
    await till.process()
    (row,) = await till.event_rows()
    assert (row["status"], row["replayed_by"]) == ("processed", "olga")


async def test_a_replay_in_two_hands_has_one_effect(till: Till) -> None:
    """W14, I15: two operators replay it while two workers run: one news for the neighbour, one row, one effect."""
    payment = await till.created()
    await till.pay(payment)
    await till.deliver_all("payment_intent.amount_capturable_updated")
    till.line.meets(GONE)
    await till.process()
    (dead,) = await till.event_rows()
    path = f"/webhook-events/{dead['id']}/replay"
    answers = await asyncio.gather(till.admin("POST", path), till.process(), till.admin("POST", path), till.process())
    replays = [answer for answer in answers if not isinstance(answer, int)]
    fired("W14", sum(answer.status_code == 200 for answer in replays))
    while await till.process():
        pass
    told = await till.sql("SELECT status FROM outbox ORDER BY version")
    assert [row["status"] for row in told] == ["requires_payment", "authorized"]
    refused(await till.admin("POST", path), 409, "EVENT_ALREADY_PROCESSED")
    assert answered(await till.admin("POST", f"{path}?force=true"))["status"] == "received"
    await till.process()
    (row,) = await till.event_rows()
    assert (row["status"], row["reason"]) == ("processed", "nothing-new")


async def test_all_that_match_a_plan_are_replayed(slow_till: Till) -> None:
    """Planned, confirmed, done two at a time: all have their effect, one dies again, and the job says so."""
    till = slow_till
    await bury(till, 5)
    (group,) = answered(await till.admin("GET", "/webhook-events/groups"))["data"]
    made = await plan(till, fingerprint=group["fingerprint"], type="payment_intent.created", reason="object-missing")
    assert (made["status"], made["matching"], made["total"], len(made["sample"])) == ("planned", 5, 5, 5)
    assert set((await rows(till)).values()) == {"dead"}
    path = f"/webhook-replays/{made['id']}"
    assert await till.run("replay_webhooks") == 0
    assert set((await rows(till)).values()) == {"dead"}  # nothing happens before it is confirmed

    started = answered(await till.admin("POST", f"{path}/confirm", json=WHY))
    assert (started["status"], started["confirmed_by"], started["reason"]) == ("running", "olga", WHY["reason"])
    await till.run("replay_webhooks")
    await asyncio.sleep(0.002)
    await till.run("replay_webhooks")
    assert sorted((await rows(till)).values()).count("received") == 2  # no more than two are ever on their way
    till.line.meets(GONE)
    done = await run_replay(till, made["id"])
    assert (done["status"], done["total"], done["replayed"], done["processed"], done["dead_again"]) == (
        "done", 5, 5, 4, 1,
    )  # fmt: skip
    assert done["finished_at"]
    answered(await till.admin("POST", f"{path}/confirm", json=WHY))  # said again, it changes nothing
    refused(await till.admin("POST", f"{path}/cancel"), 409, "WEBHOOK_REPLAY_CLOSED")
    assert sorted((await rows(till)).values()) == ["dead", "processed", "processed", "processed", "processed"]


async def test_only_what_was_planned_and_is_still_dead_is_replayed(slow_till: Till) -> None:
    """An event that died after the plan, or was replayed by hand and died again, is another one: left alone."""
    till = slow_till
    await bury(till, 3)
    made = await plan(till)
    first, second, _third = await till.event_rows()
    answered(await till.admin("POST", f"/webhook-events/{first['id']}/replay"))
    await till.process()
    answered(await till.admin("POST", f"/webhook-events/{second['id']}/replay"))
    till.line.meets(GONE)
    await till.process()
    await bury(till, 1)
    answered(await till.admin("POST", f"/webhook-replays/{made['id']}/confirm", json=WHY))
    done = await run_replay(till, made["id"])
    assert (done["total"], done["replayed"], done["skipped"], done["processed"]) == (3, 1, 2, 1)
    assert sorted((await rows(till)).values()) == ["dead", "dead", "processed", "processed"]


async def test_ignored_events_can_be_replayed_too(slow_till: Till) -> None:
    """A type that was handled too late, or a mode that was set wrong: those events are ignored, not dead."""
    till = slow_till
    await till.deliver({"id": "evt_other", "object": "event", "type": "customer.created", "livemode": False})
    await till.process()
    assert (await plan(till))["matching"] == 0
    made = await plan(till, status="ignored", received_from="2020-01-01T00:00:00Z", received_to="2099-01-01T00:00:00Z")
    assert made["matching"] == 1
    assert (await plan(till, status="ignored", received_to="2020-01-01T00:00:00Z"))["matching"] == 0
    answered(await till.admin("POST", f"/webhook-replays/{made['id']}/confirm", json=WHY))
    done = await run_replay(till, made["id"])
    assert (done["replayed"], done["processed"], done["dead_again"]) == (1, 1, 0)


async def test_a_replay_survives_the_end_of_its_worker(slow_till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """C20: the process ends in the middle of a batch, before or after its commit: the next one goes on where it was."""
    till = slow_till

    class Ended(BaseException):
        """The process ends here."""

    def end() -> None:
        raise Ended

    await bury(till, 5)
    made = await plan(till)
    answered(await till.admin("POST", f"/webhook-replays/{made['id']}/confirm", json=WHY))
    monkeypatch.setattr(crashpoints, "_armed", None)
    for point in ("step_replay.before_commit", "step_replay.after_commit"):
        crashpoints.arm(point, end)
        with pytest.raises(Ended):
            await till.run("replay_webhooks")
        crashpoints.arm(None)
    done = await run_replay(till, made["id"])
    assert (done["replayed"], done["processed"]) == (5, 5)
    events = await till.sql("SELECT deliveries, attempts FROM webhook_events")
    assert {(row["deliveries"], row["attempts"]) for row in events} == {(1, 1)}


async def test_a_replay_is_stopped(slow_till: Till) -> None:
    """After a cancel no further event is sent round, and the plan cannot be confirmed again."""
    till = slow_till
    await bury(till, 4)
    made = await plan(till)
    path = f"/webhook-replays/{made['id']}"
    answered(await till.admin("POST", f"{path}/confirm", json=WHY))
    await till.run("replay_webhooks")
    for _ in range(2):
        stopped = answered(await till.admin("POST", f"{path}/cancel"))
        assert (stopped["status"], stopped["cancelled_by"], stopped["replayed"]) == ("cancelled", "olga", 2)
    assert (await run_replay(till, made["id"]))["replayed"] == 2
    refused(await till.admin("POST", f"{path}/confirm", json=WHY), 409, "WEBHOOK_REPLAY_CLOSED")


async def test_an_old_plan_is_not_carried_out(till: Till) -> None:
    """Who confirms must have looked lately; a plan that nobody confirmed is forgotten after a day."""
    await bury(till)
    made = await plan(till)
    await till.sql("UPDATE webhook_replays SET expires_at = clock_timestamp()")
    path = f"/webhook-replays/{made['id']}"
    refused(await till.admin("POST", f"{path}/confirm", json=WHY), 409, "WEBHOOK_REPLAY_CLOSED")
    await till.sql("UPDATE webhook_replays SET expires_at = clock_timestamp() - interval '25 hours'")
    await plan(till)
    refused(await till.admin("GET", path), 404, "WEBHOOK_REPLAY_NOT_FOUND")


async def test_who_may_replay(till: Till) -> None:
    """Operators act, with a reason; viewers look; strange ids are 404 and strange criteria 422."""
    made = await plan(till)
    path = f"/webhook-replays/{made['id']}"
    answered(await till.admin("GET", path, roles=["viewer"]))
    for action, body in (("", {}), (f"/{made['id']}/confirm", WHY), (f"/{made['id']}/cancel", None)):
        answer = await till.admin("POST", f"/webhook-replays{action}", roles=["viewer"], json=body)
        refused(answer, 403, "FORBIDDEN")
    refused(await till.admin("POST", f"{path}/confirm", json={}), 422, "VALIDATION_FAILED")
    for strange in ({"status": "processed"}, {"fingerprint": "x"}, {"received_from": "today"}, {"since": "x"}):
        refused(await till.admin("POST", "/webhook-replays", json=strange), 422, "VALIDATION_FAILED")
    for missing in ("nonsense", "0199aaaa-0000-7000-8000-000000000001"):
        refused(await till.admin("GET", f"/webhook-replays/{missing}"), 404, "WEBHOOK_REPLAY_NOT_FOUND")
        for action in ("confirm", "cancel"):
            answer = await till.admin("POST", f"/webhook-replays/{missing}/{action}", json=WHY)
            refused(answer, 404, "WEBHOOK_REPLAY_NOT_FOUND")
