"""Limits of the public API: exact in a crowd, told in headers, not evaded, and never in the way of anything else."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from uuid import uuid4

import httpx
import pytest
from limits.storage import MemoryStorage
from redis.asyncio import Redis

from reservation_service.api.client_address import ClientAddresses
from reservation_service.flags import RATE_LIMITING
from reservation_service.settings import ReservationSettings
from shared.flags import Override
from tests.answers import answered, refused
from tests.doubles.fault_proxy import BLACK_HOLE, FaultProxy
from tests.reservation.box_office import BoxOffice, Customer, open_box_office
from tests.scenarios import fired

# What the service does unless it is told otherwise, whatever the environment of these tests says.
DEFAULTS = {
    name: field.default for name, field in ReservationSettings.model_fields.items() if name.startswith("rate_limit_")
}


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
        database_url, redis_url=redis_url, **{**DEFAULTS, "redis_budget_ms": 20_000, **changed}
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
            assert told(answer)["user-holds"] == (9 - number, 60)
        assert answer.headers["ratelimit-policy"] == (
            '"user-holds";q=10;w=60, "caller-burst";q=200;w=2, "caller-day";q=10000;w=86400'
        )
        eleventh = await guest.hold(offer)
        problem = refused(eleventh, 429, "RATE_LIMITED")
        assert (problem["policy"], problem["retryable"]) == ("user-holds", True)
        assert 45_000 < problem["retry_after_ms"] <= 60_000  # the first of the ten is not a minute old
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
        told = Counter(answer.status_code for answer in answers)
        assert told[429] == 990
        assert told[201] + told[503] == 10  # let in, though a busy machine may have no database for it
        assert await one.free(offer) <= 50 - told[201]


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


async def test_every_limit_has_a_line_from_the_start(reservation_database_url: str) -> None:
    """One that appears with its first refusals has no increase that an alert could see."""
    async with limited_office(reservation_database_url) as office:
        page = (await office.http.get("/metrics")).text
    for policy in (
        "user-holds",
        "guest-holds",
        "guest-sessions",
        "lookups",
        "lookups-of-one",
        "caller-burst",
        "caller-day",
    ):
        assert f'reservation_rate_limited_total{{policy="{policy}"}} 0.0' in page


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
        fired("X08", sum(answer.status_code == 429 for answer in answers))


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
        ("198.51.100.1", ["203.0.113.9", "10.0.0.7, 203.0.113.8"], "198.51.100.1"),
        ("10.0.0.1", ["10.9.9.9, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["nonsense-4711, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, nonsense-4711"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8:1:2::9]:4711"], "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, ::ffff:10.0.0.7"], "203.0.113.9"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.1", [], "198.51.100.1"),
    ],
)
def test_whose_address_counts(peer: str, forwarded: Sequence[str], found: str) -> None:
    """X08, L13: the last hop that our own proxies vouch for; one subscriber's IPv6 network is one client."""
    never_read = [(b"x_forwarded_for", b"192.0.2.1"), (b"forwarded", b"for=192.0.2.1"), (b"x-real-ip", b"192.0.2.1")]
    headers = never_read + [(b"x-forwarded-for", line.encode()) for line in forwarded]
    assert ClientAddresses(("10.0.0.0/8",)).of({"type": "http", "client": (peer, 1), "headers": headers}) == found


TROUBLES = {
    "away": ("R01", ()),
    "black hole": ("R02", ()),
    "read only": ("R08", (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"))),
    "out of memory": ("R08", (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"))),
}


@pytest.mark.steady_redis
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_without_redis_the_process_counts_on(reservation_database_url: str, redis_url: str, trouble: str) -> None:
    """R01, R02, R08, L8, L13: Redis fails after five holds: five more pass, quickly; the metric tells who counted."""
    if not redis_url:
        pytest.skip("there is no Valkey on this machine")
    scenario, commands = TROUBLES[trouble]
    with FaultProxy(int(redis_url.rpartition(":")[2].partition("/")[0])) as proxy:
        async with (
            limited_office(
                reservation_database_url, f"redis://127.0.0.1:{proxy.port}/0", max_active_holds=50, redis_budget_ms=500
            ) as office,
            Redis.from_url(redis_url) as redis,
        ):
            offer, guest = await office.offer(capacity=50), office.customer()
            before = [(await guest.hold(offer)).status_code for _ in range(5)]
            assert metric(office, "rate_limit_counts", counted_by="redis") >= 5
            if trouble == "black hole":
                proxy.inject(BLACK_HOLE)
            elif trouble == "away":
                proxy._run(proxy._close())
            for command in commands[:1]:
                await redis.execute_command(*command)
            try:
                async with asyncio.timeout(
                    30
                ):  # nobody asks a Redis that has just failed: fifteen waits would be longer
                    after = [(await guest.hold(offer)).status_code for _ in range(15)]
            finally:
                for command in commands[1:]:
                    await redis.execute_command(*command)
            assert before + after == [201] * 10 + [429] * 10
            fired(scenario, int(metric(office, "rate_limit_counts", counted_by="fallback")))
            assert metric(office, "rate_limit_counts", counted_by="fallback") >= 5
            assert trouble != "black hole" or proxy.fired


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


async def test_a_refusal_is_measured_under_its_route(reservation_database_url: str) -> None:
    """X10: a 429 is counted under the template of the route that was asked for, and a stranger's path is still no label."""
    async with limited_office(reservation_database_url, rate_limit_caller_per_day=1) as office:
        guest = office.customer()
        await guest.ask("GET", "/v1/reservations")
        for method, path in (("GET", f"/v1/holds/{uuid4()}"), ("DELETE", f"/v1/holds/{uuid4()}"), ("GET", "/v1/none")):
            refused(await guest.ask(method, path), 429, "RATE_LIMITED")
        counted = {
            (sample.labels["http_request_method"], sample.labels["http_route"])
            for metric in office.parts.metrics.requests.collect()
            for sample in metric.samples
            if sample.name.endswith("_count") and sample.labels["http_response_status_code"] == "429"
        }
        assert counted == {("GET", "/v1/holds/{hold_id}"), ("DELETE", "/v1/holds/{hold_id}"), ("GET", "unmatched")}


async def test_the_library_only_lends_its_words(reservation_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The own engine of slowapi, which would stand in the loop's way, is never asked; and no thread of it is left behind."""

    def blocks(*_: object, **__: object) -> None:
        pytest.fail("the library's own engine was asked")

    def lives_long(_after_s: float, act: Callable[[], None]) -> threading.Timer:
        return timer(60.0, act)

    timer = threading.Timer
    monkeypatch.setattr(threading, "Timer", lives_long)
    for name in ("incr", "get", "acquire_entry", "get_moving_window", "get_sliding_window"):
        monkeypatch.setattr(MemoryStorage, name, blocks)
    before = set(threading.enumerate())
    changed = {"rate_limit_guest_sessions_per_minute": 1}
    async with limited_office(reservation_database_url, **changed) as office, calling_from(office) as http:
        assert not [thread for thread in threading.enumerate() if isinstance(thread, timer)]
        assert [(await http.post("/v1/guest-sessions")).status_code for _ in range(2)] == [201, 429]
    assert set(threading.enumerate()) <= before
