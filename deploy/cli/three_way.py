"""Holds three books against each other: the bookings, the payments, and what Stripe shows; pure, and always the same.

The books are read one after the other while the system lives. So what changed less than `settle_s` ago is in flight and
not judged, and whoever reads them confirms what he found by a second look.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]

_WITHOUT_EFFECT = ("failed", "canceled")
_AUTHORISED_FOR = ("pending", "confirmed", "needs_attention")
_UNTOUCHED = ("none", "setup_failed", "requires_payment", "requires_action", "processing")


@dataclass(frozen=True)
class Books:
    """Everything that was read; refunds and disputes are Stripe's, those of ours stand with their payments."""

    bookings: Sequence[Row]
    payments: Sequence[Row]
    intents: Sequence[Row]
    refunds: Sequence[Row]
    disputes: Sequence[Row]


@dataclass
class Case:
    """What the three books say of one booking; of what nobody knows, a case of its own."""

    id: str
    booking: Row | None = None
    payments: list[Row] = field(default_factory=list)
    intents: list[Row] = field(default_factory=list)
    refunds: list[Row] = field(default_factory=list)
    disputes: list[Row] = field(default_factory=list)

    def is_in_flight(self, *, settle_s: float, now: datetime) -> bool:
        """Tell whether one of the books may have changed between two readings."""
        rows = [*self.payments, *([self.booking] if self.booking else [])]
        ages = [float(row["unchanged_s"]) for row in rows]
        if not self.payments:
            ages += [(now - datetime.fromisoformat(intent["created_at"])).total_seconds() for intent in self.intents]
        return any(age < settle_s for age in ages)

    def has_somebody(self) -> bool:
        """Tell whether a person has been asked to look."""
        return bool(self.booking and (self.booking["open_case"] or self.booking["status"] == "needs_attention"))

    def intent_of(self, payment: Row) -> Row | None:
        return next((one for one in self.intents if one["id"] == payment["stripe_payment_intent_id"]), None)


@dataclass(frozen=True)
class Finding:
    """One check and the ids of the cases that fail it."""

    id: str
    title: str
    examples: list[str]


@dataclass(frozen=True)
class Comparison:
    """What came of it: every check, and what was too young to be judged."""

    findings: list[Finding]
    in_flight: list[str]
    judged: int


def compare(books: Books, *, settle_s: float, now: datetime) -> Comparison:
    """Judge every booking, payment and PaymentIntent; in order of ids, so that the same books give the same words."""
    cases = sorted(cases_of(books), key=lambda case: case.id)
    young = [case.id for case in cases if case.is_in_flight(settle_s=settle_s, now=now)]
    judged = [case for case in cases if case.id not in set(young)]
    findings = [
        Finding(check_id, title, [case.id for case in judged if violated(case)]) for check_id, title, violated in CHECKS
    ]
    return Comparison(findings, young, len(judged))


def both(first: Comparison, second: Comparison) -> Comparison:
    """Return what two readings found alike; what only one of them saw was on its way."""
    seen = {finding.id: set(finding.examples) for finding in second.findings}
    findings = [
        Finding(one.id, one.title, [example for example in one.examples if example in seen[one.id]])
        for one in first.findings
    ]
    return Comparison(findings, second.in_flight, second.judged)


def cases_of(books: Books) -> Iterable[Case]:
    """Join the books by booking; a payment names its booking, an intent its payment."""
    cases: dict[str, Case] = {}
    for booking in books.bookings:
        cases[booking["id"]] = Case(booking["id"], booking)
    by_payment, by_intent = {}, {}
    for payment in books.payments:
        case = cases.setdefault(payment["reservation_id"], Case(payment["reservation_id"]))
        case.payments.append(payment)
        by_payment[payment["id"]] = case
        by_intent[payment["stripe_payment_intent_id"]] = case
    for intent in books.intents:
        known = by_intent.get(intent["id"]) or by_payment.get(intent["payment_id"])
        case = known or cases.setdefault(intent["id"], Case(intent["id"]))
        case.intents.append(intent)
        by_intent[intent["id"]] = case
    for kind, rows in (("refunds", books.refunds), ("disputes", books.disputes)):
        for row in rows:
            getattr(by_intent.get(row["payment_intent"]) or Case(row["id"]), kind).append(row)
    return cases.values()


# the money of one payment, by our book and by Stripe's; minor units


def kept(payment: Row) -> int:
    """Return what we have of a payment: captured, less what goes or went back, less what disputes hold."""
    back = sum(refund["amount"] for refund in payment["refunds"] if refund["status"] not in _WITHOUT_EFFECT)
    return int(payment["captured"] - back - payment["disputed"])


def kept_at_stripe(case: Case, intent: Row) -> int:
    """Return the same as Stripe's objects tell it."""
    refunds = [row for row in case.refunds if row["payment_intent"] == intent["id"]]
    disputes = [row for row in case.disputes if row["payment_intent"] == intent["id"]]
    back = sum(row["amount"] for row in refunds if row["status"] in ("succeeded", "pending"))
    held = sum(row["amount"] for row in disputes if row["status"] in ("open", "lost"))
    return int(intent["received"] - back - held)


# the checks: True for a case that violates them


def _paid_twice(case: Case) -> bool:
    took = [payment for payment in case.payments if payment["captured"] and kept(payment)]
    return len(took) > 1 or (bool(case.payments) and case.booking is None)


def _money_without_a_booking(case: Case) -> bool:
    booking = case.booking
    for payment in case.payments:
        if kept(payment) <= 0 or case.has_somebody() or (booking and booking["status"] == "confirmed"):
            continue
        terms = booking["refund_due"] if booking and booking["status"] == "cancelled" else None
        if terms is None or kept(payment) != payment["captured"] - terms:
            return True
    return False


def _booking_without_money(case: Case) -> bool:
    booking = case.booking
    if booking is None or booking["status"] != "confirmed" or booking["payment_mode"] != "stripe":
        return False
    return bool(booking["total"]) and not any(one["captured"] >= booking["total"] for one in case.payments)


def _wrong_amount(case: Case) -> bool:
    booking = case.booking
    if booking is None:
        return False
    asked = [payment for payment in case.payments if payment["status"] != "canceled"]
    return any((one["amount"], one["currency"]) != (booking["total"], booking["currency"]) for one in asked)


def _sums_differ(case: Case) -> bool:
    for payment in case.payments:
        if payment["balance"] != kept(payment):
            return True
        intent = case.intent_of(payment)
        unsent = any(refund["status"] == "requested" for refund in payment["refunds"])
        if intent is not None and not unsent and kept_at_stripe(case, intent) != payment["balance"]:
            return True
    return False


def _pictures_differ(case: Case) -> bool:
    known = {payment["stripe_payment_intent_id"] for payment in case.payments}
    strangers = [intent for intent in case.intents if intent["id"] not in known]
    return any(_differs(case, payment) for payment in case.payments) or any(
        not _is_settled(case, intent) for intent in strangers
    )


def _is_settled(case: Case, orphan: Row) -> bool:
    """Tell whether an intent that nobody knows is over: it took nothing, or all of it went back."""
    return orphan["status"] == "canceled" or (bool(orphan["received"]) and not kept_at_stripe(case, orphan))


def _differs(case: Case, payment: Row) -> bool:
    if payment["stripe_payment_intent_id"] is None:
        return False
    intent = case.intent_of(payment)
    if intent is None or _stage(intent["status"]) != _stage(payment["status"]):
        return True
    if payment["status"] == "canceled":
        return False
    if (intent["amount"], intent["currency"]) != (payment["amount"], payment["currency"]):
        return True
    return intent["received"] != payment["captured"] or _refunds(payment["refunds"]) != _theirs(case, intent)


def _refunds(rows: Iterable[Row]) -> list[tuple[str, int, str]]:
    return sorted((row["stripe_refund_id"], row["amount"], row["status"]) for row in rows if row["stripe_refund_id"])


def _theirs(case: Case, intent: Row) -> list[tuple[str, int, str]]:
    rows = [row for row in case.refunds if row["payment_intent"] == intent["id"]]
    return sorted((row["id"], row["amount"], row["status"]) for row in rows)


def _stage(status: str) -> str:
    if status in _UNTOUCHED:
        return "open"
    return status if status in ("authorized", "canceled") else "captured"


def _stranded_authorisation(case: Case) -> bool:
    alive = case.booking is not None and (
        case.booking["status"] in _AUTHORISED_FOR or case.booking["in_hand"] or case.booking["open_case"]
    )
    return not alive and any(intent["status"] == "authorized" for intent in case.intents)


def _news_not_heard(case: Case) -> bool:
    booking = case.booking
    if booking is None or booking["payment_status"] is None:
        return False
    mine = [payment for payment in case.payments if payment["generation"] == booking["generation"]]
    return any(payment["version"] > booking["payment_version"] for payment in mine)


CHECKS: tuple[tuple[str, str, Callable[[Case], bool]], ...] = (
    ("I4", "every payment belongs to a booking, and no booking is paid twice", _paid_twice),
    (
        "I5",
        "captured money has a confirmed booking, goes back as it should, or is somebody's case",
        _money_without_a_booking,
    ),
    ("I6", "every confirmed booking has its money, unless it is free or paid elsewhere", _booking_without_money),
    ("I7", "what was asked of the guest is the price of the booking, in its currency", _wrong_amount),
    ("I8", "ledger, refunds, disputes and Stripe agree on what we have of each payment", _sums_differ),
    ("I10", "Stripe's objects are as our rows say, and none of ours is unknown to us", _pictures_differ),
    ("I11", "no authorisation is left open for a booking that has ended", _stranded_authorisation),
    ("I27", "reservation_service has heard the newest of every payment", _news_not_heard),
)
