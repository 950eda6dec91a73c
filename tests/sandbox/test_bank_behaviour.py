"""What banks do besides yes and no: 3D Secure, debits that take days, disputes, authorisations that run out."""

from typing import Any

import pytest
import stripe

from tests.sandbox.conftest import Start
from tests.sandbox.running import RunningSandbox, told

RETURN_URL = "http://127.0.0.1:1/thanks?order=7"
EIGHT_DAYS_S = 8 * 24 * 3600


class TestThreeDSecure:
    """The customer has to show up at the bank's page."""

    async def test_a_server_is_told_where_to_send_the_customer(self, sandbox: RunningSandbox) -> None:
        """With a return_url the next action is a redirect; authenticated, the money is reserved."""
        intent = await sandbox.intent()
        intent = await sandbox.v1.payment_intents.confirm_async(
            intent.id, {"payment_method": "pm_card_authenticationRequired", "return_url": RETURN_URL}
        )
        assert (intent.status, intent.next_action.type) == ("requires_action", "redirect_to_url")
        assert intent.next_action.redirect_to_url.return_url == RETURN_URL
        after = await sandbox.steer(f"payment_intents/{intent.id}/authenticate", {"succeeded": True})
        assert (after["status"], after["next_action"]) == ("requires_capture", None)
        assert await sandbox.events(intent.id) == [
            "payment_intent.created",
            "payment_intent.requires_action",
            "charge.succeeded",
            "payment_intent.amount_capturable_updated",
        ]

    async def test_the_hosted_page_brings_the_customer_back(self, sandbox: RunningSandbox) -> None:
        """Two buttons without any foreign resource; the browser returns to the shop with the result in the URL."""
        intent = await sandbox.intent()
        action = (await sandbox.pays(intent, "pm_card_threeDSecure2Required", return_url=RETURN_URL)).json()[
            "next_action"
        ]
        url = action["redirect_to_url"]["url"]
        page = await sandbox.http.get(url)
        assert page.status_code == 200
        assert "Complete authentication" in page.text
        assert "//" not in page.text
        done = await sandbox.http.post(url, data={"client_secret": intent.client_secret, "outcome": "complete"})
        assert done.status_code == 303
        assert done.headers["location"].startswith(f"{RETURN_URL}&payment_intent={intent.id}&")
        assert done.headers["location"].endswith("redirect_status=succeeded")
        assert (await sandbox.v1.payment_intents.retrieve_async(intent.id)).status == "requires_capture"
        assert "Already decided" in (await sandbox.http.get(url)).text

    async def test_the_page_needs_the_client_secret(self, sandbox: RunningSandbox) -> None:
        """Nobody else may decide; markup in the secret stays text."""
        intent = await sandbox.intent()
        await sandbox.pays(intent, "pm_card_threeDSecure2Required")
        for secret in ("", "<script>"):
            form = {"client_secret": secret, "outcome": "complete"}
            assert (await sandbox.http.post(f"/3ds/{intent.id}", data=form)).status_code == 400
            page = await sandbox.http.get(f"/3ds/{intent.id}", params={"client_secret": secret})
            assert page.status_code == 400
            assert "<script>" not in page.text
        assert (await sandbox.v1.payment_intents.retrieve_async(intent.id)).status == "requires_action"

    async def test_a_failed_authentication_leaves_the_intent_payable(self, sandbox: RunningSandbox) -> None:
        """Back to `requires_payment_method` with the reason; then a good card pays."""
        intent = await sandbox.intent()
        await sandbox.pays(intent, "pm_card_threeDSecureRequired")
        url = f"/3ds/{intent.id}"
        page = await sandbox.http.post(url, data={"client_secret": intent.client_secret, "outcome": "fail"})
        assert "requires_payment_method" in page.text
        intent = await sandbox.v1.payment_intents.retrieve_async(intent.id)
        assert intent.last_payment_error.code == "payment_intent_authentication_failure"
        assert (await sandbox.pays(intent, "pm_card_visa")).json()["status"] == "requires_capture"

    async def test_the_bank_may_decline_after_authentication(self, sandbox: RunningSandbox) -> None:
        """4000 0082 6000 3178: authenticated, and then no money on the account."""
        intent = await sandbox.intent()
        await sandbox.pays(intent, "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds")
        after = await sandbox.steer(f"payment_intents/{intent.id}/authenticate", {"succeeded": True})
        assert after["status"] == "requires_payment_method"
        assert after["last_payment_error"]["decline_code"] == "insufficient_funds"

    @pytest.mark.parametrize("flag", ["error_on_requires_action", "off_session"])
    async def test_without_the_customer_it_is_a_decline(self, sandbox: RunningSandbox, flag: str) -> None:
        """A server that cannot send anybody to the bank gets `authentication_required`."""
        with pytest.raises(stripe.CardError) as declined:
            await sandbox.authorised("pm_card_authenticationRequired", **{flag: True})
        assert declined.value.code == "authentication_required"
        assert told(declined).payment_intent.status == "requires_payment_method"

    async def test_manual_confirmation_comes_back_to_the_server(self, sandbox: RunningSandbox) -> None:
        """With `confirmation_method=manual` the browser may not confirm, and after 3D Secure the server confirms again."""
        intent = await sandbox.intent(confirmation_method="manual")
        assert (await sandbox.pays(intent, "pm_card_visa")).status_code == 400
        card = {"payment_method": "pm_card_authenticationRequired"}
        assert (await sandbox.v1.payment_intents.confirm_async(intent.id, card)).next_action.type == "use_stripe_sdk"
        after = await sandbox.steer(f"payment_intents/{intent.id}/authenticate", {"succeeded": True})
        assert after["status"] == "requires_confirmation"
        assert (await sandbox.v1.payment_intents.confirm_async(intent.id)).status == "requires_capture"

    async def test_a_pending_authentication_can_be_canceled(self, sandbox: RunningSandbox) -> None:
        """The payment deadline comes first: cancel wins, and the late customer is refused."""
        intent = await sandbox.intent()
        await sandbox.pays(intent, "pm_card_threeDSecureRequired")
        assert (await sandbox.v1.payment_intents.cancel_async(intent.id)).status == "canceled"
        late = await sandbox.http.post(f"/_sandbox/payment_intents/{intent.id}/authenticate", json={"succeeded": True})
        assert late.status_code == 422
        assert await sandbox.events(intent.id) == [
            "payment_intent.created",
            "payment_intent.requires_action",
            "payment_intent.canceled",
        ]


class TestDebits:
    """Bank debits: `processing` first."""

    @pytest.mark.parametrize(
        ("method", "status"),
        [
            ("pm_usBankAccount_success", "succeeded"),
            ("pm_usBankAccount_insufficientFunds", "requires_payment_method"),
            ("pm_usBankAccount_processing", "processing"),
        ],
    )
    async def test_the_answer_takes_its_time(self, start: Start, method: str, status: str) -> None:
        """Minutes later, by the sandbox's clock, the debit has arrived, or has come back, or is still on its way."""
        sandbox = await start()
        intent = await sandbox.paid(method, currency="usd", allowed_payment_method_types=["us_bank_account"])
        assert (intent.status, intent.amount_received) == ("processing", 0)
        assert (await sandbox.events(intent.id))[-1] == "payment_intent.processing"
        with pytest.raises(stripe.InvalidRequestError):
            await sandbox.v1.payment_intents.cancel_async(intent.id)
        await sandbox.steer("clock", {"advance_s": 200})
        intent = await sandbox.v1.payment_intents.retrieve_async(intent.id)
        assert (intent.status, intent.amount_received) == (status, 2000 if status == "succeeded" else 0)

    async def test_iban_debits(self, start: Start) -> None:
        """SEPA by Stripe's test IBANs; an unknown one is refused."""
        sandbox = await start()
        debit: dict[str, Any] = {"type": "sepa_debit", "sepa_debit": {"iban": "AT61 1904 3002 3457 3201"}}
        intent = await sandbox.intent(
            capture_method="automatic",
            allowed_payment_method_types=["sepa_debit"],
            payment_method_data=debit,
            confirm=True,
        )
        assert intent.status == "processing"
        await sandbox.steer(f"payment_intents/{intent.id}/settle", {"succeeded": False})
        intent = await sandbox.v1.payment_intents.retrieve_async(intent.id)
        assert (intent.status, intent.last_payment_error.decline_code) == (
            "requires_payment_method",
            "debit_not_authorized",
        )
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await sandbox.v1.payment_methods.create_async({"type": "sepa_debit", "sepa_debit": {"iban": "DE00"}})
        assert refused.value.code == "invalid_bank_account_iban"

    async def test_a_debit_cannot_be_reserved(self, sandbox: RunningSandbox) -> None:
        """Manual capture is for cards; a card-only intent takes no debit."""
        for types in (["us_bank_account", "card"], ["card"]):
            with pytest.raises(stripe.InvalidRequestError) as refused:
                await sandbox.authorised("pm_usBankAccount_success", currency="usd", allowed_payment_method_types=types)
            assert refused.value.param == "payment_method"


class TestTime:
    """Authorisations do not last for ever."""

    async def test_an_authorisation_runs_out_after_its_window(self, start: Start) -> None:
        """Seven days later Stripe cancels by itself, and a capture is too late."""
        sandbox = await start()
        intent = await sandbox.authorised()
        await sandbox.steer("clock", {"advance_s": EIGHT_DAYS_S})
        with pytest.raises(stripe.InvalidRequestError) as late:
            await sandbox.v1.payment_intents.capture_async(intent.id)
        assert late.value.code == "payment_intent_unexpected_state"
        intent = await sandbox.v1.payment_intents.retrieve_async(intent.id)
        assert (intent.status, intent.cancellation_reason, intent.amount_capturable) == ("canceled", "automatic", 0)
        assert (await sandbox.events(intent.id))[-2:] == ["charge.expired", "payment_intent.canceled"]

    async def test_a_captured_payment_stays(self, start: Start) -> None:
        """The window's end does nothing to money that was taken; the clock survives a restart."""
        sandbox = await start()
        intent = await sandbox.authorised()
        await sandbox.v1.payment_intents.capture_async(intent.id)
        await sandbox.steer("clock", {"advance_s": EIGHT_DAYS_S})
        now = (await sandbox.look("clock"))["now"]
        sandbox.kill()
        await sandbox.start()
        assert (await sandbox.look("clock"))["now"] >= now
        assert (await sandbox.v1.payment_intents.retrieve_async(intent.id)).status == "succeeded"

    @pytest.mark.parametrize("body", [{"advance_s": -1}, {"advance_s": "1"}, {"advance_s": True}, {}])
    async def test_time_goes_only_forward(self, sandbox: RunningSandbox, body: Any) -> None:
        """Anything but whole seconds is refused."""
        assert (await sandbox.http.post("/_sandbox/clock", json=body)).status_code == 422


class TestDisputes:
    """The cardholder's bank takes the money back."""

    async def test_a_dispute_blocks_refunds_and_holds_the_money(self, sandbox: RunningSandbox) -> None:
        """4000 0000 0000 0259: captured, disputed at once, no refund possible, the book knows."""
        intent = await sandbox.paid("pm_card_createDispute")
        (dispute,) = (await sandbox.v1.disputes.list_async({"payment_intent": intent.id})).data
        assert (dispute.status, dispute.reason, dispute.amount) == ("needs_response", "fraudulent", 2000)
        assert (await sandbox.v1.charges.retrieve_async(intent.latest_charge)).disputed
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await sandbox.v1.refunds.create_async({"payment_intent": intent.id})
        assert refused.value.code == "charge_disputed"
        assert (await sandbox.events(intent.id))[-2:] == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
        (line,) = [
            line for line in (await sandbox.look("book"))["payment_intents"] if line["payment_intent"] == intent.id
        ]
        assert (line["disputed"], line["net"]) == (2000, 0)

    @pytest.mark.parametrize(
        ("evidence", "status", "net"), [("winning_evidence", "won", 2000), ("losing_evidence", "lost", 0)]
    )
    async def test_evidence_decides(self, sandbox: RunningSandbox, evidence: str, status: str, net: int) -> None:
        """Stripe's magic words end it: won, the money is back; lost, it is gone."""
        intent = await sandbox.authorised("pm_card_createDisputeProductNotReceived")
        assert (await sandbox.v1.disputes.list_async({"payment_intent": intent.id})).data == []
        await sandbox.v1.payment_intents.capture_async(intent.id)
        (dispute,) = (await sandbox.v1.disputes.list_async({"charge": intent.latest_charge})).data
        saved = await sandbox.v1.disputes.update_async(
            dispute.id, {"evidence": {"uncategorized_text": evidence}, "submit": False}
        )
        assert saved.status == "needs_response"
        dispute = await sandbox.v1.disputes.update_async(dispute.id, {"metadata": {"by": "me"}})
        assert (dispute.status, dispute.metadata["by"]) == (status, "me")
        (line,) = [
            line for line in (await sandbox.look("book"))["payment_intents"] if line["payment_intent"] == intent.id
        ]
        assert line["net"] == net
        with pytest.raises(stripe.InvalidRequestError):
            await sandbox.v1.disputes.close_async(dispute.id)

    async def test_an_inquiry_takes_no_money_yet(self, sandbox: RunningSandbox) -> None:
        """4000 0000 0000 1976: a warning, refundable; closing it ends it."""
        intent = await sandbox.paid("pm_card_createDisputeInquiry")
        (dispute,) = (await sandbox.v1.disputes.list_async({"payment_intent": intent.id})).data
        assert (dispute.status, dispute.is_charge_refundable) == ("warning_needs_response", True)
        assert (await sandbox.v1.refunds.create_async({"payment_intent": intent.id})).amount == 2000
        assert (await sandbox.v1.disputes.close_async(dispute.id)).status == "warning_closed"

    @pytest.mark.parametrize("closed", [False, True])
    async def test_an_inquiry_may_become_a_dispute(self, sandbox: RunningSandbox, closed: bool) -> None:
        """Answered or not, the bank takes the money after all: the same dispute, not refundable any more."""
        intent = await sandbox.paid("pm_card_createDisputeInquiry")
        (asked,) = (await sandbox.v1.disputes.list_async({"payment_intent": intent.id})).data
        if closed:
            await sandbox.v1.disputes.close_async(asked.id)
        await sandbox.steer(f"payment_intents/{intent.id}/dispute", {})
        (dispute,) = (await sandbox.v1.disputes.list_async({"payment_intent": intent.id})).data
        assert (dispute.id, dispute.status, dispute.is_charge_refundable) == (asked.id, "needs_response", False)
        assert (await sandbox.events(intent.id))[-2:] == ["charge.dispute.updated", "charge.dispute.funds_withdrawn"]
        (line,) = [
            line for line in (await sandbox.look("book"))["payment_intents"] if line["payment_intent"] == intent.id
        ]
        assert (line["disputed"], line["net"]) == (2000, 0)

    async def test_any_payment_can_be_disputed(self, sandbox: RunningSandbox) -> None:
        """The lever opens one, on captured money only."""
        intent = await sandbox.paid()
        await sandbox.steer(f"payment_intents/{intent.id}/dispute", {})
        assert len((await sandbox.v1.disputes.list_async({"payment_intent": intent.id})).data) == 1
        reserved = await sandbox.authorised()
        assert (await sandbox.http.post(f"/_sandbox/payment_intents/{reserved.id}/dispute", json={})).status_code == 422
