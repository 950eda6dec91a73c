"""Questions to the provider at a pace: what a burst of events makes us ask never uses up what the provider allows.

Guests' own payments go to the same account; a backlog of events may take its time, they may not wait for it. Nor for
the many who only want to know how their payment stands.
"""

from collections.abc import Sequence
from typing import Any

from payment_service.gateway.guarded import GuardedGateway
from payment_service.gateway.results import DisputeSeen, IntentSeen, RefundSeen, Result
from shared.clock import Clock
from shared.payment_contract import Outcome

_AT_ONCE_S = 0.2


class Pace:
    """So many turns per second; a fifth of a second's worth of them may be taken at once."""

    def __init__(self, per_s: float, clock: Clock) -> None:
        self._gap_s = 1 / per_s
        self._clock = clock
        self._spent_until = clock.monotonic()

    async def turn(self, deadline: float) -> bool:
        """Wait for a turn; False, and none is taken, when it would come after the deadline."""
        now = self._clock.monotonic()
        wait_s = max(self._spent_until - _AT_ONCE_S - now, 0.0)
        if now + wait_s > deadline:
            return False
        self._spent_until = max(self._spent_until, now) + self._gap_s
        if wait_s:
            await self._clock.sleep(wait_s)
        return True


class PacedGateway:
    """The gateway as events, reads and comparisons use it: questions only, each in its turn, at one pace for all."""

    def __init__(self, provider: GuardedGateway, pace: Pace) -> None:
        self._provider = provider
        self._pace = pace

    def budget(self, budget_s: float) -> float:
        """Return the deadline of work that may spend `budget_s` on all its questions together."""
        return self._provider.budget(budget_s)

    async def retrieve_intent(self, intent_id: str, *, deadline: float) -> Result[IntentSeen]:
        if not await self._pace.turn(deadline):
            return _no_turn()
        return await self._provider.retrieve_intent(intent_id, deadline=deadline)

    async def retrieve_refund(self, stripe_refund_id: str, *, deadline: float) -> Result[RefundSeen]:
        if not await self._pace.turn(deadline):
            return _no_turn()
        return await self._provider.retrieve_refund(stripe_refund_id, deadline=deadline)

    async def retrieve_dispute(self, dispute_id: str, *, deadline: float) -> Result[DisputeSeen]:
        if not await self._pace.turn(deadline):
            return _no_turn()
        return await self._provider.retrieve_dispute(dispute_id, deadline=deadline)

    async def list_refunds(self, intent_id: str, *, deadline: float) -> Result[Sequence[RefundSeen]]:
        if not await self._pace.turn(deadline):
            return _no_turn()
        return await self._provider.list_refunds(intent_id, deadline=deadline)


def _no_turn() -> Result[Any]:
    return Result(Outcome.NOT_SENT, code="out_of_turn")
