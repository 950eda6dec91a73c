"""Each test gets a till of its own, on a fresh database, and may leave no invariant violated."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.payment.till import Till, open_till


@pytest.fixture
async def till(payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Till]:
    """payment_service in this process; after the test its own audit finds nothing."""
    async with open_till(payment_database_url, tmp_path, monkeypatch) as till:
        yield till
        assert await till.violated() == {}
