"""The outermost layer: every answer has an id, and no body is read further than it may be long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, generate_latest

from shared.http_edge import API_BODY_LIMIT_BYTES, HttpEdge, request_metric
from shared.problems import install_problem_handlers

ROOMY_BYTES = 200_000


class Edge:
    """An app behind the edge."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.read_bytes = 0
        app = FastAPI(docs_url=None, redoc_url=None)
        install_problem_handlers(app)

        @app.post("/echo")
        @app.post("/roomy")
        async def echo(request: Request) -> Response:
            body = await request.body()
            return Response(str(len(body)), headers={"cache-control": "public"})

        @app.post("/typed")
        async def typed(body: dict[str, Any]) -> int:
            return len(body)

        @app.post("/early")
        async def early(request: Request) -> Response:
            async for chunk in request.stream():
                self.read_bytes += len(chunk)
            return Response("read")

        @app.get("/things/{thing_id}")
        async def thing(thing_id: str) -> str:
            return thing_id

        @app.get("/broken")
        async def broken() -> None:
            raise RuntimeError("bug")

        app.get("/livez")(self._live)
        app.add_middleware(HttpEdge, metric=request_metric(self.registry), body_limits={"/roomy": ROOMY_BYTES})
        self.app = app

    async def _live(self) -> str:
        return "alive"

    def metric(self) -> str:
        page: bytes = generate_latest(self.registry)
        return page.decode()


@pytest.fixture
def edge() -> Edge:
    return Edge()


@pytest.fixture
async def http(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(edge.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def stream(total_bytes: int, chunk_bytes: int = 1000) -> AsyncIterator[bytes]:
    """Send a body in pieces, without saying how long it will be."""
    for _ in range(total_bytes // chunk_bytes):
        yield b" " * chunk_bytes


async def test_every_answer_is_dressed(http: httpx.AsyncClient) -> None:
    """An id of its own, the time it took, and headers against sniffing and caching, unless the route says otherwise."""
    one, other = await http.get("/things/1"), await http.get("/nothing")
    for answer in (one, other):
        assert len(answer.headers["request-id"]) == 32
        assert answer.headers["server-timing"].startswith("app;dur=")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
    assert one.headers["request-id"] != other.headers["request-id"]
    assert other.json()["request_id"] == other.headers["request-id"]
    assert (await http.post("/echo", content=b"x")).headers.get_list("cache-control") == ["public"]


async def test_nothing_of_an_answer_runs_in_a_browser(http: httpx.AsyncClient) -> None:
    """X16: data that a browser is made to show loads nothing, runs nothing and is framed by nobody."""
    for answer in (await http.get("/things/1"), await http.get("/nothing")):
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["strict-transport-security"].startswith("max-age=")


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/things/" + "x" * 5000, {}, 414, "URI_TOO_LONG"),
        ("/things/1?" + "q=1&" * 2000, {}, 414, "URI_TOO_LONG"),
        ("/things/1", {"x-long": "x" * 17_000}, 431, "HEADERS_TOO_LARGE"),
        ("/things/1", {f"x-{n}": "1" for n in range(200)}, 431, "HEADERS_TOO_LARGE"),
        ("/things/1", {"authorization": "Bearer " + "x" * 12_000}, 200, ""),
    ],
    ids=["path", "query", "one header", "many headers", "a large token"],
)
async def test_heads_have_a_size(
    http: httpx.AsyncClient, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    """V06: an address or headers beyond all reason are refused with a code, before anything looks at them."""
    answer = await http.get(path, headers=headers)
    assert answer.status_code == status
    assert not code or answer.json()["code"] == code


async def test_a_bug_has_its_id_too(http: httpx.AsyncClient) -> None:
    """I26: a 500 carries Request-Id like every answer, the one that its document and its log line name."""
    answer = await http.get("/broken")
    assert answer.status_code == 500
    assert answer.json()["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("path", ["/echo", "/typed", "/early"])
async def test_a_long_body_is_refused_while_it_streams(http: httpx.AsyncClient, edge: Edge, path: str) -> None:
    """V06: no length announced; after 64 KiB it is 413, however the route reads its body."""
    answer = await http.post(
        path, content=stream(10 * API_BODY_LIMIT_BYTES), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert answer.headers["request-id"] == answer.json()["request_id"]
    assert edge.read_bytes <= API_BODY_LIMIT_BYTES


async def test_a_body_that_just_fits(http: httpx.AsyncClient) -> None:
    """V06: 64 KiB pass, one byte more does not; a path with a limit of its own has that one."""
    assert (await http.post("/echo", content=b"x" * API_BODY_LIMIT_BYTES)).text == str(API_BODY_LIMIT_BYTES)
    assert (await http.post("/echo", content=b"x" * (API_BODY_LIMIT_BYTES + 1))).status_code == 413
    assert (await http.post("/roomy", content=b"x" * ROOMY_BYTES)).text == str(ROOMY_BYTES)
    assert (await http.post("/roomy", content=stream(ROOMY_BYTES + 1000))).status_code == 413


@pytest.mark.parametrize("length", ["65537", "99999999999999999999", "-1", "1e3", "x", ""])
async def test_an_announced_length_is_believed_when_it_refuses(http: httpx.AsyncClient, length: str) -> None:
    """V06: too long, or no number: refused before a byte is read."""
    answer = await http.post("/echo", content=b"x", headers={"content-length": length})
    assert answer.status_code == 413


async def test_a_length_that_lies(edge: Edge) -> None:
    """V06: ten bytes announced, a hundred thousand sent: what counts is what comes."""
    messages = [{"type": "http.request", "body": b"x" * 1000, "more_body": True} for _ in range(100)]
    status, _ = await exchange(edge.app, [(b"content-length", b"10")], messages)
    assert status == 413


async def test_a_client_that_leaves(edge: Edge) -> None:
    """A disconnect in the middle of the body is no error of the edge's, and is measured as an answer of none."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"x", "more_body": True},
        {"type": "http.disconnect"},
    ]
    try:
        status, _ = await exchange(edge.app, [], messages)
    except Exception as error:  # noqa: BLE001  which one is the framework's choice
        assert "isconnect" in type(error).__name__  # noqa: PT017
    else:
        assert status is None or status >= 400


async def test_a_caller_who_has_gone_meets_no_error_of_ours(edge: Edge) -> None:
    """Whatever we would have answered, nobody has met it: it is counted as 499 and disturbs no alert."""
    messages = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
    with contextlib.suppress(Exception):
        await exchange(edge.app, [], messages)
    assert 'http_response_status_code="499"' in edge.metric()
    assert 'http_response_status_code="5' not in edge.metric()


async def exchange(
    app: Callable[..., Awaitable[None]], headers: list[tuple[bytes, bytes]], messages: list[dict[str, Any]]
) -> tuple[int | None, bytes]:
    """Speak ASGI by hand, as a client that does not keep to HTTP's rules."""
    waiting, sent = list(messages), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/echo",
        "raw_path": b"/echo",
        "query_string": b"",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("127.0.0.1", 1),
        "headers": headers,
    }
    async with asyncio.timeout(5):
        await app(scope, receive, send)
    status = next((message["status"] for message in sent if message["type"] == "http.response.start"), None)
    return status, b"".join(message.get("body", b"") for message in sent)


async def test_answers_are_measured_by_route(http: httpx.AsyncClient, edge: Edge) -> None:
    """X10: the label is the route's template, a path that matches nothing is `unmatched`, probes are not measured."""
    for path in ("/things/1", "/things/2", "/nothing/3", "/livez", "/broken"):
        await http.get(path)
    await http.post("/echo", content=b"x" * 100_000)
    page = edge.metric()
    for route, status, method in (
        ("/things/{thing_id}", 200, "GET"),
        ("unmatched", 404, "GET"),
        ("/broken", 500, "GET"),
    ):
        labels = f'http_request_method="{method}",http_response_status_code="{status}",http_route="{route}"'
        assert f"_count{{{labels}}}" in page, page
    assert "livez" not in page
    assert 'http_response_status_code="413"' in page


async def test_probes_pass_untouched(http: httpx.AsyncClient) -> None:
    """Probes are asked often: nothing is added to them."""
    assert "request-id" not in (await http.get("/livez")).headers


async def test_an_open_stream_is_no_slow_answer() -> None:
    """Server-sent events have answered when they begin: hours of listening do not stand in the latency."""
    ticks = iter((0.0, 0.25, 0.25, 3600.0))
    registry = CollectorRegistry()

    async def stream_of_events(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n"})

    app = HttpEdge(stream_of_events, request_metric(registry), monotonic=lambda: next(ticks))
    assert await exchange(app, [], []) == (200, b"data: 1\n\n")
    [took] = [
        sample.value for metric in registry.collect() for sample in metric.samples if sample.name.endswith("_sum")
    ]
    assert took < 1, took
