"""What every answer of the system must look like, and how long a test waits for one, written once for all tests."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest

T = TypeVar("T")

# Stands in bad requests where a secret or a name might, and must not come back in an answer or a log.
CANARY = "canary-4f1d9a"

_MEMBERS = {"type", "title", "status", "code", "detail", "instance", "request_id", "trace_id", "retryable"}


def seen(response: httpx.Response) -> str:
    """Return the exchange in one readable line, for the message of a failing test."""
    asked = response.request
    return f"{asked.method} {asked.url.path} -> {response.status_code} {dict(response.headers)} {response.text[:1500]}"


def answered(response: httpx.Response, *statuses: int) -> Any:
    """Return the JSON body of an answer that has one of these statuses (200 when none is given)."""
    assert response.status_code in (statuses or (200,)), seen(response)
    assert response.headers.get("request-id"), seen(response)
    return response.json()


def refused(response: httpx.Response, status: int, *codes: str) -> dict[str, Any]:
    """Return the problem document of a refusal, after checking that it is a whole one with one of these codes."""
    assert response.status_code == status, seen(response)
    assert response.headers["content-type"].startswith("application/problem+json"), seen(response)
    document: dict[str, Any] = response.json()
    assert document.keys() >= _MEMBERS, f"missing {_MEMBERS - document.keys()}: {seen(response)}"
    assert document["code"] in codes, seen(response)
    assert document["status"] == status, seen(response)
    assert document["type"] == "/problems/" + document["code"].lower().replace("_", "-"), seen(response)
    assert document["request_id"] == response.headers["request-id"], seen(response)
    assert "Traceback" not in response.text, seen(response)
    if status in {429, 503}:
        assert int(response.headers["retry-after"]) >= 1, seen(response)
        assert document["retry_after_ms"] > 0, seen(response)
    return document


def refused_as(answer: httpx.Response, *expected: tuple[int, str]) -> dict[str, Any]:
    """Check the refusal and that it repeats nothing of what was sent."""
    assert (answer.status_code, answer.json().get("code")) in expected, seen(answer)
    assert CANARY not in answer.text, seen(answer)
    return refused(answer, answer.status_code, *(code for _, code in expected))


def eventually(
    ask: Callable[[], T], is_right: Callable[[T], bool], *, within_s: float = 10.0, every_s: float = 0.05
) -> T:
    """Ask until the answer is right; fail with what was last seen when `within_s` seconds have passed."""
    end = time.monotonic() + within_s
    while True:
        last = ask()
        if is_right(last):
            return last
        if time.monotonic() > end:
            shown = seen(last) if isinstance(last, httpx.Response) else repr(last)
            pytest.fail(f"not within {within_s:g} s; last seen: {shown}")
        time.sleep(every_s)


async def until_it_is_answered(call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Make a call again as long as it is told 503, as its text says: on a starved machine a row's lock takes over 3 s."""
    for _ in range(10):
        answer = await call()
        if answer.status_code != 503:
            break
        await asyncio.sleep(refused(answer, 503, "SERVICE_UNAVAILABLE")["retry_after_ms"] / 1000)
    return answer
