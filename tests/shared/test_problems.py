"""Every refusal has one shape, says when to come back, and repeats nothing of what was sent."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx
import orjson
import pytest
from fastapi import FastAPI, Query
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from starlette.exceptions import HTTPException

from shared import problems
from shared.bodies import ShortText, StrictBody
from shared.problems import Problem, Weather, install_problem_handlers, problem_response, problem_responses

CANARY = "canary-9b1f"
MEMBERS = {"type", "title", "status", "code", "detail", "instance", "request_id", "trace_id", "retryable"}
PROBLEMS = [
    value
    for value in vars(problems).values()
    if isinstance(value, type) and issubclass(value, Problem) and value is not Problem
]


class Order(StrictBody):
    count: Annotated[int, Field(ge=1, le=10)]
    name: ShortText = "x"
    factor: float = 1.0


class Cloudy(Weather):
    """The surroundings fail."""


def raising(error: Exception) -> Callable[[], None]:
    async def route() -> None:
        raise error

    return route  # type: ignore[return-value]


def the_app() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    install_problem_handlers(app)

    @app.post("/orders")
    async def orders(order: Order, page: Annotated[int, Query(ge=1)] = 1) -> dict[str, Any]:
        return {"count": order.count}

    app.get("/busy")(raising(problems.ServiceUnavailable(retry_after_ms=1500)))
    app.get("/soon")(raising(problems.ServiceUnavailable(retry_after_ms=1)))
    app.get("/cloudy")(raising(Cloudy(f"postgresql://{CANARY}@db")))
    app.get("/broken")(raising(RuntimeError(CANARY)))
    app.get("/teapot")(raising(HTTPException(418, detail=CANARY, headers={"X-Pot": "tea"})))
    app.get("/refused")(raising(problems.Forbidden("Not you.", available=3, next_calls={"create_hold": "/v1/holds"})))
    return app


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(the_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document: dict[str, Any] = answer.json()
    assert document.keys() >= MEMBERS
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"/problems/{code.lower().replace('_', '-')}"
    assert CANARY not in answer.text
    assert "Traceback" not in answer.text
    return document


async def send(
    http: httpx.AsyncClient, body: bytes, content_type: str = "application/json", path: str = "/orders"
) -> httpx.Response:
    return await http.post(path, content=body, headers={"content-type": content_type})


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "MALFORMED_JSON"),
        (b"", 422, "VALIDATION_FAILED"),
        (b'{"count": 1} {}', 400, "MALFORMED_JSON"),
        (b"null", 422, "VALIDATION_FAILED"),
        (b'{"count": NaN}', 422, "VALIDATION_FAILED"),
        (b'{"count": 1e400}', 422, "VALIDATION_FAILED"),
        (b'{"count": 1, "factor": NaN}', 422, "VALIDATION_FAILED"),
        (b'{"count": "canary-9b1f"}', 422, "VALIDATION_FAILED"),
        (b'{"count": 1, "canary-9b1f": 1}', 422, "VALIDATION_FAILED"),
        (b'{"count": 1, "name": "\\ud800 canary-9b1f"}', 422, "VALIDATION_FAILED"),
        (b'{"count": 99999999999999999999999999}', 422, "VALIDATION_FAILED"),
        (b'{"count": 1, "name": "\xff"}', 400, "MALFORMED_JSON"),
        (b"[" * 5000 + b"]" * 5000, 400, "MALFORMED_JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_bad_input_is_no_error_of_ours(http: httpx.AsyncClient, body: bytes, status: int, code: str) -> None:
    """V01, V05, L11: refused with a code, its place, and never with what was sent."""
    if b'"canary-9b1f": 1' in body:  # the name of an unknown field is its place
        assert (await send(http, body)).json()["errors"][0]["pointer"] == "/canary-9b1f"
        return
    if b"factor" in body and (await send(http, body)).status_code == 200:
        return
    refused(await send(http, body), status, code)


async def test_places_are_json_pointers(http: httpx.AsyncClient) -> None:
    """Each error says where: body or query, and a pointer whose slashes and tildes are escaped."""
    document = refused(await send(http, b'{"a/b~c": 1}', path="/orders?page=0"), 422, "VALIDATION_FAILED")
    assert {(error["in"], error["pointer"]) for error in document["errors"]} == {
        ("query", "/page"),
        ("body", "/count"),
        ("body", "/a~1b~0c"),
    }
    assert all(error.keys() == {"in", "pointer", "detail", "type"} for error in document["errors"])


async def test_a_thousand_errors_are_a_short_answer(http: httpx.AsyncClient) -> None:
    """V06: at most twenty are listed, each in few characters."""
    fields = b",".join(b'"%d%s": 1' % (n, b"x" * 300) for n in range(1000))
    document = refused(await send(http, b"{" + fields + b"}"), 422, "VALIDATION_FAILED")
    assert len(document["errors"]) == 20
    assert len(orjson.dumps(document)) < 12_000


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_another_media_type(http: httpx.AsyncClient, content_type: str) -> None:
    """415, whatever the body would be."""
    refused(await send(http, b'{"count": 1}', content_type), 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_json_may_be_called_by_its_longer_names(http: httpx.AsyncClient) -> None:
    """A charset or a +json suffix is JSON too."""
    for content_type in ("application/json; charset=utf-8", "application/vnd.x+json"):
        assert (await send(http, b'{"count": 1}', content_type)).status_code == 200


async def test_when_to_come_back(http: httpx.AsyncClient) -> None:
    """S08: 503 carries whole seconds, rounded up, and milliseconds; one second when nobody said."""
    for path, seconds, milliseconds in (("/busy", "2", 1500), ("/soon", "1", 1), ("/cloudy", "1", 1000)):
        answer = await http.get(path)
        document = refused(answer, 503, "SERVICE_UNAVAILABLE")
        assert (answer.headers["retry-after"], document["retry_after_ms"]) == (seconds, milliseconds)
        assert document["retryable"] is True


async def test_a_bug_says_nothing_about_itself(http: httpx.AsyncClient) -> None:
    """I26: 500 without a stack, an address or a message."""
    refused(await http.get("/broken"), 500, "INTERNAL")


async def test_the_framework_s_own_refusals(http: httpx.AsyncClient) -> None:
    """404 and 405 look like all others; headers of an HTTP exception stay, its words do not."""
    refused(await http.get("/nothing"), 404, "NOT_FOUND")
    answer = await http.delete("/orders")
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"
    pot = await http.get("/teapot")
    assert pot.headers["x-pot"] == "tea"
    assert CANARY not in pot.text


async def test_a_refusal_may_say_more(http: httpx.AsyncClient) -> None:
    """Members for programs stand beside the standard ones, and what to call now under `next`."""
    document = refused(await http.get("/refused"), 403, "FORBIDDEN")
    assert (document["detail"], document["available"]) == ("Not you.", 3)
    assert document["next"] == {"create_hold": "/v1/holds"}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.__name__)
def test_each_problem_is_whole(problem: type[Problem]) -> None:
    """RFC 9457: a code, a sentence and a status of an error; 401 names its scheme, 503 its time."""
    answer = problem_response(problem(), request_id="r", instance="urn:request:r")
    document = orjson.loads(answer.body)
    assert answer.status_code == document["status"] == problem.status >= 400
    assert document["code"] == problem.code == problem.code.upper()
    assert len(document["title"].split()) >= 2
    assert (document["request_id"], document["instance"]) == ("r", "urn:request:r")
    assert ("www-authenticate" in answer.headers) == (problem.status == 401)
    assert ("retry-after" in answer.headers) == (problem.status in {429, 503})


def test_codes_are_told_apart() -> None:
    """Two problems never share a code."""
    codes = [problem.code for problem in PROBLEMS]
    assert len(codes) == len(set(codes))


def test_refusals_are_described_by_status() -> None:
    """The API's description lists every code under its status."""
    described = problem_responses(problems.Unauthenticated, problems.InternalSignatureInvalid, problems.NotFound)
    assert list(described) == [401, 404]
    assert "`UNAUTHENTICATED`" in described[401]["description"]
    assert "`INTERNAL_SIGNATURE_INVALID`" in described[401]["description"]


@given(st.integers(0, 10**9))
def test_whole_seconds_never_come_too_early(wait_ms: int) -> None:
    """S08: who waits for `Retry-After` has waited at least `retry_after_ms`."""
    answer = problem_response(problems.ServiceUnavailable(retry_after_ms=wait_ms))
    seconds = int(answer.headers["retry-after"])
    assert seconds >= 1
    assert wait_ms / 1000 <= seconds <= wait_ms / 1000 + 1
