"""Stripe's published test cards and accounts, each with the one thing that it does. Numbers from docs.stripe.com/testing."""

from dataclasses import dataclass
from typing import Literal

from .errors import doc_url
from .state import Document


@dataclass(frozen=True, slots=True)
class Decline:
    """What the bank answers when it says no."""

    code: str
    message: str
    decline_code: str | None = None
    advice_code: str | None = None
    network_decline_code: str | None = "01"
    blocked: bool = False  # stopped by Stripe's own rules, the bank was never asked

    def error(self) -> Document:
        """Return the members that Stripe puts in an error body and in `last_payment_error`."""
        told = {
            "advice_code": self.advice_code,
            "code": self.code,
            "decline_code": self.decline_code,
            "doc_url": doc_url(self.code),
            "message": self.message,
            "network_decline_code": self.network_decline_code,
            "type": "card_error",
        }
        return {name: value for name, value in told.items() if value is not None}


_DECLINED = "Your card was declined."
GENERIC = Decline("card_declined", _DECLINED, "generic_decline", "try_again_later")
INSUFFICIENT = Decline(
    "card_declined", "Your card has insufficient funds.", "insufficient_funds", "try_again_later", "51"
)
PROCESSING_ERROR = Decline(
    "processing_error",
    "An error occurred while processing your card. Try again in a little bit.",
    None,
    "try_again_later",
)
AUTHENTICATION_REQUIRED = Decline(
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "authentication_required",
)
ACCOUNT_EMPTY = Decline(
    "payment_intent_payment_attempt_failed", "The customer's account has insufficient funds.", "insufficient_funds"
)
ACCOUNT_CLOSED = Decline(
    "payment_intent_payment_attempt_failed", "The customer's bank account has been closed.", "account_closed"
)


@dataclass(frozen=True, slots=True)
class PublishedMethod:
    """One of Stripe's test payment methods."""

    name: str  # its published id
    number: str = ""  # card number or IBAN; empty: only the id exists
    kind: Literal["card", "us_bank_account", "sepa_debit"] = "card"
    brand: str = "visa"
    funding: str = "credit"
    country: str = "US"
    decline: Decline | None = None
    challenge: bool = False  # the customer must authenticate (3D Secure) first
    settles: Literal["at once", "later", "never"] = "at once"  # otherwise the PaymentIntent is `processing` meanwhile
    refund: Literal["succeeded", "pending", "fails later"] = "succeeded"
    dispute: Literal["", "fraudulent", "product_not_received", "inquiry"] = ""


METHODS = (
    PublishedMethod("pm_card_visa", "4242424242424242"),
    PublishedMethod("pm_card_visa_debit", "4000056655665556", funding="debit"),
    PublishedMethod("pm_card_mastercard", "5555555555554444", brand="mastercard"),
    PublishedMethod("pm_card_mastercard_debit", "5200828282828210", brand="mastercard", funding="debit"),
    PublishedMethod("pm_card_mastercard_prepaid", "5105105105105100", brand="mastercard", funding="prepaid"),
    PublishedMethod("pm_card_amex", "378282246310005", brand="amex"),
    PublishedMethod("pm_card_discover", "6011111111111117", brand="discover"),
    PublishedMethod("pm_card_diners", "3056930009020004", brand="diners"),
    PublishedMethod("pm_card_jcb", "3566002020360505", brand="jcb", country="JP"),
    PublishedMethod("pm_card_unionpay", "6200000000000005", brand="unionpay", country="CN"),
    PublishedMethod("pm_card_bypassPending", "4000000000000077"),
    PublishedMethod("pm_card_visa_chargeDeclined", "4000000000000002", decline=GENERIC),
    PublishedMethod("pm_card_visa_chargeDeclinedInsufficientFunds", "4000000000009995", decline=INSUFFICIENT),
    PublishedMethod(
        "pm_card_visa_chargeDeclinedLostCard",
        "4000000000009987",
        decline=Decline("card_declined", _DECLINED, "lost_card", "do_not_try_again", "41"),
    ),
    PublishedMethod(
        "pm_card_visa_chargeDeclinedStolenCard",
        "4000000000009979",
        decline=Decline("card_declined", _DECLINED, "stolen_card", "do_not_try_again", "43"),
    ),
    PublishedMethod(
        "pm_card_chargeDeclinedExpiredCard",
        "4000000000000069",
        decline=Decline("expired_card", "Your card has expired.", "expired_card", "do_not_try_again", "54"),
    ),
    PublishedMethod(
        "pm_card_chargeDeclinedIncorrectCvc",
        "4000000000000127",
        decline=Decline(
            "incorrect_cvc", "Your card's security code is incorrect.", "incorrect_cvc", "confirm_card_data", "N7"
        ),
    ),
    PublishedMethod("pm_card_chargeDeclinedProcessingError", "4000000000000119", decline=PROCESSING_ERROR),
    PublishedMethod(
        "pm_card_visa_chargeDeclinedVelocityLimitExceeded",
        "4000000000006975",
        decline=Decline("card_declined", _DECLINED, "card_velocity_exceeded", "try_again_later", "61"),
    ),
    PublishedMethod("pm_card_chargeCustomerFail", "4000000000000341", decline=GENERIC),
    PublishedMethod(
        "pm_card_radarBlock",
        "4100000000000019",
        decline=Decline("card_declined", _DECLINED, "fraudulent", "do_not_try_again", None, blocked=True),
    ),
    PublishedMethod("pm_card_authenticationRequired", "4000002760003184", challenge=True),
    PublishedMethod("pm_card_authenticationRequiredOnSetup", "4000002500003155", challenge=True),
    PublishedMethod("pm_card_threeDSecure2Required", "4000000000003220", challenge=True),
    PublishedMethod("pm_card_threeDSecureRequired", "4000000000003063", challenge=True),
    PublishedMethod(
        "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
        "4000008260003178",
        challenge=True,
        decline=INSUFFICIENT,
    ),
    PublishedMethod("pm_card_threeDSecureRequiredChargeDeclined", "4000008400001629", challenge=True, decline=GENERIC),
    PublishedMethod(
        "pm_card_threeDSecureRequiredProcessingError", "4000008400001280", challenge=True, decline=PROCESSING_ERROR
    ),
    PublishedMethod("pm_card_pendingRefund", "4000000000007726", refund="pending"),
    PublishedMethod("pm_card_refundFail", "4000000000005126", refund="fails later"),
    PublishedMethod("pm_card_createDispute", "4000000000000259", dispute="fraudulent"),
    PublishedMethod("pm_card_createDisputeProductNotReceived", "4000000000002685", dispute="product_not_received"),
    PublishedMethod("pm_card_createDisputeInquiry", "4000000000001976", dispute="inquiry"),
    PublishedMethod("pm_usBankAccount_success", kind="us_bank_account", settles="later"),
    PublishedMethod(
        "pm_usBankAccount_insufficientFunds", kind="us_bank_account", settles="later", decline=ACCOUNT_EMPTY
    ),
    PublishedMethod("pm_usBankAccount_accountClosed", kind="us_bank_account", settles="later", decline=ACCOUNT_CLOSED),
    PublishedMethod("pm_usBankAccount_processing", kind="us_bank_account", settles="never"),
    PublishedMethod("sepa_success", "AT611904300234573201", kind="sepa_debit", settles="later", country="AT"),
    PublishedMethod(
        "sepa_insufficientFunds",
        "AT861904300235473202",
        kind="sepa_debit",
        settles="later",
        country="AT",
        decline=ACCOUNT_EMPTY,
    ),
)

BY_NAME = {method.name: method for method in METHODS}
BY_NUMBER = {method.number: method for method in METHODS if method.number}


def passes_luhn(number: str) -> bool:
    """Tell whether the check digit of a card number is right."""
    digits = [int(digit) for digit in reversed(number)]
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
