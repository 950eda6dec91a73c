"""Stripe's door over HTTP: verified, stored once, committed, and only then acknowledged."""

import asyncio
from time import time
from typing import Any

import pytest

from payment_service.flags import WEBHOOK_INBOX
from shared.flags import Override
from shared.payment_contract import PaymentStatus
from tests.answers import answered, refused
from tests.payment.line_to_stripe import never_connects
from tests.payment.till import WEBHOOK_SECRETS, Till, intent_id
from tests.scenarios import fired


def an_event(event_id: str = "evt_1", kind: str = "customer.created", **members: Any) -> dict[str, Any]:
    return {"id": event_id, "object": "event", "type": kind, "livemode": False, "data": {"object": {}}} | members


async def turn_inbox_off(till: Till) -> None:
    await till.parts.flags.set(till.parts.database, WEBHOOK_INBOX, Override(enabled=False), by="olga", reason="test")


async def test_an_event_is_stored_once(till: Till) -> None:
    """W01, I12: fifty deliveries at once are one row, all of them acknowledged, one of them as the first."""
    answers = await asyncio.gather(*(till.deliver(an_event()) for _ in range(50)))
    assert sorted(answered(answer)["duplicate"] for answer in answers) == [False] + [True] * 49
    (row,) = await till.event_rows()
    assert (row["stripe_event_id"], row["deliveries"], row["status"]) == ("evt_1", 50, "received")
    fired("W01", row["deliveries"] - 1)


@pytest.mark.parametrize("secret", WEBHOOK_SECRETS)
async def test_both_secrets_are_good_while_one_is_rotated(till: Till, secret: str) -> None:
    """W11: the old and the new endpoint secret overlap."""
    answered(await till.deliver(an_event(), secret=secret))


async def test_a_bad_signature_stores_nothing(till: Till) -> None:
    """W07, W09: wrong secret, old time, no header: 400 with the code, and no row."""
    for answer in (
        await till.deliver(an_event(), secret="whsec_guessed"),
        await till.deliver(an_event(), at_s=time() - 3600),
        await till.http.post("/webhooks/stripe", json=an_event()),
    ):
        refused(answer, 400, "WEBHOOK_SIGNATURE_INVALID")
    assert await till.event_rows() == []


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[1]", b'{"object": "event"}', b"[" * 200_000, b"{"])
async def test_a_signed_body_that_is_no_event_is_400(till: Till, body: bytes) -> None:
    """W10: never 500, whatever is inside the signature."""
    refused(await till.deliver(body), 400, "MALFORMED_JSON")


async def test_a_body_that_is_too_large_is_413(till: Till) -> None:
    """The webhook door takes a mebibyte, the others 64 KiB."""
    answered(await till.deliver(an_event(padding="x" * 900_000)))
    refused(await till.deliver(b"x" * (1024 * 1024 + 1)), 413, "PAYLOAD_TOO_LARGE")
    refused(await till.post("/internal/v1/payments", b"x" * 70_000, key="k"), 413, "PAYLOAD_TOO_LARGE")


async def test_nothing_of_the_guest_is_stored(till: Till) -> None:
    """I25: an event is a hint; names, addresses and secrets inside it are not kept anywhere."""
    subject = {"object": "payment_intent", "id": "pi_1", "client_secret": "pi_1_secret_canary", "receipt_email": "a@b"}
    answered(await till.deliver(an_event(kind="payment_intent.succeeded", data={"object": subject})))
    (row,) = await till.sql("SELECT webhook_events::text AS whole FROM webhook_events")
    assert "pi_1" in row["whole"]
    assert "canary" not in row["whole"]
    assert "a@b" not in row["whole"]


async def test_events_that_concern_nobody_are_ignored_with_a_reason(till: Till) -> None:
    """W06, W15, W16, peers B2.33: other types, thin events, the other mode, charges without an intent."""
    answered(await till.deliver(an_event("evt_type")))
    answered(await till.deliver({"id": "evt_thin", "object": "v2.core.event", "type": "v1.billing.meter.error"}))
    live = an_event("evt_live", "payment_intent.succeeded", livemode=True)
    answered(await till.deliver(live))
    charge = {"object": "charge", "id": "ch_1", "payment_intent": None}
    answered(await till.deliver(an_event("evt_charge", "charge.refunded", data={"object": charge})))
    await till.process()
    reasons = {row["stripe_event_id"]: (row["status"], row["reason"]) for row in await till.event_rows()}
    assert reasons == {
        "evt_type": ("ignored", "unhandled-type"),
        "evt_thin": ("ignored", "unhandled-type"),
        "evt_live": ("ignored", "livemode-mismatch"),
        "evt_charge": ("ignored", "foreign"),
    }
    assert till.line.calls == []


async def test_without_the_inbox_the_effect_comes_before_the_answer(till: Till) -> None:
    """`webhook_inbox` off: stored, processed and only then acknowledged; a second delivery finds it done."""
    await turn_inbox_off(till)
    payment = await till.created()
    await till.pay(payment)
    (event,) = await till.stripe_events("payment_intent.amount_capturable_updated")
    assert answered(await till.deliver(event)) == {"received": True, "duplicate": False}
    (row,) = await till.event_rows()
    assert row["status"] == "processed"
    assert answered(await till.deliver(event)) == {"received": True, "duplicate": True}


async def test_without_the_inbox_a_failure_is_503_and_the_redelivery_works(till: Till) -> None:
    """Peers B2.20: Stripe cannot be asked: 503, the event stays stored, and its next delivery is processed."""
    await turn_inbox_off(till)
    payment = await till.created()
    await till.pay(payment)
    (event,) = await till.stripe_events("payment_intent.amount_capturable_updated")
    till.line.meets(never_connects)
    refused(await till.deliver(event), 503, "SERVICE_UNAVAILABLE")
    assert answered(await till.deliver(event)) == {"received": True, "duplicate": True}
    (row,) = await till.event_rows()
    assert (row["status"], row["deliveries"]) == ("processed", 2)


async def test_what_was_acknowledged_before_is_not_forgotten_when_the_inbox_is_turned_off(till: Till) -> None:
    """I13: an event that waits has been acknowledged, so Stripe will not send it again: the job still takes it."""
    payment = await till.created()
    assert intent_id(payment)
    await till.deliver_all("payment_intent.created")
    await turn_inbox_off(till)
    assert await till.process() == 1
    (row,) = await till.event_rows()
    assert row["status"] == "processed"


# The same authorisation as two releases of Stripe's API show it; neither is the one that our SDK speaks.
OLD_SHAPE = {"charges": {"object": "list", "data": [{"id": "ch_1", "paid": True}]}, "amount": "4500", "source": None}
NEW_SHAPE = {"latest_charge": {"id": "ch_1"}, "amount": {"value": 4500}, "status": {"code": "a_status_of_the_future"}}


@pytest.mark.parametrize(
    ("version", "shape"), [("2015-10-16", OLD_SHAPE), ("2031-01-01.future", NEW_SHAPE)], ids=["old", "new"]
)
async def test_the_version_of_an_event_does_not_matter(till: Till, version: str, shape: dict[str, Any]) -> None:
    """W15, peers B2.34: an endpoint speaks an older or a newer API than we do: only the id is read, and then looked up."""
    payment = await till.created()
    await till.pay(payment)
    subject = {"object": "payment_intent", "id": intent_id(payment)} | shape
    kind = "payment_intent.amount_capturable_updated"
    event = an_event(f"evt_{version[:4]}", kind, api_version=version, data={"object": subject})
    answered(await till.deliver(event))
    await till.process()
    assert [(row["status"], row["reason"]) for row in await till.event_rows()] == [("processed", None)]
    assert (await till.seen(payment.id)).status is PaymentStatus.AUTHORIZED
