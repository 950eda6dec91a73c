"""What operators see and turn, and that the audit finds what it is there to find."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.routing import APIRoute

from payment_service.api import payments
from payment_service.states import Pass
from payment_service.store.audit import INVARIANTS
from shared.payment_contract import Outcome
from tests.answers import answered, refused
from tests.payment.till import Till, open_till

READS = ("/payments", "/ledger", "/webhook-events", "/breaker", "/invariants", "/audit-export", "/flags")


@pytest.mark.parametrize("path", READS)
async def test_who_may_look(till: Till, path: str) -> None:
    """Operators and viewers; a customer is refused, and without a token nobody is anybody."""
    for role in ("operator", "viewer"):
        answered(await till.admin("GET", path, roles=[role]))
    refused(await till.admin("GET", path, roles=[]), 403, "FORBIDDEN")
    refused(await till.http.get(f"/admin/v1{path}"), 401, "UNAUTHENTICATED")


async def test_payments_are_listed_in_pages(till: Till) -> None:
    """Three payments in pages of two; the second page begins where the first one ended."""
    for _ in range(3):
        await till.created()
    first = answered(await till.admin("GET", "/payments?limit=2"))
    assert (len(first["data"]), first["has_more"]) == (2, True)
    second = answered(await till.admin("GET", f"/payments?limit=2&starting_after={first['next_cursor']}"))
    assert (len(second["data"]), second["has_more"], second["next_cursor"]) == (1, False, None)
    assert len({row["id"] for row in first["data"] + second["data"]}) == 3
    assert "client_secret" not in first["data"][0]
    assert answered(await till.admin("GET", "/payments?status=captured"))["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "starting_after=nonsense", "status=lost"])
async def test_a_strange_list_is_422(till: Till, query: str) -> None:
    """Limits, cursors and filters are checked for form."""
    for path in ("/payments", "/webhook-events"):
        refused(await till.admin("GET", f"{path}?{query}"), 422, "VALIDATION_FAILED")


async def test_one_event_is_shown(till: Till) -> None:
    """By our id; what is no id, or names nothing, is 404."""
    await till.created()
    await till.deliver_all("payment_intent.created")
    (row,) = answered(await till.admin("GET", "/webhook-events?status=received"))["data"]
    assert answered(await till.admin("GET", f"/webhook-events/{row['id']}")) == row
    for missing in (str(uuid4()), "nonsense"):
        refused(await till.admin("GET", f"/webhook-events/{missing}"), 404, "WEBHOOK_EVENT_NOT_FOUND")
        refused(await till.admin("POST", f"/webhook-events/{missing}/replay"), 404, "WEBHOOK_EVENT_NOT_FOUND")


async def test_a_flag_is_turned(till: Till) -> None:
    """An operator turns it and sees it turned; a viewer, an unknown name and a strange body are refused."""
    body = {"enabled": False, "percentage": 100, "reason": "drill"}
    turned = answered(await till.admin("PUT", "/flags/payment_retries", json=body))
    assert (turned["name"], turned["enabled"], turned["overridden"]) == ("payment_retries", False, True)
    listed = {flag["name"]: flag["enabled"] for flag in answered(await till.admin("GET", "/flags"))["data"]}
    assert listed == {
        "webhook_inbox": True,
        "payment_retries": False,
        "circuit_breaker": True,
        "reconciliation": True,
        "settle_at_the_door": False,
        "signed_internal_calls": True,
        "metrics": True,
        "pool_metrics": True,
        "structured_logging": True,
    }
    refused(await till.admin("PUT", "/flags/payment_retries", roles=["viewer"], json=body), 403, "FORBIDDEN")
    refused(await till.admin("PUT", "/flags/no_such_flag", json=body), 404, "FLAG_NOT_FOUND")
    refused(
        await till.admin("PUT", "/flags/payment_retries", json=body | {"percentage": 101}), 422, "VALIDATION_FAILED"
    )
    refused(await till.admin("PUT", "/flags/payment_retries", json=body | {"why": "x"}), 422, "VALIDATION_FAILED")


async def test_the_export_has_all_that_an_auditor_joins(till: Till) -> None:
    """Stripe's id, sums, refunds and the age: enough to compare with Stripe and with the bookings."""
    payment = await till.captured()
    await till.refund(payment, 1000)
    (row,) = answered(await till.admin("GET", "/audit-export"))["data"]
    assert (row["id"], row["reservation_id"]) == (str(payment.id), str(payment.reservation_id))
    assert (row["amount"], row["captured"], row["refunded"], row["status"]) == (4500, 4500, 1000, "partially_refunded")
    assert row["stripe_payment_intent_id"].startswith("pi_")
    assert [(refund["amount"], refund["status"]) for refund in row["refunds"]] == [(1000, "succeeded")]
    assert 0 <= row["unchanged_s"] < 60


async def test_a_living_till_violates_nothing(till: Till) -> None:
    """After a bit of everything, every check is there and finds nothing."""
    payment = await till.captured()
    await till.refund(payment, 1000)
    await till.cancel(await till.created())
    await till.cancel(till.order())
    await till.deliver_all()
    await till.process()
    await till.tell_news()
    audit = answered(await till.admin("GET", "/invariants"))
    assert audit["ok"] is True
    assert {check["id"] for check in audit["checks"]} == PLANTED.keys()
    assert {check["violations"] for check in audit["checks"]} == {0}


PLANTED: dict[str, tuple[str, ...]] = {
    "payment-amounts": (
        "ALTER TABLE payments DROP CONSTRAINT payments_captured",
        "UPDATE payments SET captured = amount + 1, posted_version = 0",
    ),
    "one-live-payment": (
        """INSERT INTO payments (id, reservation_id, generation, status, amount, currency, capture_method)
           SELECT gen_random_uuid(), reservation_id, 2, 'none', 1, 'EUR', 'manual' FROM payments""",
    ),
    "refund-sums": (
        """INSERT INTO refunds (id, payment_id, amount, reason, status)
           SELECT gen_random_uuid(), id, 4501, 'x', 'requested' FROM payments""",
        "UPDATE payments SET posted_version = 0",
    ),
    "ledger-sums-to-zero": (
        """INSERT INTO ledger_entries (transaction_id, payment_id, posting, cause, account, amount, currency)
           SELECT gen_random_uuid(), id, 'captured', 'x', 'guest', 1, 'EUR' FROM payments""",
    ),
    "ledger-balances": ("DELETE FROM ledger_entries WHERE posting = 'captured'",),
    "ledger-not-behind": (
        "UPDATE payments SET posted_version = 0, updated_at = clock_timestamp() - interval '1 hour'",
    ),
    "history-is-kept": ("ALTER TABLE ledger_entries DISABLE TRIGGER ledger_entries_append_only",),
    "legal-moves": ("UPDATE outbox SET status = 'canceled' WHERE version = 2",),
    "told-versions": ("DELETE FROM outbox WHERE version = 1",),
    "one-news-per-state": ("UPDATE outbox SET event = '{}'",),
    "news-not-stuck": ("UPDATE outbox SET due_at = clock_timestamp() - interval '1 hour'",),
    "one-row-per-event": (
        "ALTER TABLE webhook_events DROP CONSTRAINT webhook_events_stripe_event",
        "UPDATE webhook_events SET stripe_event_id = 'evt_same'",
    ),
    "events-not-lost": ("UPDATE webhook_events SET status = 'dead', due_at = NULL, reason = NULL",),
    "one-row-per-object": (
        "ALTER TABLE refunds DROP CONSTRAINT refunds_stripe_refund",
        """INSERT INTO refunds (id, payment_id, amount, reason, status, stripe_refund_id)
           SELECT gen_random_uuid(), id, 1, 'x', 'failed', 're_same' FROM payments, generate_series(1, 2)""",
    ),
    "leases-end": ("UPDATE webhook_events SET lease_until = clock_timestamp() + interval '1 day'",),
    "events-not-stuck": ("UPDATE webhook_events SET due_at = clock_timestamp() - interval '1 hour'",),
    "no-contradiction": ("UPDATE payments SET trouble = 'amount_mismatch'",),
}


@pytest.mark.plants_violations
@pytest.mark.parametrize("name", PLANTED)
async def test_the_audit_finds_a_planted_violation(
    payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """I4, I7, I8, I12, I13, I15, I16: each check is shown what it is there to find, and it alone says so."""
    async with open_till(payment_database_url, tmp_path, monkeypatch) as till:
        await till.captured()
        await till.deliver_all("payment_intent.created", "payment_intent.succeeded")
        await till.forge(*PLANTED[name])
        audit: dict[str, Any] = answered(await till.admin("GET", "/invariants"))
    assert audit["ok"] is False
    (check,) = [check for check in audit["checks"] if check["violations"]]
    assert check["id"] == name
    assert check["examples"]


def test_every_check_has_its_violation() -> None:
    """A check that was never seen to find anything may as well be a `SELECT` of nothing."""
    assert PLANTED.keys() == {invariant.id for invariant in INVARIANTS}


async def test_the_service_checks_itself(till: Till) -> None:
    """I8: the background check shows one number per invariant on the scrape page, and when it was made."""
    payment = await till.captured()
    await till.run("check_invariants")
    page = (await till.http.get("/metrics")).text
    assert all(f'invariant_violations{{id="{invariant.id}"}} 0.0' in page for invariant in INVARIANTS)
    await till.sql("UPDATE payments SET trouble = 'amount_mismatch' WHERE id = :id", id=payment.id)
    await till.run("check_invariants")
    page = (await till.http.get("/metrics")).text
    assert 'invariant_violations{id="no-contradiction"} 1.0' in page
    await till.sql("UPDATE payments SET trouble = NULL WHERE id = :id", id=payment.id)


async def test_what_an_alert_counts_begins_at_nothing(till: Till) -> None:
    """A line that appears with its first event has no increase: each operation and outcome, and what comes to the door."""
    page = (await till.http.get("/metrics")).text
    for route in payments.router.routes:
        if isinstance(route, APIRoute) and "POST" in route.methods:
            for outcome in Outcome:
                line = f'payment_operations_total{{operation="{route.name}",outcome="{outcome}"}} 0.0'
                assert line in page, line
    for result in ("stored", "duplicate", "bad_signature", "malformed"):
        assert f'payment_webhooks_received_total{{result="{result}"}} 0.0' in page


async def test_a_comparison_that_was_never_made_looks_old(till: Till) -> None:
    """Not as good as one just made: it is as old as the process, which an alert sees in the end."""
    ages = []
    for _ in range(2):
        await till.run("count_backlogs")
        lines = (await till.http.get("/metrics")).text.splitlines()
        ages.append([float(line.split()[-1]) for line in lines if line.startswith("payment_reconciliation_age")])
    assert len(ages[0]) == len(Pass)
    assert all(0 < earlier < later for earlier, later in zip(*ages, strict=True)), ages


async def test_backlogs_are_counted(till: Till) -> None:
    """What waits and what is dead shows on the scrape page."""
    await till.created()
    await till.deliver_all("payment_intent.created")
    await till.run("count_backlogs")
    page = (await till.http.get("/metrics")).text
    assert "payment_webhooks_waiting 1.0" in page
    assert "payment_news_waiting 1.0" in page
    assert "payment_webhooks_dead 0.0" in page
