"""What banks do, and people in Stripe's dashboard, once money has moved: refunds that fail, disputes, refunds by hand.

None of it is anybody's call to Stripe, and all of it ends: a world is not quiet before it has.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from random import Random
from typing import Any

from payment_service.states import REFUND_WITHOUT_EFFECT, DisputeStatus, RefundStatus
from shared.payment_contract import PaymentStatus
from tests.simulation.plan import Plan
from tests.simulation.stripe_double import Account
from tests.simulation.stripe_objects import Dispute, Intent, Refund

_FAILURES_MAX = 2
_LASTS_LONG_S = 86_400.0


class Banks:
    """`pending` counts what is going to happen; `note` is told of what does."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, random: Random, stripe: Account, plan: Plan, note: Callable[[str], None]
    ) -> None:
        self.pending = 0
        self._loop = loop
        self._random = random
        self._stripe = stripe
        self._plan = plan
        self._note = note
        self._nobody = contextvars.Context()
        self._failures: dict[str, int] = {}

    def moved(self, intent: Intent, what: str) -> None:
        """Let what has just happened have consequences, now and then."""
        if what == "authorized" and self._plan.authorization_lasts_s < _LASTS_LONG_S:
            self._loop.call_later(self._plan.authorization_lasts_s, self._stripe.lapse, intent, context=self._nobody)
        elif what == "captured":
            if self._random.random() < self._plan.disputed:
                self._later(self._random.choice((5, 40, 300)), self._begin_dispute, intent)
            if self._random.random() < self._plan.refunded_by_hand:
                self._later(self._random.choice((5, 40, 300)), self._refund_by_hand, intent)

    def refunded(self, refund: Refund) -> None:
        """Let a new refund end: at once, later, not at all, or be thrown back after it was done."""
        if refund.status is RefundStatus.PENDING or self._random.random() < self._plan.refund_fails:
            self._conclude_later(self._random.uniform(5, 200), refund)

    def _later(self, in_s: float, act: Callable[..., None], *about: Any) -> None:
        self.pending += 1
        wait_s = in_s * self._random.uniform(0.5, 1.5) * self._plan.banks_pace
        self._loop.call_later(wait_s, self._now, act, about, context=self._nobody)

    def _now(self, act: Callable[..., None], about: tuple[Any, ...]) -> None:
        self.pending -= 1
        act(*about)

    def _conclude_later(self, in_s: float, refund: Refund) -> None:
        self._stripe.unsettled.add(refund.id)
        self._later(in_s, self._conclude, refund)

    def _conclude(self, refund: Refund) -> None:
        self._stripe.unsettled.discard(refund.id)
        if refund.status in REFUND_WITHOUT_EFFECT:
            return
        failures = self._failures.get(refund.intent.id, 0)
        if failures < _FAILURES_MAX and self._random.random() < self._plan.refund_fails:
            self._failures[refund.intent.id] = failures + 1
            stays = refund.status is RefundStatus.PENDING and self._random.random() < 0.4
            self._stripe.conclude(refund, RefundStatus.CANCELED if stays else RefundStatus.FAILED)
            if not stays and self._random.random() < 0.4:
                self._later(1, self._begin_dispute, refund.intent)
        elif refund.status is RefundStatus.PENDING:
            self._stripe.conclude(refund, RefundStatus.SUCCEEDED)
            if self._random.random() < self._plan.refund_fails:
                self._conclude_later(300, refund)

    def _refund_by_hand(self, intent: Intent) -> None:
        """Let somebody give back in the dashboard what is left, or a part of it."""
        left = intent.received - self._stripe.gone(intent)
        amount = left if self._random.random() < 0.5 else left // 2
        if amount > 0 and intent.status is PaymentStatus.CAPTURED:
            self._note(f"{amount} of {intent.id} is refunded by hand")
            self._stripe.refund(intent.id, amount, {})
            if self._random.random() < 0.3:
                self._later(200, self._refund_by_hand, intent)

    def _begin_dispute(self, intent: Intent) -> None:
        if any(dispute.intent is intent for dispute in self._stripe.disputes.values()):
            return  # one is enough: what banks do has to come to an end
        first = DisputeStatus.INQUIRY if self._random.random() < self._plan.inquiries else DisputeStatus.OPEN
        dispute = self._stripe.dispute(intent, first)
        if dispute:
            self._note(f"{intent.id} is disputed")
            self._later(self._random.choice((1, 200)), self._go_on, dispute)

    def _go_on(self, dispute: Dispute) -> None:
        """Let a dispute take its next turn, until it is decided, or was only asked about."""
        match dispute.status:
            case DisputeStatus.INQUIRY:
                following = self._random.choice((DisputeStatus.INQUIRY_CLOSED, DisputeStatus.OPEN))
            case DisputeStatus.INQUIRY_CLOSED if self._random.random() < 0.5:
                following = DisputeStatus.OPEN
            case DisputeStatus.OPEN:
                following = self._random.choice((DisputeStatus.WON, DisputeStatus.LOST))
            case _:
                return
        takes = following is DisputeStatus.OPEN
        if takes and self._stripe.gone(dispute.intent) + dispute.amount > dispute.intent.received:
            following = DisputeStatus.INQUIRY_CLOSED  # the money is back already: there is nothing to take
            if dispute.status is following:
                return
        self._stripe.decide(dispute, following)
        if following is DisputeStatus.WON and self._random.random() < 0.5:
            self._later(self._random.choice((0.02, 2)), self._refund_by_hand, dispute.intent)
        self._later(self._random.choice(self._plan.banks_decide_s if takes else (1, 200)), self._go_on, dispute)
