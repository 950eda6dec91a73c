"""How much one caller may ask for: every limit of the public API, who is counted for it, and how a refusal looks.

slowapi is the front: its limit strings, key functions and refusal. Its engine waits for Redis with the whole process,
and counts limits one by one, so that a refused request has used up some of them; ours is `clients/rate_counter`.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from threading import Timer
from typing import Any, TypeVar, cast

from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from slowapi.wrappers import Limit, LimitGroup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reservation_service.api.client_address import ClientAddresses
from reservation_service.booking.api_keys import is_reseller
from reservation_service.clients.quotas import Bucket, Left, Quota, Window
from reservation_service.clients.rate_counter import RateCounter, Tally
from reservation_service.errors import RateLimited
from reservation_service.metrics import Metrics
from reservation_service.settings import ReservationSettings
from shared.auth import TokenVerifier
from shared.crashpoints import external_call
from shared.problems import Unauthenticated, problem_response

_LIMITED = "/v1/"
_GUEST = "sub:guest:"  # no other token may carry such a subject
_US = 1_000_000
Default = TypeVar("Default")


def by_customer(request: Request) -> str:
    """Name whoever the token belongs to; nobody without one, and then the limit is not counted."""
    caller = request.scope.get("caller")
    return f"sub:{caller.subject}" if caller else ""


def by_person(request: Request) -> str:
    """Name a customer; a reseller's key books for many, and only its calls are counted."""
    caller = request.scope.get("caller")
    return "" if caller and is_reseller(caller) else by_customer(request)


def by_address(request: Request) -> str:
    return f"address:{request.scope['client_address']}"


def by_caller(request: Request) -> str:
    return by_customer(request) or by_address(request)


def by_guests_address(request: Request) -> str:
    """Name the address of an anonymous customer: a guest is as cheap as the next call of POST /v1/guest-sessions."""
    return by_address(request) if by_customer(request).startswith(_GUEST) else ""


@dataclass(frozen=True, eq=False)  # there is one of each, and what is looked up by them is found by identity
class Policy:
    """One limit, as slowapi reads it; with a `burst` it refills evenly, without one it is never passed in any stretch."""

    limit: Limit
    burst: int | None = None

    @cached_property
    def name(self) -> str:
        return self.limit.scope

    @cached_property
    def announced(self) -> str:
        """Return the policy as the `RateLimit-Policy` header writes it."""
        return f'"{self.name}";q={self.burst or self.limit.limit.amount};w={_whole_seconds(self._back_after_us)}'

    def quota(self, who: str) -> Quota:
        """Return what counts for somebody."""
        key = f"{self.name}:{who}"
        if self.burst:
            return Bucket(key, self.burst, self._interval_us)
        return Window(key, self._amount, self._span_us)

    def left(self, left: Left) -> str:
        """Return what is left of it as the `RateLimit` header writes it; `t` says when the quota is whole again."""
        return f'"{self.name}";r={left.requests};t={_whole_seconds(left.full_again_us)}'

    @cached_property
    def _amount(self) -> int:
        return int(self.limit.limit.amount)

    @cached_property
    def _span_us(self) -> int:
        return int(self.limit.limit.get_expiry()) * _US

    @cached_property
    def _interval_us(self) -> int:
        return int(self._span_us // self.limit.limit.amount)

    @cached_property
    def _back_after_us(self) -> int:
        return self.burst * self._interval_us if self.burst else self._span_us


def policy(name: str, rate: str, who: Callable[[Request], str], *, burst: int | None = None) -> Policy:
    """Declare a limit. `rate` is slowapi's `10/minute`, and holds for any minute; with `burst`, that many at once."""
    [limit] = list(LimitGroup(rate, who, name, False, None, None, None, 1, False))
    return Policy(limit, burst)


class TooManyRequests(RateLimitExceeded):
    """slowapi's refusal, with what the answer needs to say."""

    def __init__(self, limit: Limit, retry_after_us: int, headers: dict[str, str]) -> None:
        super().__init__(limit)
        self.policy: str = limit.scope
        self.retry_after_ms = -(-retry_after_us // 1000)
        self.what_is_left = headers


class RateLimits(Limiter):
    """Every limit of this service, and the one place where they are changed."""

    def __init__(
        self, settings: ReservationSettings, counter: RateCounter, enabled: Callable[[str], bool], metrics: Metrics
    ) -> None:
        super().__init__(key_func=by_caller)
        self._silence_the_librarys_engine()
        self._counter = counter
        self._is_on = enabled
        self._metrics = metrics
        self._everywhere = (
            policy(
                "caller-burst",
                f"{settings.rate_limit_caller_per_second}/second",
                by_caller,
                burst=settings.rate_limit_caller_burst,
            ),
            policy("caller-day", f"{settings.rate_limit_caller_per_day}/day", by_caller),
        )
        self._at = {
            ("POST", "/v1/holds"): (
                policy("user-holds", f"{settings.rate_limit_holds_per_minute}/minute", by_person),
                policy("guest-holds", f"{settings.rate_limit_guest_holds_per_minute}/minute", by_guests_address),
                *self._everywhere,
            ),
            ("POST", "/v1/guest-sessions"): (
                policy("guest-sessions", f"{settings.rate_limit_guest_sessions_per_minute}/minute", by_address),
                *self._everywhere,
            ),
            ("POST", "/v1/reservations/lookup"): (
                policy("lookups", f"{settings.rate_limit_lookups_per_hour}/hour", by_address),
                *self._everywhere,
            ),
        }
        self._guesses = policy("lookups-of-one", f"{settings.rate_limit_lookups_per_reference}/hour", by_caller)
        for each in (self._guesses, *self._everywhere, *chain.from_iterable(self._at.values())):
            metrics.rate_limited.labels(each.name)  # a line at 0, or the first refusals of all would not be seen

    def get_app_config(self, key: str, default_value: Default | None = None) -> Any:  # noqa: ARG002  slowapi's signature
        """Keep slowapi from looking into the environment and `.env` by itself: our settings are in `settings.py`."""
        return default_value

    def _silence_the_librarys_engine(self) -> None:
        """End the thread that slowapi's memory starts with; nothing ever asks that memory, so none follows."""
        timer: Timer = cast(Any, self._storage).timer
        timer.cancel()
        timer.join()

    async def admit_guess(self, request: Request, about: str) -> None:
        """Count a guess about one thing, whoever makes it and whether there is such a thing. Raises RateLimited (429)."""
        if not self._is_on(by_caller(request)):
            return
        tally = await self._count([self._guesses.quota(f"about:{about}")])
        if tally.refused_by is not None:
            self._metrics.rate_limited.labels(self._guesses.name).inc()
            raise RateLimited(retry_after_ms=-(-tally.retry_after_us // 1000), policy=self._guesses.name)

    async def admit(self, request: Request) -> dict[str, str]:
        """Count a request; return the headers that tell its caller what is left. Raises TooManyRequests (429)."""
        if not self._is_on(by_caller(request)):
            return {}
        asked = [
            (each, who)
            for each in self._at.get((request.method, request.scope["path"]), self._everywhere)
            if (who := each.limit.key_func(request))
        ]
        policies = tuple(each for each, _ in asked)
        tally = await self._count([each.quota(who) for each, who in asked])
        headers = _headers(policies, tally)
        if tally.refused_by is not None:
            refusing = policies[tally.refused_by]
            self._metrics.rate_limited.labels(refusing.name).inc()
            raise TooManyRequests(refusing.limit, tally.retry_after_us, headers)
        return headers

    async def _count(self, quotas: Sequence[Quota]) -> Tally:
        async with external_call("count_request"):
            return await self._counter.hit(quotas)


class RateLimitDoor:
    """Lets nothing under /v1 in uncounted; operators, probes, metrics and the other service are nobody's rush."""

    def __init__(
        self,
        app: ASGIApp,
        limits: RateLimits,
        tokens: TokenVerifier,
        addresses: ClientAddresses,
        routes: Sequence[BaseRoute],
    ) -> None:
        self._app = app
        self._limits = limits
        self._tokens = tokens
        self._addresses = addresses
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_LIMITED):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        await self._recognise(request)
        try:
            headers = await self._limits.admit(request)
        except TooManyRequests as refusal:
            self._route(scope)
            await too_many_requests(request, refusal)(scope, receive, send)
            return
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *raw]}
            await send(message)

        await self._app(scope, receive, send_with_headers)

    async def _recognise(self, request: Request) -> None:
        """Note who calls and from where; the endpoint finds a verified caller there and need not verify again."""
        request.scope["client_address"] = self._addresses.of(request.scope)
        authorization = request.headers.get("authorization")
        if authorization:
            with contextlib.suppress(Unauthenticated):
                request.scope["caller"] = await self._tokens.caller(authorization)

    def _route(self, scope: Scope) -> None:
        """Note which route was asked for, as the router does that a refused request never reaches: metrics count by it."""
        asked_for = dict(scope)  # matching leaves notes in it
        matching = (route for route in self._routes if route.matches(asked_for)[0] is not Match.NONE)
        if (route := next(matching, None)) is not None:
            scope["route"] = route


def too_many_requests(request: Request, refusal: TooManyRequests) -> Response:
    """Render the refusal as a problem that says which limit it was and when to come back."""
    request_id = request.scope.get("request_id", "")
    problem = RateLimited(retry_after_ms=refusal.retry_after_ms, policy=refusal.policy)
    response = problem_response(problem, request_id=request_id, instance=f"urn:request:{request_id}")
    response.headers.update(refusal.what_is_left)
    return response


def _headers(policies: tuple[Policy, ...], tally: Tally) -> dict[str, str]:
    """Return the two fields of the IETF's draft (draft-ietf-httpapi-ratelimit-headers)."""
    left = [each.left(left) for each, left in zip(policies, tally.left, strict=True)]
    return {"RateLimit-Policy": _announced(policies), "RateLimit": ", ".join(left)}


@lru_cache(64)
def _announced(policies: Sequence[Policy]) -> str:
    return ", ".join(each.announced for each in policies)


def _whole_seconds(us: int) -> int:
    return -(-us // _US)
