"""Refunds: whole, in parts, late and failing; never more than was captured."""

import pytest
import stripe

from tests.sandbox.conftest import Start
from tests.sandbox.running import RunningSandbox


async def test_a_refund_gives_everything_back(sandbox: RunningSandbox) -> None:
    """Without an amount the whole capture goes back, once."""
    intent = await sandbox.paid()
    refund = await sandbox.v1.refunds.create_async(
        {"payment_intent": intent.id, "reason": "requested_by_customer", "metadata": {"b": "1"}}
    )
    assert (refund.status, refund.amount, refund.payment_intent, refund.metadata["b"]) == (
        "succeeded",
        2000,
        intent.id,
        "1",
    )
    charge = await sandbox.v1.charges.retrieve_async(intent.latest_charge)
    assert (charge.refunded, charge.amount_refunded) == (True, 2000)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await sandbox.v1.refunds.create_async({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"
    assert (await sandbox.events(intent.id))[-2:] == ["refund.created", "charge.refunded"]
    assert (await sandbox.v1.refunds.retrieve_async(refund.id)).id == refund.id


async def test_parts_add_up_to_the_capture_and_no_further(sandbox: RunningSandbox) -> None:
    """After a partial capture only the captured part can be refunded, in as many parts as one likes."""
    intent = await sandbox.authorised()
    await sandbox.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 1500})
    await sandbox.v1.refunds.create_async({"payment_intent": intent.id, "amount": 400})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await sandbox.v1.refunds.create_async({"payment_intent": intent.id, "amount": 1101})
    assert refused.value.param == "amount"
    rest = await sandbox.v1.refunds.create_async({"charge": intent.latest_charge})
    assert rest.amount == 1100
    listed = await sandbox.v1.refunds.list_async({"payment_intent": intent.id})
    assert [refund.amount for refund in listed.data] == [1100, 400]
    assert (await sandbox.v1.refunds.list_async({"charge": intent.latest_charge})).data == listed.data


async def test_money_that_was_never_captured_cannot_be_refunded(sandbox: RunningSandbox) -> None:
    """Neither an authorisation nor an untouched intent nor nothing at all."""
    for params in (
        {"payment_intent": (await sandbox.authorised()).id},
        {"payment_intent": (await sandbox.intent()).id},
        {},
        {"charge": "ch_none"},
    ):
        with pytest.raises(stripe.InvalidRequestError):
            await sandbox.v1.refunds.create_async(params)


async def test_a_slow_refund_succeeds_when_its_time_has_come(start: Start) -> None:
    """4000 0000 0000 7726 refunds are pending first."""
    sandbox = await start()
    intent = await sandbox.paid("pm_card_pendingRefund")
    refund = await sandbox.v1.refunds.create_async({"payment_intent": intent.id})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")
    await sandbox.steer("clock", {"advance_s": 200})
    assert (await sandbox.v1.refunds.retrieve_async(refund.id)).status == "succeeded"
    assert (await sandbox.events(intent.id))[-2:] == ["refund.updated", "charge.refund.updated"]


async def test_a_refund_can_fail_after_it_succeeded(start: Start) -> None:
    """4000 0000 0000 5126 refunds fail later: the money is ours again, and a new refund is possible."""
    sandbox = await start()
    intent = await sandbox.paid("pm_card_refundFail")
    refund = await sandbox.v1.refunds.create_async({"payment_intent": intent.id})
    assert refund.status == "succeeded"
    await sandbox.steer("clock", {"advance_s": 200})
    refund = await sandbox.v1.refunds.retrieve_async(refund.id)
    assert (refund.status, refund.failure_reason) == ("failed", "unknown")
    assert "refund.failed" in await sandbox.events(intent.id)
    charge = await sandbox.v1.charges.retrieve_async(intent.latest_charge)
    assert (charge.refunded, charge.amount_refunded) == (False, 0)
    assert (await sandbox.v1.refunds.create_async({"payment_intent": intent.id})).amount == 2000


async def test_any_refund_can_be_made_to_fail_days_later(sandbox: RunningSandbox) -> None:
    """The lever decides for every card."""
    intent = await sandbox.paid()
    refund = await sandbox.v1.refunds.create_async({"payment_intent": intent.id})
    await sandbox.steer(f"refunds/{refund.id}/settle", {"succeeded": False})
    assert (await sandbox.v1.refunds.retrieve_async(refund.id)).status == "failed"


async def test_only_a_refunds_metadata_can_change(sandbox: RunningSandbox) -> None:
    """An update merges metadata and says what it was before."""
    intent = await sandbox.paid()
    refund = await sandbox.v1.refunds.create_async({"payment_intent": intent.id, "metadata": {"a": "1", "b": "2"}})
    refund = await sandbox.v1.refunds.update_async(refund.id, {"metadata": {"b": "", "c": "3"}})
    assert refund.metadata.to_dict() == {"a": "1", "c": "3"}
    assert "refund.updated" in await sandbox.events(intent.id)
