"""The wires between everybody: seeded to refuse, lose, delay and hold back what they carry, on the way there and back.

A message that has left goes on by itself: whoever gave up waiting, or died, does not take it back.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any

import httpx
import orjson

from payment_service.gateway.results import Result
from shared.payment_contract import Outcome
from shared.problems import Problem, Weather
from tests.simulation.processes import Cut, Doing, NotConnected, pass_out
from tests.simulation.stripe_double import Account

Act = Callable[[], Any]
"""What happens where a message arrives: it answers at once, or with a `Doing` that will."""

_BUSY_S = 2.0
_OUTAGES_S = (5.0, 40.0, 200.0)


@dataclass
class Trouble:
    """How likely what goes wrong is, for each message of one link."""

    refused: float = 0.0
    lost: float = 0.0
    answer_lost: float = 0.0
    late: float = 0.0
    inner_error: float = 0.0
    busy: float = 0.0
    answer_late: float = 0.0
    breaks_off: float = 0.0


class Wire:
    """One link. `heal` ends all trouble; messages on their way go on."""

    def __init__(self, random: Random, trouble: Trouble) -> None:
        self._random = random
        self._trouble = trouble
        self._alone = contextvars.Context()
        self._down_until_s = 0.0
        self.in_flight = 0
        self.carried = 0
        self.faults = 0

    def heal(self) -> None:
        self._trouble = Trouble()
        self._down_until_s = 0.0

    def _hits(self, probability: float) -> bool:
        hit = probability > 0 and self._random.random() < probability
        self.faults += hit
        return hit

    def fails_inside(self) -> bool:
        """Tell whether the other end trips over itself, before or after it has acted."""
        return self._hits(self._trouble.inner_error)

    def is_busy(self) -> bool:
        return self._hits(self._trouble.busy)

    def either(self) -> bool:
        return self._random.random() < 0.5

    async def call(self, act: Act) -> Any:
        """Let `act` happen at the other end and bring its answer back. Raises NotConnected, Cut."""
        await pass_out()
        loop = asyncio.get_running_loop()
        if loop.time() < self._down_until_s or self._hits(self._trouble.refused):
            await asyncio.sleep(self._latency_s())
            raise NotConnected
        answer: asyncio.Future[Any] = loop.create_future()
        self.in_flight += 1
        self.carried += 1
        if self._hits(self._trouble.lost):
            loop.call_later(self._latency_s() * 40, self._fails, answer, Cut(), context=self._alone)
        else:
            way_s = self._random.uniform(4, 60) if self._hits(self._trouble.late) else self._latency_s()
            loop.call_later(way_s, self._arrives, act, answer, context=self._alone)
        told = await answer
        await pass_out()
        return told

    def _arrives(self, act: Act, answer: asyncio.Future[Any]) -> None:
        try:
            doing = act()
        except (Problem, Weather, Cut, NotConnected) as error:
            self._fails(answer, error)
            return
        if isinstance(doing, Doing):
            doing.then(lambda told, error: self._goes_back(answer, told, error))
        else:
            self._goes_back(answer, doing, None)

    def _goes_back(self, answer: asyncio.Future[Any], told: Any, error: BaseException | None) -> None:
        if error is None:
            loop = asyncio.get_running_loop()
            way_s = self._random.uniform(1, 12) if self._hits(self._trouble.answer_late) else self._latency_s()
            loop.call_later(way_s, self._comes_back, answer, told, context=self._alone)
        else:
            self._fails(answer, error)

    def _comes_back(self, answer: asyncio.Future[Any], told: Any) -> None:
        if self._hits(self._trouble.breaks_off):
            self._down_until_s = asyncio.get_running_loop().time() + self._random.choice(_OUTAGES_S)
            self._fails(answer, Cut())
            return
        if self._hits(self._trouble.answer_lost):
            self._fails(answer, Cut())
            return
        self.in_flight -= 1
        if not answer.done():
            answer.set_result(told)

    def _fails(self, answer: asyncio.Future[Any], error: BaseException) -> None:
        self.in_flight -= 1
        if not answer.done():
            answer.set_exception(error)

    def _latency_s(self) -> float:
        return self._random.uniform(0.001, 0.08)


class Requests:
    """What a client of ours sees in place of `httpx.AsyncClient`; `serve` is the other service's door."""

    def __init__(self, wire: Wire, serve: Callable[[Any], Any]) -> None:
        self._wire = wire
        self._serve = serve

    def build_request(self, method: str, path: str, *, content: Any = None, headers: Any = None) -> Any:
        return SimpleNamespace(method=method, url=path, content=content or b"", headers=dict(headers or {}))

    async def send(self, request: Any) -> Any:
        try:
            return await self._wire.call(lambda: self._serve(request))
        except NotConnected as error:
            raise httpx.ConnectError("refused") from error
        except Cut as error:
            raise httpx.ReadError("cut") from error


class NoSeal:
    """Signatures have tests of their own."""

    def put_on(self, *_request: Any) -> None:
        pass


def answer(status: int, content: bytes) -> Any:
    """Return what a client reads of a response."""
    return SimpleNamespace(
        status_code=status, content=content, is_server_error=status >= 500, json=lambda: orjson.loads(content)
    )


def refused(error: Exception) -> Any:
    """Return the problem that a door makes of an exception."""
    if isinstance(error, Problem):
        return answer(error.status, orjson.dumps({"code": error.code}))
    return answer(503, orjson.dumps({"code": "SERVICE_UNAVAILABLE"}))


class WiredGateway:
    """`StripeGateway`'s methods over a wire to the double; each failure is told as the real one tells it."""

    def __init__(self, wire: Wire, account: Account) -> None:
        self._wire = wire
        self._account = account

    async def _ask(self, act: Callable[[], Result[Any]]) -> Result[Any]:
        def there() -> Result[Any]:
            if self._wire.is_busy():
                return Result(Outcome.NOT_SENT, code="rate_limited", retry_after_s=_BUSY_S, again=True)
            return act()

        try:
            answer: Result[Any] = await self._wire.call(there)
        except NotConnected:
            return Result(Outcome.NOT_SENT, code="provider_unreachable", again=True, sick=True)
        except Cut:
            return Result(Outcome.UNKNOWN, code="no_answer", again=True, sick=True)
        return answer

    async def _act(self, key: str, act: Callable[[], Result[Any]]) -> Result[Any]:
        """Act under a key; an inner error of Stripe's may come before or after the effect, and is kept under the key."""

        def there() -> Result[Any]:
            fails = key not in self._account.keys and self._wire.fails_inside()
            nothing = fails and self._wire.either()
            return self._account.keyed(key, (lambda: Result(Outcome.UNKNOWN)) if nothing else act, fails=fails)

        return await self._ask(there)

    async def create_intent(
        self, *, amount: int, currency: str, capture_method: str, metadata: Any, key: str
    ) -> Result[Any]:
        return await self._act(key, lambda: self._account.create(amount, currency, capture_method, metadata))

    async def retrieve_intent(self, intent_id: str) -> Result[Any]:
        return await self._ask(lambda: self._account.retrieve(intent_id))

    async def capture_intent(self, intent_id: str, *, key: str) -> Result[Any]:
        return await self._act(key, lambda: self._account.capture(intent_id))

    async def cancel_intent(self, intent_id: str, *, key: str) -> Result[Any]:
        return await self._act(key, lambda: self._account.cancel(intent_id))

    async def intents_of(self, payment_id: Any, *, since: Any, until: Any, after: Any) -> Result[Any]:
        return await self._ask(lambda: self._account.find(payment_id))

    async def create_refund(self, *, intent_id: str, amount: int, metadata: Any, key: str) -> Result[Any]:
        return await self._act(key, lambda: self._account.refund(intent_id, amount, metadata))

    async def retrieve_refund(self, stripe_refund_id: str) -> Result[Any]:
        return await self._ask(lambda: Result(Outcome.OK, self._account.refunds[stripe_refund_id].seen()))

    async def retrieve_dispute(self, dispute_id: str) -> Result[Any]:
        return await self._ask(lambda: self._account.retrieve_dispute(dispute_id))

    async def list_refunds(self, intent_id: str) -> Result[Any]:
        return await self._ask(lambda: self._account.list_refunds(intent_id))

    async def list_events(self, types: Any, *, since: Any, until: Any, after: Any) -> Result[Any]:
        return await self._ask(lambda: self._account.list_events(types, since, until))

    async def list_intents(self, *, since: Any, until: Any, after: Any) -> Result[Any]:
        return await self._ask(lambda: self._account.list_intents(since, until))
