"""PaymentIntents besides paying: update, list, expand, limits of rate, and names that a seed repeats."""

import asyncio
import time
from pathlib import Path

import pytest
import stripe

from tests.sandbox.conftest import Start
from tests.sandbox.running import RunningSandbox


async def test_an_open_intent_can_be_changed(sandbox: RunningSandbox) -> None:
    """Amount, words and metadata; an empty value removes a name, an empty text unsets a field."""
    intent = await sandbox.intent(metadata={"a": "1", "b": "2"}, description="old")
    intent = await sandbox.v1.payment_intents.update_async(
        intent.id, {"amount": 900, "metadata": {"a": "", "c": "3"}, "description": "", "receipt_email": "a@example.org"}
    )
    assert (intent.amount, intent.description, intent.receipt_email) == (900, None, "a@example.org")
    assert intent.metadata.to_dict() == {"b": "2", "c": "3"}
    intent = await sandbox.v1.payment_intents.update_async(
        intent.id, {"payment_method": "pm_card_visa", "metadata": ""}
    )
    assert (intent.status, intent.metadata.to_dict()) == ("requires_confirmation", {})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await sandbox.v1.payment_intents.update_async(intent.id, {"amount": 1})
    assert refused.value.code == "amount_too_small"


async def test_once_money_is_under_way_only_words_can_change(sandbox: RunningSandbox) -> None:
    """The amount of an authorisation stands."""
    intent = await sandbox.authorised()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await sandbox.v1.payment_intents.update_async(intent.id, {"amount": 1000})
    assert refused.value.code == "payment_intent_unexpected_state"
    assert (await sandbox.v1.payment_intents.update_async(intent.id, {"metadata": {"k": "v"}})).metadata["k"] == "v"


async def test_lists_are_newest_first_and_expand(start: Start) -> None:
    """Pages, creation filters, a charge in place of its id, and a cursor that must exist."""
    sandbox = await start()
    made = [(await sandbox.authorised()).id for _ in range(3)]
    page = await sandbox.v1.payment_intents.list_async(
        {"limit": 2, "expand": ["data.latest_charge.payment_intent", "data.payment_method"]}
    )
    assert ([intent.id for intent in page.data], page.has_more) == (made[:0:-1], True)
    assert page.data[0].latest_charge.payment_intent.id == made[-1]
    assert page.data[0].payment_method.card.last4 == "4242"
    rest = await sandbox.v1.payment_intents.list_async({"starting_after": page.data[-1].id})
    assert ([intent.id for intent in rest.data], rest.has_more) == (made[:1], False)
    assert (await sandbox.v1.payment_intents.list_async({"created": {"gt": 4_000_000_000}})).data == []
    for wrong in (
        {"limit": 101},
        {"limit": 0},
        {"starting_after": "pi_none"},
        {"status": "canceled"},
        {"expand": ["latest_charge"]},
        {"expand": ["data.latest_charge.payment_method"]},
    ):
        with pytest.raises(stripe.InvalidRequestError):
            await sandbox.v1.payment_intents.list_async(wrong)


async def test_charges_list_by_intent(sandbox: RunningSandbox) -> None:
    """A decline and a success are two charges of one intent."""
    intent = await sandbox.intent()
    await sandbox.pays(intent, "pm_card_visa_chargeDeclined")
    await sandbox.pays(intent, "pm_card_visa")
    charges = (await sandbox.v1.charges.list_async({"payment_intent": intent.id})).data
    assert [charge.status for charge in charges] == ["succeeded", "failed"]


async def test_a_test_id_gives_a_fresh_payment_method(sandbox: RunningSandbox) -> None:
    """`pm_card_visa` is a recipe: each use is an object of its own with the same fingerprint."""
    first, second = [await sandbox.v1.payment_methods.retrieve_async("pm_card_visa") for _ in range(2)]
    assert first.id != second.id
    assert first.card.fingerprint == second.card.fingerprint
    assert (await sandbox.v1.payment_methods.retrieve_async(first.id)).card.last4 == "4242"


async def test_a_standing_rate_limit(start: Start) -> None:
    """Five a second: of a hundred at once most are turned away with 429, and a second later it works again."""
    sandbox = await start(SANDBOX_RATE_LIMIT_PER_S="5")
    began = time.monotonic()
    answers = await asyncio.gather(
        *[sandbox.v1.payment_intents.list_async() for _ in range(100)], return_exceptions=True
    )
    limited = [answer for answer in answers if isinstance(answer, stripe.RateLimitError)]
    assert 5 <= len(answers) - len(limited) <= 5 + 5 * (time.monotonic() - began)
    assert (limited[0].headers or {})["stripe-rate-limited-reason"] == "global-rate"
    await asyncio.sleep(0.5)
    assert (await sandbox.v1.payment_intents.list_async()).data == []


async def test_the_same_seed_gives_the_same_names(tmp_path: Path) -> None:
    """Two runs with one seed make the same ids; a restart on the same state makes new ones."""
    first_ids = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        async with RunningSandbox(tmp_path / name, SANDBOX_SEED="7") as sandbox:
            first_ids.append((await sandbox.intent()).id)
            sandbox.kill()
            await sandbox.start()
            assert (await sandbox.intent()).id not in first_ids
    assert first_ids[0] == first_ids[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("SANDBOX_SECRET_KEY", "sk_live_x"), ("SANDBOX_SECRET_KEY", ""), ("SANDBOX_PUBLISHABLE_KEY", "pk_live_x")],
)
async def test_it_refuses_to_start_with_live_keys(tmp_path: Path, name: str, value: str) -> None:
    """A live key, or none, is a mistake that is told in a sentence."""
    sandbox = RunningSandbox(tmp_path, **{name: value})
    with pytest.raises(AssertionError):
        async with sandbox:
            pass
    assert name in sandbox.log()
    await sandbox.close()
