"""Patience with the provider, in one place: an attempt may take so long, be repeated so often, within one budget.

Only this room retries a call at once; what takes minutes belongs to the saga and to the queues. Each attempt passes the
breaker, and a breaker that has opened ends the call.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

import stamina
import structlog
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from payment_service.gateway.breaker import Breaker
from payment_service.gateway.results import DisputeSeen, EventSeen, IntentSeen, Page, RefundSeen, Result
from payment_service.gateway.stripe import StripeGateway
from payment_service.states import Book
from shared.clock import Clock
from shared.payment_contract import Outcome

log = structlog.get_logger()

T = TypeVar("T")

_NOT_IN_TIME = "timeout"


class CallWatch(Protocol):
    """Who wants to know how calls end (metrics)."""

    def called(self, operation: str, outcome: Outcome, took_s: float) -> None: ...


@dataclass(frozen=True)
class Patience:
    """How long and how often one call is tried; all in seconds."""

    attempt_s: float
    max_attempts: int
    first_wait_s: float
    max_wait_s: float


class _TryAgain(Exception):
    """Carries the result of an attempt to the one who decides whether there is another."""

    def __init__(self, result: Result[Any]) -> None:
        super().__init__(result.code)
        self.result = result


@dataclass
class _Course:
    """One call on its way: how many attempts were made, and whether one of them may have had an effect."""

    operation: str
    deadline: float
    attempts: int = 0
    may_have_happened: bool = False


def log_retries_without_arguments() -> None:
    """Replace stamina's own hook, which would log what was sent."""

    def hook(details: RetryDetails) -> None:
        log.info("provider_retry", operation=details.name, attempt=details.retry_num, wait_s=round(details.wait_for, 2))

    set_on_retry_hooks([hook])


class GuardedGateway:
    """The gateway as behaviours use it: every method returns a Result, within `budget_s`, and never raises."""

    def __init__(
        self,
        gateway: StripeGateway,
        patience: Patience,
        breaker: Breaker,
        *,
        clock: Clock,
        retries_enabled: Callable[[], bool],
        watch: CallWatch,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._gateway = gateway
        self._patience = patience
        self._breaker = breaker
        self._clock = clock
        self._retries_enabled = retries_enabled
        self._watch = watch
        self._uniform = uniform

    def budget(self, budget_s: float) -> float:
        """Return the deadline of a behaviour that may spend `budget_s` on all its calls together."""
        return self._clock.monotonic() + budget_s

    async def create_intent(
        self, *, amount: int, currency: str, capture_method: str, metadata: dict[str, str], key: str, deadline: float
    ) -> Result[IntentSeen]:
        return await self._call(
            "create_intent",
            deadline,
            lambda: self._gateway.create_intent(
                amount=amount, currency=currency, capture_method=capture_method, metadata=metadata, key=key
            ),
        )

    async def retrieve_intent(self, intent_id: str, *, deadline: float) -> Result[IntentSeen]:
        return await self._call("retrieve_intent", deadline, lambda: self._gateway.retrieve_intent(intent_id))

    async def capture_intent(self, intent_id: str, *, key: str, deadline: float) -> Result[IntentSeen]:
        return await self._call("capture_intent", deadline, lambda: self._gateway.capture_intent(intent_id, key=key))

    async def cancel_intent(self, intent_id: str, *, key: str, deadline: float) -> Result[IntentSeen]:
        return await self._call("cancel_intent", deadline, lambda: self._gateway.cancel_intent(intent_id, key=key))

    async def find_intent(
        self, payment_id: UUID, *, since: datetime, until: datetime, deadline: float
    ) -> Result[IntentSeen | None]:
        """Look through all intents that were made in a stretch of time for the one that carries our id.

        OK with None proves that there is none. Only the deadline ends the look before the last page.
        """
        read = partial(self._gateway.intents_of, payment_id, since=since, until=until)
        after: str | None = None
        while True:
            page = await self._call("find_intent", deadline, partial(read, after=after))
            if page.value is None:
                return replace(page, value=None)  # type: ignore[return-value]  # nothing of a page is left
            if page.value.items:
                return await self.retrieve_intent(page.value.items[0], deadline=deadline)  # type: ignore[return-value]
            if not page.value.has_more:
                return Result(Outcome.OK, None)
            after = page.value.last_id

    async def create_refund(
        self, *, intent_id: str, amount: int, metadata: dict[str, str], key: str, deadline: float
    ) -> Result[RefundSeen]:
        return await self._call(
            "create_refund",
            deadline,
            lambda: self._gateway.create_refund(intent_id=intent_id, amount=amount, metadata=metadata, key=key),
        )

    async def retrieve_refund(self, stripe_refund_id: str, *, deadline: float) -> Result[RefundSeen]:
        return await self._call("retrieve_refund", deadline, lambda: self._gateway.retrieve_refund(stripe_refund_id))

    async def retrieve_dispute(self, dispute_id: str, *, deadline: float) -> Result[DisputeSeen]:
        return await self._call("retrieve_dispute", deadline, lambda: self._gateway.retrieve_dispute(dispute_id))

    async def export_page(self, book: Book, *, after: str | None, deadline: float) -> Result[Page[Any]]:
        return await self._call("export_page", deadline, lambda: self._gateway.export_page(book, after=after))

    async def list_refunds(self, intent_id: str, *, deadline: float) -> Result[Sequence[RefundSeen]]:
        return await self._call("list_refunds", deadline, lambda: self._gateway.list_refunds(intent_id))

    async def list_events(
        self, types: Sequence[str], *, since: datetime, until: datetime, after: str | None, deadline: float
    ) -> Result[Page[EventSeen]]:
        return await self._call(
            "list_events",
            deadline,
            lambda: self._gateway.list_events(types, since=since, until=until, after=after),
        )

    async def list_intents(
        self, *, since: datetime, until: datetime, after: str | None, deadline: float
    ) -> Result[Page[IntentSeen]]:
        return await self._call(
            "list_intents", deadline, lambda: self._gateway.list_intents(since=since, until=until, after=after)
        )

    async def _call(self, operation: str, deadline: float, attempt: Callable[[], Awaitable[Result[T]]]) -> Result[T]:
        course = _Course(operation, deadline)
        started = self._clock.monotonic()
        result = await self._with_retries(course, attempt)
        if course.may_have_happened and result.outcome is Outcome.NOT_SENT:
            # The last attempt stayed at home, but an earlier one may not have.
            result = replace(result, outcome=Outcome.UNKNOWN)
        self._watch.called(operation, result.outcome, self._clock.monotonic() - started)
        return result

    async def _with_retries(self, course: _Course, attempt: Callable[[], Awaitable[Result[T]]]) -> Result[T]:
        retrying = stamina.retry_context(
            on=lambda error: self._wait_before_next(course, error),
            attempts=self._patience.max_attempts if self._retries_enabled() else 1,
            timeout=None,
        ).with_name(course.operation, (), {})
        try:
            async for trial in retrying:
                with trial:
                    result = await self._attempt(course, attempt)
                    if result.again:
                        raise _TryAgain(result)
                    return result
        except _TryAgain as last:
            return last.result
        raise AssertionError("the loop ends by returning or raising")

    async def _attempt(self, course: _Course, attempt: Callable[[], Awaitable[Result[T]]]) -> Result[T]:
        left_s = course.deadline - self._clock.monotonic()
        if left_s <= 0:
            return Result(Outcome.NOT_SENT, code="out_of_time")
        return await self._breaker.call(
            lambda: self._timed(course, attempt), as_probe=lambda: self._insist(course, attempt)
        )

    async def _insist(self, course: _Course, attempt: Callable[[], Awaitable[Result[T]]]) -> Result[T]:
        """Find out whether the provider is back: one bad answer among good ones shall not cut everybody off again.

        Only answers that came quickly are asked for anew; no answer in time says enough, and others wait for this one.
        """
        result = await self._timed(course, attempt)
        wait_s = self._patience.first_wait_s
        while (
            result.again
            and result.code != _NOT_IN_TIME
            and self._retries_enabled()
            and course.attempts < self._patience.max_attempts
            and self._clock.monotonic() + wait_s < course.deadline
        ):
            await self._clock.sleep(wait_s)
            result = await self._timed(course, attempt)
        return result

    async def _timed(self, course: _Course, attempt: Callable[[], Awaitable[Result[T]]]) -> Result[T]:
        course.attempts += 1
        try:
            async with asyncio.timeout(min(self._patience.attempt_s, course.deadline - self._clock.monotonic())):
                result = await attempt()
        except TimeoutError:
            # Little may have been left of the budget; but then earlier attempts have used it up.
            result = Result(Outcome.UNKNOWN, code=_NOT_IN_TIME, again=True, sick=True)
        course.may_have_happened |= result.outcome is Outcome.UNKNOWN
        return result

    def _wait_before_next(self, course: _Course, error: Exception) -> float | bool:
        """Return the wait in seconds, or False: another attempt must fit the budget, wait included."""
        if not isinstance(error, _TryAgain):
            return False
        patience = self._patience
        ceiling_s = min(patience.max_wait_s, patience.first_wait_s * 2.0**course.attempts)
        wait_s = self._uniform(patience.first_wait_s, max(patience.first_wait_s, ceiling_s))
        wait_s = max(wait_s, error.result.retry_after_s or 0.0)
        fits = self._clock.monotonic() + wait_s < course.deadline
        return wait_s if fits else False
