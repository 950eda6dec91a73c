"""Limits of the public API: exact in a crowd, told in headers, not evaded, and never in the way of anything else."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from reservation_service.api.client_address import ClientAddresses
from reservation_service.clients.fast_redis import FastRedis
from reservation_service.clients.rate_counter import ProcessCounter, Quota, RateCounter
from reservation_service.flags import RATE_LIMITING
from reservation_service.metrics import Metrics
from reservation_service.settings import ReservationSettings
from shared.clock import SystemClock
from shared.flags import Override
from tests.answers import answered, refused
from tests.doubles.fault_proxy import BLACK_HOLE, FaultProxy, latency
from tests.figures import tell
from tests.reservation.box_office import BoxOffice, Customer, open_box_office

MINUTE = 60_000_000
# What the service does unless it is told otherwise, whatever the environment of these tests says.
DEFAULTS = {
    name: field.default for name, field in ReservationSettings.model_fields.items() if name.startswith("rate_limit_")
}


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.s = 1000.0

    def monotonic(self) -> float:
        return self.s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.s, UTC)


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.steady_redis), "alone"])
def counted_by(request: pytest.FixtureRequest, redis_url: str) -> str:
    """Both engines: the address of a Redis, and none."""
    if request.param == "redis" and not redis_url:
        pytest.skip("there is no Valkey on this machine")
    return redis_url if request.param == "redis" else ""


@asynccontextmanager
async def limited_office(database_url: str, redis_url: str = "", **changed: Any) -> AsyncIterator[BoxOffice]:
    """The service with its limits as in production, but for a budget that a busy machine can keep."""
    async with open_box_office(
        database_url, redis_url=redis_url, **{**DEFAULTS, "redis_budget_ms": 250, **changed}
    ) as office:
        yield office


@asynccontextmanager
async def calling_from(office: BoxOffice, address: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client with an address of its own, so that no test uses up what another one has."""
    random = Random(uuid4().int)
    here = address or ".".join(str(random.randint(1, 254)) for _ in range(4))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(office.app, client=(here, 1)), base_url="http://test"
    ) as http:
        yield http


def metric(office: BoxOffice, name: str, **labels: str) -> float:
    return office.parts.metrics.registry.get_sample_value(f"reservation_{name}_total", labels) or 0.0


def told(answer: httpx.Response) -> dict[str, tuple[int, int]]:
    """Read the RateLimit header: policy -> (remaining, seconds until whole again)."""
    items = [item.split(";") for item in answer.headers["ratelimit"].split(", ")]
    return {name.strip('"'): (int(r.removeprefix("r=")), int(t.removeprefix("t="))) for name, r, t in items}


async def guest_of(office: BoxOffice, http: httpx.AsyncClient) -> Customer:
    return Customer(http, answered(await http.post("/v1/guest-sessions"), 201)["token"])


async def test_the_eleventh_hold_of_a_minute_is_refused(reservation_database_url: str, counted_by: str) -> None:
    """Ten pass, the next one is told which limit it was and when to come back; other customers are not touched."""
    async with limited_office(reservation_database_url, counted_by, max_active_holds=50) as office:
        offer, guest = await office.offer(capacity=50), office.customer()
        for number in range(10):
            answer = await guest.hold(offer)
            assert answer.status_code == 201
            assert told(answer)["user-holds"][0] == 9 - number
        assert answer.headers["ratelimit-policy"] == (
            '"user-holds";q=10;w=60, "caller-burst";q=200;w=2, "caller-day";q=10000;w=86400'
        )
        eleventh = await guest.hold(offer)
        problem = refused(eleventh, 429, "RATE_LIMITED")
        assert (problem["policy"], problem["retryable"]) == ("user-holds", True)
        assert 0 < problem["retry_after_ms"] <= 6000
        assert eleventh.headers["retry-after"] == str(-(-problem["retry_after_ms"] // 1000))
        assert told(eleventh)["user-holds"][0] == 0
        assert (await office.customer().hold(offer)).status_code == 201
        assert await office.free(offer) == 39
        assert metric(office, "rate_limited", policy="user-holds") == 1
        assert metric(office, "rate_limit_counts", counted_by="redis" if counted_by else "process") > 10


async def test_a_refused_request_uses_nothing_up(reservation_database_url: str, counted_by: str) -> None:
    """Many refusals later the other limits of the same caller have counted only what has passed."""
    async with limited_office(reservation_database_url, counted_by, max_active_holds=50) as office:
        offer, guest = await office.offer(capacity=50), office.customer()
        tally = Counter([(await guest.hold(offer)).status_code for _ in range(30)])
        assert tally == {201: 10, 429: 20}
        seen = await guest.ask("GET", "/v1/reservations")
        assert told(seen)["caller-day"][0] == 10_000 - 11


async def test_a_replay_counts_too(reservation_database_url: str) -> None:
    """The same call again is a request like any other: the eleventh one is refused, and its hold is still there."""
    async with limited_office(reservation_database_url) as office:
        offer, guest = await office.offer(), office.customer()
        answers = [await guest.hold(offer, key="k") for _ in range(11)]
        assert [answer.status_code for answer in answers] == [201] * 10 + [429]
        assert (await guest.see_hold(answers[0].json()["id"])).status_code == 200


async def test_exactly_ten_of_a_thousand_pass(reservation_database_url: str, counted_by: str) -> None:
    """A thousand calls of one customer at once, through two processes: exactly ten are let in by Redis."""
    changed = {"max_active_holds": 50}
    async with (
        limited_office(reservation_database_url, counted_by, **changed) as one,
        limited_office(reservation_database_url, counted_by, **changed) as other,
    ):
        offer, sub = await one.offer(capacity=50), f"rush-{uuid4()}"
        doors = [one.customer(sub), other.customer(sub)] if counted_by else [one.customer(sub)]
        answers = await asyncio.gather(*(doors[number % len(doors)].hold(offer) for number in range(1000)))
        assert Counter(answer.status_code for answer in answers) == {201: 10, 429: 990}
        assert await one.free(offer) == 40


@pytest.mark.steady_redis
async def test_a_thousand_calls_share_few_round_trips(redis_url: str) -> None:
    """Callers of one moment are counted in groups, and different keys do not disturb each other."""
    if not redis_url:
        pytest.skip("there is no Valkey on this machine")
    redis, metrics = FastRedis(redis_url, SystemClock(), budget_s=5.0), Metrics(CollectorRegistry())
    trips, run = [], redis.run

    async def counted(*arguments: Any, **options: Any) -> list[Any]:
        trips.append(1)
        return await run(*arguments, **options)

    redis.run = counted  # type: ignore[method-assign]
    counter, names = RateCounter(redis, metrics, SystemClock()), [uuid4().hex for _ in range(50)]
    tallies = await asyncio.gather(*(counter.hit([Quota(names[number % 50], 10, 6_000_000)]) for number in range(1000)))
    await redis.close()
    assert sum(tally.refused_by is None for tally in tallies) == 500
    assert len(trips) <= 10


async def test_what_is_never_limited(reservation_database_url: str) -> None:
    """Operators, the other service, probes and metrics pass however small the limits are, and carry no such headers."""
    tiny = dict.fromkeys(DEFAULTS, 1)
    async with limited_office(reservation_database_url, **tiny) as office:
        for _ in range(3):
            for path, status in (("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/admin/v1/sagas", 200)):
                answer = await office.operator().ask("GET", path)
                assert (answer.status_code, "ratelimit" in answer.headers) == (status, False)
            assert (await office.http.post("/internal/v1/payment-events", json={})).status_code == 401
        async with calling_from(office) as http:
            assert [(await http.get("/v1/experiences")).status_code for _ in range(2)] == [200, 429]


async def test_guests_are_counted_by_address(reservation_database_url: str) -> None:
    """Twenty guest sessions a minute for one address, and its guests share a hundred holds; others are not touched."""
    async with (
        limited_office(reservation_database_url, rate_limit_guest_holds_per_minute=15) as office,
        calling_from(office) as http,
        calling_from(office) as elsewhere,
    ):
        offer = await office.offer(capacity=50)
        guests = [await guest_of(office, http) for _ in range(20)]
        refusal = await http.post("/v1/guest-sessions")
        assert refused(refusal, 429, "RATE_LIMITED")["policy"] == "guest-sessions"
        answers = [await guest.hold(offer) for guest in guests]
        assert [answer.status_code for answer in answers] == [201] * 15 + [429] * 5
        assert answers[-1].json()["policy"] == "guest-holds"
        stranger = await guest_of(office, elsewhere)
        assert (await stranger.hold(offer)).status_code == 201
        known = Customer(http, office.customer().token)
        assert (await known.hold(offer)).status_code == 201


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X_FORWARDED_FOR", "Forwarded", "X-Real-IP"])
async def test_headers_do_not_evade_a_limit(reservation_database_url: str, header: str) -> None:
    """X08: rotating whatever a client may say about its address changes nothing."""
    async with limited_office(reservation_database_url) as office, calling_from(office) as http:
        answers = [
            await http.post("/v1/guest-sessions", headers={header: f"198.51.100.{number}"}) for number in range(25)
        ]
        assert [answer.status_code for answer in answers] == [201] * 20 + [429] * 5


async def test_a_trusted_proxy_speaks_for_its_clients(reservation_database_url: str) -> None:
    """TRUSTED_PROXIES: each client behind the proxy has its own count, and cannot hide behind an invented one."""
    async with (
        limited_office(reservation_database_url, trusted_proxies="10.0.0.0/8") as office,
        calling_from(office, "10.1.2.3") as http,
    ):
        for client in ("198.51.100.7", "198.51.100.8"):
            statuses = [
                (
                    await http.post("/v1/guest-sessions", headers={"X-Forwarded-For": f"203.0.113.{n}, {client}"})
                ).status_code
                for n in range(21)
            ]
            assert statuses == [201] * 20 + [429]


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.9, 10.0.0.7"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.1", [], "198.51.100.1"),
    ],
)
def test_whose_address_counts(peer: str, forwarded: Sequence[str], found: str) -> None:
    """X08, L13: the last hop that our own proxies vouch for; one subscriber's IPv6 network is one client."""
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    assert ClientAddresses(("10.0.0.0/8",)).of({"type": "http", "client": (peer, 1), "headers": headers}) == found


@pytest.mark.steady_redis
@pytest.mark.parametrize("trouble", ["away", "black hole"])
async def test_without_redis_the_process_counts_on(reservation_database_url: str, redis_url: str, trouble: str) -> None:
    """R01, R02, L8, L13: Redis goes away after five holds: five more pass, quickly; the metric tells who counted."""
    if not redis_url:
        pytest.skip("there is no Valkey on this machine")
    with FaultProxy(int(redis_url.rpartition(":")[2].partition("/")[0])) as proxy:
        async with limited_office(
            reservation_database_url, f"redis://127.0.0.1:{proxy.port}/0", max_active_holds=50
        ) as office:
            offer, guest = await office.offer(capacity=50), office.customer()
            before = [(await guest.hold(offer)).status_code for _ in range(5)]
            assert metric(office, "rate_limit_counts", counted_by="redis") >= 5
            proxy.inject(BLACK_HOLE)
            if trouble == "away":
                proxy.heal()
                proxy._run(proxy._close())
            began = time.monotonic()
            after = [(await guest.hold(offer)).status_code for _ in range(15)]
            assert before + after == [201] * 10 + [429] * 10
            assert time.monotonic() - began < 3
            assert metric(office, "rate_limit_counts", counted_by="fallback") >= 5
            assert trouble == "away" or proxy.fired


@pytest.mark.steady_redis
async def test_a_slow_redis_does_not_stall_the_loop(redis_url: str) -> None:
    """L13, R02: Redis 60 ms away from a budget of 30: every caller is answered within it, and the loop turns freely."""
    if not redis_url:
        pytest.skip("there is no Valkey on this machine")
    lags: list[float] = []

    async def heartbeat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            lags.append(time.monotonic() - began - 0.005)

    with FaultProxy(int(redis_url.rpartition(":")[2].partition("/")[0])) as proxy:
        redis = FastRedis(f"redis://127.0.0.1:{proxy.port}/0", SystemClock(), budget_s=0.03)
        counter = RateCounter(redis, Metrics(CollectorRegistry()), SystemClock())
        await counter.hit([Quota(uuid4().hex, 10, 1000)])
        proxy.inject(latency(0.06))
        beating = asyncio.create_task(heartbeat())
        began = time.monotonic()
        tallies = await asyncio.gather(*(counter.hit([Quota(uuid4().hex, 10, 1000)]) for _ in range(20)))
        took = time.monotonic() - began
        beating.cancel()
        await redis.close()
    assert all(tally.refused_by is None for tally in tallies)
    assert proxy.fired
    assert took < 0.5  # stock slowapi: more than a second, with a loop that stands still all the while
    assert max(lags) < 0.4


async def test_with_the_flag_off_nobody_is_counted(reservation_database_url: str) -> None:
    """X14: rate_limiting off: no refusal and no headers; on again at once when it is turned on."""
    async with limited_office(reservation_database_url, max_active_holds=50) as office:
        offer, guest = await office.offer(capacity=50), office.customer()
        flags, database = office.parts.flags, office.parts.database
        await flags.set(database, RATE_LIMITING, Override(enabled=False), by="test", reason="test")
        answers = [await guest.hold(offer) for _ in range(15)]
        assert {answer.status_code for answer in answers} == {201}
        assert "ratelimit" not in answers[0].headers
        await flags.set(database, RATE_LIMITING, Override(enabled=True), by="test", reason="test")
        assert "ratelimit" in (await guest.hold(offer)).headers


async def test_the_library_reads_no_settings_by_itself(
    reservation_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would let RATELIMIT_STORAGE_URL choose an engine; only our own settings count."""
    monkeypatch.setenv("RATELIMIT_STORAGE_URL", "nonsense://nowhere")
    changed = {"rate_limit_guest_sessions_per_minute": 1}
    async with limited_office(reservation_database_url, **changed) as office, calling_from(office) as http:
        assert [(await http.post("/v1/guest-sessions")).status_code for _ in range(2)] == [201, 429]


@given(waits=st.lists(st.integers(0, 20_000_000), max_size=60))
def test_no_more_than_the_quota_and_what_has_come_back(waits: list[int]) -> None:
    """Whatever the pace, at most `amount` requests plus one per interval gone by pass; a refused one may come in time."""
    clock, quota = Hands(), Quota("k", 10, MINUTE // 10)
    counter, passed, gone_by = ProcessCounter(clock), 0, 0
    for wait in waits:
        clock.s += wait / 1_000_000
        gone_by += wait
        tally = counter.hit([quota])
        if tally.refused_by is None:
            passed += 1
        else:
            clock.s += tally.retry_after_us / 1_000_000 + 1e-5
            gone_by += tally.retry_after_us + 10
            assert counter.hit([quota]).refused_by is None
            passed += 1
        assert passed <= 10 + gone_by // quota.interval_us + 1


def test_a_request_counts_for_all_its_limits_or_for_none() -> None:
    """The second limit refuses: the first one has not moved, and what is taken back may be used again."""
    clock = Hands()
    counter, wide, narrow = ProcessCounter(clock), Quota("wide", 10, 1_000_000), Quota("narrow", 1, 1_000_000)
    assert counter.hit([wide, narrow]).refused_by is None
    refusal = counter.hit([wide, narrow])
    assert (refusal.refused_by, refusal.retry_after_us, refusal.full_again_us) == (1, 1_000_000, [1_000_000, 1_000_000])
    counter.take_back([wide, narrow])
    assert counter.hit([wide, narrow]).refused_by is None


def test_the_memory_is_bounded() -> None:
    """Keys that are whole again are forgotten first; when all are in use, the oldest ones start anew."""
    clock = Hands()
    counter = ProcessCounter(clock, keys_max=100)
    for number in range(1000):
        counter.hit([Quota(f"k{number}", 1, MINUTE)])
        assert len(counter._empty_at_us) <= 101
    clock.s += 61
    counter.hit([Quota("late", 1, MINUTE)])
    counter.hit([Quota("later", 1, MINUTE)])
    assert counter.hit([Quota("later", 1, MINUTE)]).refused_by == 0


async def test_what_counting_costs(redis_url: str) -> None:
    """A figure, not a gate: microseconds per request in memory, and per request of a crowd with Redis."""
    here, quotas = ProcessCounter(SystemClock()), [Quota(f"k{number}", 10**9, 1) for number in range(3)]
    began = time.perf_counter()
    for _ in range(10_000):
        here.hit(quotas)
    tell(f"rate limit, in memory: {(time.perf_counter() - began) * 100:.1f} us per request")
    if redis_url:
        redis = FastRedis(redis_url, SystemClock(), budget_s=5.0)
        counter = RateCounter(redis, Metrics(CollectorRegistry()), SystemClock())
        await counter.hit(quotas)
        began = time.perf_counter()
        for _ in range(10):
            await asyncio.gather(*(counter.hit(quotas) for _ in range(100)))
        tell(f"rate limit, with Redis: {(time.perf_counter() - began) * 1000:.0f} us per request")
        await redis.close()
