"""Each test gets a till of its own, on swept tables, and may leave no invariant violated."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.embedded.postgres import Postgres
from tests.observed_moves import made_as_marked
from tests.payment.till import Till, open_till


@pytest.fixture(scope="session")
def till_database_url(postgres: Postgres, payment_template: str) -> Iterator[str]:
    """One database for all tills: sweeping its tables is quicker than making a new one for each test."""
    postgres.create_database("till", template=payment_template)
    yield postgres.url("till")
    postgres.drop_database("till")


@pytest.fixture
async def till(
    request: pytest.FixtureRequest, till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Till]:
    """payment_service in this process; after the test its own audit finds nothing, and what it is marked to do is done."""
    async with open_till(till_database_url, tmp_path, monkeypatch) as till:
        await till.sweep()
        async with made_as_marked(request.node.iter_markers("makes_move"), till.sql):
            yield till
        assert await till.violated() == {}
