"""What the sandbox writes down for its visitors: the journal of calls and the book of money."""

import stripe

from tests.sandbox.conftest import Start


async def test_the_journal_knows_every_call(start: Start) -> None:
    """Who asked for what under which key and what came of it; card numbers are cut, and a kill does not wipe it."""
    sandbox = await start()
    intent = await sandbox.intent()
    await sandbox.pays(intent, "pm_card_visa_chargeDeclined")
    card = {"type": "card", "card": {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}}
    await sandbox.v1.payment_intents.confirm_async(intent.id, {"payment_method_data": card}, {"idempotency_key": "j1"})
    await sandbox.v1.payment_intents.confirm_async(intent.id, {"payment_method_data": card}, {"idempotency_key": "j1"})
    sandbox.kill()
    await sandbox.start()
    entries = await sandbox.journal()
    assert [(entry["operation"], entry["status"], entry["caller"], entry["replayed"]) for entry in entries] == [
        ("payment_intents.create", 200, "secret", False),
        ("payment_intents.confirm", 402, "publishable", False),
        ("payment_intents.confirm", 200, "secret", False),
        ("payment_intents.confirm", 200, "secret", True),
    ]
    assert entries[1]["code"] == "card_declined"
    assert "4242424242424242" not in str(entries)
    after = await sandbox.journal(operation="payment_intents.confirm", after=entries[2]["id"])
    assert [entry["id"] for entry in after] == [entries[3]["id"]]


async def test_the_book_counts_the_money_of_each_intent(start: Start) -> None:
    """Authorised, captured, refunded, failed refunds, canceled: net is what is left, per currency too."""
    sandbox = await start()
    kept = await sandbox.authorised()
    part = await sandbox.authorised()
    await sandbox.v1.payment_intents.capture_async(part.id, {"amount_to_capture": 1500})
    await sandbox.v1.refunds.create_async({"payment_intent": part.id, "amount": 500})
    gone = await sandbox.authorised()
    await sandbox.v1.payment_intents.cancel_async(gone.id)
    failed = await sandbox.paid(currency="gbp")
    refund = await sandbox.v1.refunds.create_async({"payment_intent": failed.id})
    await sandbox.steer(f"refunds/{refund.id}/settle", {"succeeded": False})
    book = await sandbox.look("book")
    lines = {line["payment_intent"]: line for line in book["payment_intents"]}

    def money(intent: stripe.PaymentIntent) -> list[int]:
        return [lines[intent.id][name] for name in ("authorized", "captured", "refunded", "refund_failed", "net")]

    assert money(kept) == [2000, 0, 0, 0, 0]
    assert money(part) == [0, 1500, 500, 0, 1000]
    assert money(gone) == [0, 0, 0, 0, 0]
    assert lines[gone.id]["canceled"]
    assert money(failed) == [0, 2000, 0, 2000, 2000]
    assert book["totals"]["eur"]["net"] == 1000
    assert book["totals"]["gbp"]["net"] == 2000
