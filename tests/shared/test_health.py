"""The probes: what takes a process out of the balancer, and what only degrades it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from shared.health import Health, health_router
from tests.scenarios import fired


class Part:
    """Something that can be down."""

    def __init__(self) -> None:
        self.down = False

    async def check(self) -> None:
        if self.down:
            raise OSError("down")


@pytest.fixture
def database() -> Part:
    return Part()


@pytest.fixture
def cache() -> Part:
    return Part()


@pytest.fixture
def health(database: Part, cache: Part) -> Health:
    return Health({"database": database.check}, {"cache": cache.check})


@pytest.fixture
async def http(health: Health) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(health_router(health))
    assert app.openapi()["paths"] == {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def probe(http: httpx.AsyncClient, path: str) -> tuple[int, str]:
    answer = await http.get(path)
    return answer.status_code, answer.json()["status"]


async def test_a_process_that_starts(http: httpx.AsyncClient, health: Health) -> None:
    """Alive from the first moment, started and ready only when it says so."""
    assert await probe(http, "/livez") == (200, "alive")
    assert await probe(http, "/startupz") == (503, "starting")
    assert await probe(http, "/readyz") == (503, "not_ready")
    health.started = True
    assert await probe(http, "/startupz") == (200, "started")
    assert await probe(http, "/readyz") == (200, "ready")


async def test_what_is_required_and_what_is_not(
    http: httpx.AsyncClient, health: Health, database: Part, cache: Part
) -> None:
    """P01, R01: without its database a process is not ready, but alive; without its cache it is ready and degraded."""
    health.started = True
    cache.down = True
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (200, {"database": "ok", "cache": "degraded"})
    database.down = True
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (503, {"database": "down", "cache": "degraded"})
    assert await probe(http, "/livez") == (200, "alive")
    database.down = cache.down = False
    assert await probe(http, "/readyz") == (200, "ready")
    fired("P01", 1)
    fired("R01", 1)


async def test_a_process_that_drains_gets_no_more(http: httpx.AsyncClient, health: Health) -> None:
    """X11: draining is said, and no new request comes; it is still alive."""
    health.started = health.draining = True
    assert await probe(http, "/readyz") == (503, "draining")
    assert await probe(http, "/livez") == (200, "alive")
