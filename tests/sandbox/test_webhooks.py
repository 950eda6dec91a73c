"""Webhooks: signed, delivered until a 2xx, over restarts too, and steerable where a test needs it."""

import asyncio
import itertools
import time

import pytest
import stripe

from tests.sandbox.conftest import Start
from tests.sandbox.receiver import WebhookReceiver
from tests.sandbox.running import eventually


async def test_a_refused_delivery_comes_again_with_backoff(start: Start, receiver: WebhookReceiver) -> None:
    """500, then 404, then a redirect are all no 2xx: the same event arrives a fourth time, each wait longer."""
    receiver.statuses = [500, 404, 302]
    sandbox = await start(receiver.url)
    intent = await sandbox.intent()
    await receiver.until(lambda: len(receiver.deliveries) == 4)
    assert {event.id for event in receiver.deliveries} == {receiver.deliveries[0].id}
    waits = [later - earlier for earlier, later in itertools.pairwise(receiver.arrived_at)]
    assert 0.15 < waits[0] < waits[1] < waits[2] < 3
    assert receiver.errors == []
    assert receiver.deliveries[0].data.object.id == intent.id

    async def taken() -> bool:
        event = await sandbox.v1.events.retrieve_async(receiver.deliveries[0].id)
        return bool(event.pending_webhooks == 0)

    await eventually(taken)


async def test_kill_and_restart_goes_on_delivering(start: Start, receiver: WebhookReceiver) -> None:
    """What was answered before `kill -9` is still there, and its webhooks still arrive."""
    receiver.statuses = [500] * 8
    sandbox = await start(receiver.url)
    intent = await sandbox.authorised(metadata={"reservation_id": "r7"})
    sandbox.kill()
    arrived = len(receiver.deliveries)
    receiver.statuses = []
    await sandbox.start()
    await receiver.until(lambda: set(receiver.about(intent.id)[arrived:]) >= set(AUTHORISED))
    again = await sandbox.v1.payment_intents.retrieve_async(intent.id)
    assert (again.status, again.metadata["reservation_id"]) == ("requires_capture", "r7")


AUTHORISED = ("payment_intent.created", "charge.succeeded", "payment_intent.amount_capturable_updated")


async def test_a_receiver_that_is_away_gets_everything_later(start: Start, receiver: WebhookReceiver) -> None:
    """Nobody listens at first; the events wait and arrive once somebody does."""
    sandbox = await start("http://127.0.0.1:9/nobody")
    await sandbox.intent()

    async def tried() -> bool:
        (delivery,) = (await sandbox.look("deliveries"))["deliveries"]
        assert (delivery["state"], delivery["last_status"]) == ("pending", None)
        return bool(delivery["attempts"] >= 1 and delivery["last_error"])

    await eventually(tried)
    sandbox.kill()
    sandbox.environment["SANDBOX_WEBHOOK_URL"] = receiver.url
    await sandbox.start()
    await receiver.until(lambda: len(receiver.deliveries) == 1)


async def test_each_attempt_is_signed_at_its_own_time(start: Start, receiver: WebhookReceiver) -> None:
    """The sandbox's clock may be days ahead: signatures live on the machine's clock, or no receiver would take them."""
    sandbox = await start(receiver.url)
    await sandbox.steer("clock", {"advance_s": 3 * 24 * 3600})
    await sandbox.intent()
    await receiver.until(lambda: len(receiver.deliveries) == 1)
    assert receiver.errors == []
    assert receiver.deliveries[0].created > time.time() + 2 * 24 * 3600


async def test_held_webhooks_are_released_in_the_order_asked_for(start: Start, receiver: WebhookReceiver) -> None:
    """While held nothing arrives; released in reverse, the last event arrives first."""
    sandbox = await start(receiver.url)
    await sandbox.steer("webhooks", {"hold": True})
    intent = await sandbox.authorised()
    await asyncio.sleep(0.2)
    assert receiver.deliveries == []
    assert (await sandbox.steer("webhooks", {"release": "reversed"})) == {"deliveries": 3}
    await receiver.until(lambda: len(receiver.deliveries) == 3)
    assert receiver.about(intent.id) == (await sandbox.events(intent.id))[::-1]


async def test_an_event_can_be_delivered_again(start: Start, receiver: WebhookReceiver) -> None:
    """The button of Stripe's dashboard: a delivered event, three more times."""
    sandbox = await start(receiver.url)
    await sandbox.intent()
    await receiver.until(lambda: len(receiver.deliveries) == 1)
    assert (await sandbox.steer("webhooks", {"redeliver": receiver.deliveries[0].id, "copies": 3})) == {"deliveries": 3}
    await receiver.until(lambda: len(receiver.deliveries) == 4)
    assert len({event.id for event in receiver.deliveries}) == 1


async def test_an_endpoint_made_by_the_api_has_its_own_secret(start: Start) -> None:
    """Created over the API, it gets only the events it asked for, signed with the secret of its creation, until it is deleted."""
    sandbox = await start()
    async with WebhookReceiver() as receiver:
        endpoint = await sandbox.v1.webhook_endpoints.create_async(
            {"url": receiver.url, "enabled_events": ["payment_intent.canceled"]}
        )
        receiver.secret = endpoint.secret
        assert "secret" not in (await sandbox.v1.webhook_endpoints.retrieve_async(endpoint.id)).to_dict()
        intent = await sandbox.intent()
        await sandbox.v1.payment_intents.cancel_async(intent.id)
        await receiver.until(lambda: receiver.about(intent.id) == ["payment_intent.canceled"])
        await sandbox.v1.webhook_endpoints.update_async(endpoint.id, {"disabled": True})
        await sandbox.v1.payment_intents.cancel_async((await sandbox.intent()).id)
        assert (await sandbox.v1.webhook_endpoints.delete_async(endpoint.id)).deleted
        assert (await sandbox.v1.webhook_endpoints.list_async()).data == []
        await asyncio.sleep(0.1)
        assert receiver.errors == []
        assert len(receiver.deliveries) == 1


class TestListing:
    """GET /v1/events, which reconciliation lives on."""

    async def test_pages_forward_and_backward(self, start: Start) -> None:
        """Following `starting_after` sees each event once, newest first; `ending_before` goes the other way."""
        sandbox = await start()
        for _ in range(7):
            await sandbox.intent()
        everything = [event.id for event in (await sandbox.v1.events.list_async({"limit": 100})).data]
        walked = [event.id async for event in (await sandbox.v1.events.list_async({"limit": 3})).auto_paging_iter()]
        assert walked == everything
        assert len(walked) == 7
        page = await sandbox.v1.events.list_async({"limit": 2, "ending_before": everything[5]})
        assert [event.id for event in page.data] == everything[3:5]
        assert page.has_more is True

    async def test_filters_by_type_time_and_delivery(self, start: Start) -> None:
        """By exact types, by a family, by creation time, and by whether everybody has taken it."""
        sandbox = await start("http://127.0.0.1:9/nobody")
        await sandbox.v1.payment_intents.cancel_async((await sandbox.authorised()).id)

        async def found(**params: object) -> list[str]:
            return [event.type for event in (await sandbox.v1.events.list_async(params)).data]

        everything = await found()
        assert await found(types=["charge.succeeded", "payment_intent.created"]) == [
            "charge.succeeded",
            "payment_intent.created",
        ]
        assert await found(type="charge.*") == [kind for kind in everything if kind.startswith("charge.")]
        assert await found(created={"lt": 1000}) == []
        assert await found(created={"gte": int(time.time()) - 60}) == everything
        assert await found(delivery_success=False) == everything
        assert await found(delivery_success=True) == []

    async def test_forgets_after_thirty_days(self, start: Start) -> None:
        """Like Stripe: a reconciler that slept for a month finds nothing in the list."""
        sandbox = await start()
        await sandbox.intent()
        (event,) = (await sandbox.v1.events.list_async()).data
        await sandbox.steer("clock", {"advance_s": 30 * 24 * 3600 + 10})
        assert (await sandbox.v1.events.list_async()).data == []
        with pytest.raises(stripe.InvalidRequestError):
            await sandbox.v1.events.retrieve_async(event.id)

    async def test_an_event_names_its_request(self, start: Start) -> None:
        """`request` carries the request's id and Idempotency-Key; what time did has neither."""
        sandbox = await start()
        intent = await sandbox.v1.payment_intents.create_async(
            {"amount": 100, "currency": "eur", "allowed_payment_method_types": ["card"]}, {"idempotency_key": "named"}
        )
        (event,) = (await sandbox.v1.events.list_async()).data
        assert event.data.object.id == intent.id
        assert (event.request.id, event.request.idempotency_key) == (sandbox_request_id(intent), "named")


def sandbox_request_id(answered: stripe.StripeObject) -> str:
    """Return the `Request-Id` of the answer that an SDK object came with."""
    response = answered.last_response
    assert response is not None
    return str(response.request_id)


async def test_sigterm_stops_at_once_and_cleanly(start: Start, receiver: WebhookReceiver) -> None:
    """Exit code 0 within seconds, with a hanging call and an undelivered webhook around; the state stays good."""
    sandbox = await start("http://127.0.0.1:9/nobody")
    intent = await sandbox.intent()
    await sandbox.fault(operation="*", action="delay_before", delay_ms=60_000, count=1)
    hanging = asyncio.create_task(sandbox.http.get("/v1/payment_intents", headers={"Authorization": "Bearer x"}))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    assert await asyncio.to_thread(sandbox.terminate) == 0
    assert time.monotonic() - began < 5
    assert (await hanging).status_code == 500
    await sandbox.start()
    assert (await sandbox.v1.payment_intents.retrieve_async(intent.id)).id == intent.id
