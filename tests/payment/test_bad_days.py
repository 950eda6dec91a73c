"""Stripe's bad days as payment_service lives through them: cut off and healed, busy, contradicting, or saying too much."""

import asyncio
import gzip
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from payment_service.flags import CIRCUIT_BREAKER
from shared.flags import Override
from shared.payment_contract import Outcome, PaymentStatus
from tests.answers import answered, refused
from tests.figures import tell
from tests.payment.line_to_stripe import Meeting, loses_the_answer, never_connects, passes, says
from tests.payment.till import Till, open_till, view
from tests.scenarios import fired

MIN_CALLS, REST_S = 4, 1.0


@pytest.fixture
async def nervous(till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Till]:
    """A till whose breakers open after four calls and rest for a second."""
    quick = {"breaker_min_calls": MIN_CALLS, "breaker_rest_s": REST_S, "breaker_ramp_s": 0.001}
    async with open_till(till_database_url, tmp_path, monkeypatch, **quick) as till:
        await till.sweep()
        yield till
        assert await till.violated() == {}


@pytest.fixture
async def patient(till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Till]:
    """A till that tries three times, with hardly a wait, and gives an attempt 0.3 s."""
    often = {"retry_max_attempts": 3, "retry_first_wait_s": 0.01, "retry_max_wait_s": 0.02, "stripe_timeout_s": 0.3}
    async with open_till(till_database_url, tmp_path, monkeypatch, **often) as till:
        await till.sweep()
        yield till
        assert await till.violated() == {}


async def cut_off(till: Till) -> None:
    """Let creates fail until the breaker of interactive writes is open, in every process."""
    for _ in range(3 * MIN_CALLS):
        till.line.meets(never_connects)
        await till.client.create(till.order())
        if (await breaker(till))["state"] == "open":
            break
    assert not till.line.script, "it opens with the last call that was made"
    await till.run("share_breakers")


async def breaker(till: Till, name: str = "interactive") -> dict[str, Any]:
    shown = answered(await till.admin("GET", "/breaker", roles=["viewer"]))["data"]
    return next(one for one in shown if one["name"] == name)


async def test_while_it_is_cut_off_a_create_is_answered_at_once(nervous: Till) -> None:
    """S17: NOT_SENT with an honest wait, no call to Stripe, in a few milliseconds; then the same call goes through."""
    await cut_off(nervous)
    order, asked = nervous.order(), len(nervous.line.calls)
    began = time.perf_counter()
    answer = await nervous.client.create(order)
    took_ms = (time.perf_counter() - began) * 1000
    assert answer.outcome is Outcome.NOT_SENT
    assert answer.error is not None
    assert answer.error.code == "breaker_open"
    assert answer.error.retry_after_ms is not None
    assert 0 < answer.error.retry_after_ms <= 1000 * REST_S + 10
    assert len(nervous.line.calls) == asked
    assert took_ms < 1000, "the goal is 50 ms; a shared machine gets more"
    tell(f"an open breaker answered a create in {took_ms:.0f} ms, without a call to Stripe")
    fired("S17", MIN_CALLS)

    await asyncio.sleep(REST_S)
    assert (await nervous.client.create(order)).outcome is Outcome.OK
    assert len(await nervous.intents_of(order.reservation_id)) == 1


async def test_reads_refunds_and_webhooks_go_on(nervous: Till) -> None:
    """S17: only what guests wait for is cut off; money goes back, news comes in, and payments can be looked at."""
    captured, waiting = await nervous.captured(), await nervous.created()
    await nervous.admin("POST", "/breaker/interactive", json={"action": "open", "reason": "drill"})
    assert (await nervous.client.create(nervous.order())).outcome is Outcome.NOT_SENT

    assert (await nervous.refund(captured, 1000)).outcome is Outcome.OK
    await nervous.pay(waiting)
    assert (await nervous.seen(waiting.id)).status is PaymentStatus.AUTHORIZED
    await nervous.deliver_all()
    while await nervous.process():
        pass
    assert {row["status"] for row in await nervous.event_rows()} == {"processed", "ignored"}
    assert (await breaker(nervous, "background"))["state"] == "closed"
    assert (await nervous.client.capture(waiting.id)).outcome is Outcome.NOT_SENT


async def test_events_wait_while_theirs_is_open(nervous: Till) -> None:
    """S20: with the background breaker open an event is put back for as long as the rest takes, and Stripe is left alone."""
    await nervous.created()
    await nervous.deliver_all()
    await nervous.admin("POST", "/breaker/background", json={"action": "open", "reason": "drill"})
    asked = len(nervous.line.calls)
    await nervous.process()
    (row,) = await nervous.event_rows()
    assert (row["status"], row["reason"], row["last_error"]) == ("received", "provider-away", "breaker_open")
    assert len(nervous.line.calls) == asked
    assert (await nervous.client.create(nervous.order())).outcome is Outcome.OK, "guests are not affected"

    await nervous.admin("POST", "/breaker/background", json={"action": "close", "reason": "drill is over"})
    await nervous.make_all_due()
    await nervous.process()
    assert [row["status"] for row in await nervous.event_rows()] == ["processed"]


async def test_it_trips_on_calls_that_had_their_effect(nervous: Till) -> None:
    """S18, L3: Stripe does it, the answers get lost, the breaker opens: each is UNKNOWN, and each has one intent."""
    nervous.line.meets(*[loses_the_answer] * MIN_CALLS)
    orders = [nervous.order() for _ in range(MIN_CALLS)]
    answers = await asyncio.gather(*(nervous.client.create(order) for order in orders))
    assert (await breaker(nervous))["state"] == "open"
    assert {answer.outcome for answer in answers} == {Outcome.UNKNOWN}
    again = [await nervous.client.create(order) for order in orders]
    assert {answer.outcome for answer in again} == {Outcome.UNKNOWN}, "a refusal does not undo what may have happened"

    await nervous.run("share_breakers")
    await asyncio.sleep(REST_S)
    for order in orders:
        assert (await nervous.client.create(order)).outcome is Outcome.OK
        assert len(await nervous.intents_of(order.reservation_id)) == 1
    fired("S18", MIN_CALLS)


async def test_declines_do_not_open_it(nervous: Till) -> None:
    """S11, S16: Stripe's no is an answer, whether to an amount, to a card or to our key."""
    nervous.line.meets(*[says(401, {"error": {"type": "invalid_request_error"}})] * 3)
    for amount in (1, 1, 1, 4500, 4500, 4500):
        await nervous.client.create(nervous.order(amount=amount))
    assert (await breaker(nervous))["state"] == "closed"
    assert (await breaker(nervous))["failures"] == 0


async def test_the_flag_takes_it_out(nervous: Till) -> None:
    """`circuit_breaker` off, in the middle of an outage: every call is made again."""
    await cut_off(nervous)
    parts = nervous.parts
    await parts.flags.set(parts.database, CIRCUIT_BREAKER, Override(enabled=False), by="t", reason="t")
    assert (await nervous.client.create(nervous.order())).outcome is Outcome.OK
    assert (await breaker(nervous))["state"] == "closed"


async def test_operators_see_and_turn_it(nervous: Till) -> None:
    """State, counts, since when and why; open and close hold, auto lets go; a viewer only looks, a typo is refused."""
    await cut_off(nervous)
    seen = await breaker(nervous)
    assert (seen["state"], seen["calls"], seen["failures"], seen["forced"]) == ("open", MIN_CALLS, MIN_CALLS, None)
    assert seen["reason"] == "4 of 4 calls failed, the last one: provider_unreachable"
    assert 0 <= seen["retry_after_ms"] <= REST_S * 1000

    held = answered(
        await nervous.admin(
            "POST", "/breaker/interactive", json={"action": "close", "reason": "Stripe says it is well"}
        )
    )
    assert (held["state"], held["forced"], held["forced_by"]) == ("closed", "closed", "olga")
    assert held["reason"] == "Stripe says it is well"
    assert (await nervous.client.create(nervous.order())).outcome is Outcome.OK
    page = (await nervous.http.get("/metrics")).text
    assert 'payment_breaker_state{breaker="interactive"} 0.0' in page
    assert 'payment_breaker_changes_total{breaker="interactive",to="open"} 1.0' in page

    answered(await nervous.admin("POST", "/breaker/interactive", json={"action": "open", "reason": "drill"}))
    assert (await nervous.client.create(nervous.order())).outcome is Outcome.NOT_SENT
    page = (await nervous.http.get("/metrics")).text
    assert 'payment_breaker_state{breaker="interactive"} 2.0' in page
    assert 'payment_breaker_refusals_total{breaker="interactive"} 1.0' in page
    answered(await nervous.admin("POST", "/breaker/interactive", json={"action": "auto", "reason": "drill is over"}))
    assert (await breaker(nervous))["forced"] is None


async def test_who_may_turn_it(till: Till) -> None:
    """Operators only; an unknown breaker, an unknown verb and a missing reason are refused."""
    body = {"action": "open", "reason": "drill"}
    refused(await till.admin("POST", "/breaker/interactive", roles=["viewer"], json=body), 403, "FORBIDDEN")
    refused(await till.admin("POST", "/breaker/all", json=body), 404, "BREAKER_NOT_FOUND")
    for wrong in ({"action": "explode", "reason": "x"}, {"action": "open"}, body | {"for_s": 3}):
        refused(await till.admin("POST", "/breaker/interactive", json=wrong), 422, "VALIDATION_FAILED")


async def test_too_many_calls_are_waited_for(patient: Till) -> None:
    """S08: 429 twice, then it goes through, in the same call; the breaker has nothing to say about it."""
    busy = says(429, {"error": {"type": "invalid_request_error"}}, retry_after="0")
    patient.line.meets(busy, busy)
    assert (await patient.client.create(patient.order())).outcome is Outcome.OK
    assert (await breaker(patient))["failures"] == 0
    fired("S08", len(patient.line.calls) - 1)


async def test_an_attempt_that_takes_too_long_is_unknown_and_found(patient: Till) -> None:
    """S05: each attempt is given up, each had its effect late; the same call finds the one intent."""
    late: list[asyncio.Task[httpx.Response]] = []

    async def is_late(request: httpx.Request, sandbox: httpx.AsyncBaseTransport) -> httpx.Response:
        late.append(asyncio.create_task(passes(request, sandbox)))
        await asyncio.sleep(30)
        return await late[-1]

    order = patient.order()
    patient.line.meets(*[is_late] * 3)
    assert (await patient.client.create(order)).outcome is Outcome.UNKNOWN
    await asyncio.gather(*late)
    assert (await patient.client.create(order)).outcome is Outcome.OK
    assert len(await patient.intents_of(order.reservation_id)) == 1
    fired("S05", len(late))


async def test_a_failure_without_effect_is_repeated(patient: Till) -> None:
    """S07: 500 and nothing done, twice; the third attempt of the same call does it, under the same key."""
    order = patient.order()
    patient.line.meets(says(500), says(500))
    assert (await patient.client.create(order)).outcome is Outcome.OK
    assert len(await patient.intents_of(order.reservation_id)) == 1
    assert len(set(patient.line.keys("/v1/payment_intents"))) == 1
    fired("S07", len(patient.line.calls) - 1)


async def test_advice_not_to_repeat_is_followed(patient: Till) -> None:
    """S09: `Stripe-Should-Retry: false` ends the call at once; what it did is found out by the next one."""
    order = patient.order()
    for status in (500, 409):
        asked = len(patient.line.calls)
        patient.line.meets(says(status, stripe_should_retry="false"))
        assert (await patient.client.create(order)).outcome is Outcome.UNKNOWN
        assert len(patient.line.calls) == asked + 1
    assert (await patient.client.create(order)).outcome is Outcome.OK
    assert len(await patient.intents_of(order.reservation_id)) == 1
    fired("S09", 2)


async def test_advice_to_repeat_is_followed(patient: Till) -> None:
    """S10: a lock of Stripe's own is a 400 with `Stripe-Should-Retry: true`: the same call goes through."""
    payment = await patient.authorized()
    lock = {"error": {"type": "invalid_request_error", "code": "lock_timeout"}}
    patient.line.meets(says(400, lock, stripe_should_retry="true"))
    asked = len(patient.line.calls)
    assert (await patient.client.capture(payment.id)).outcome is Outcome.OK
    assert len(patient.line.keys("/capture")) == 2
    fired("S10", len(patient.line.calls) - asked - 1)


async def test_a_key_that_is_refused_fails_fast(patient: Till) -> None:
    """S16: one call, NOT_SENT, and a word for the operator; the guest keeps the seats until their time is over."""
    patient.line.meets(says(401, {"error": {"type": "invalid_request_error"}}))
    answer = await patient.client.create(patient.order())
    assert answer.outcome is Outcome.NOT_SENT
    assert answer.error is not None
    assert answer.error.code == "provider_misconfigured"
    assert len(patient.line.calls) == 1
    fired("S16", 1)


async def test_a_key_in_use_is_waited_for(patient: Till) -> None:
    """S25, peers B3.46: another worker is on the same step; the loser asks again under the same key and gets the winner's answer."""
    order = patient.order()
    in_use = says(409, {"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}})
    patient.line.meets(in_use, in_use)
    assert (await patient.client.create(order)).outcome is Outcome.OK
    assert len(await patient.intents_of(order.reservation_id)) == 1
    assert (await breaker(patient))["failures"] == 0, "a race with ourselves is no illness of Stripe's"
    fired("S25", 2)


def says_packed(size: int) -> Meeting:
    """Answer so many bytes, that travel as a thousandth of them."""
    bomb = gzip.compress(b" " * size, 1)

    async def meet(_request: httpx.Request, _sandbox: httpx.AsyncBaseTransport) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(bomb), headers={"content-encoding": "gzip"})

    return meet


@pytest.mark.parametrize("kind", ["html", "long", "packed"])
async def test_an_answer_that_says_too_much(till: Till, kind: str) -> None:
    """X17: a page, ten megabytes, or a packed hundred: UNKNOWN, the service lives on, and memory stays bounded."""
    bodies = {
        "html": says(200, b"<html>it works</html>"),
        "long": says(200, b" " * 10 * 1024 * 1024),
        "packed": says_packed(100 * 1024 * 1024),
    }
    order = till.order()
    till.line.meets(bodies[kind])
    tracemalloc.start()
    try:
        answer = await till.client.create(order)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.outcome is Outcome.UNKNOWN
    assert peak < 16 * 1024 * 1024
    assert view(await till.client.create(order)).status is PaymentStatus.REQUIRES_PAYMENT
    fired("X17", 1)
