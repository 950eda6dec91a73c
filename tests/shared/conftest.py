"""What tests of the shared ground stand on: an empty database of their own, and a clock that stands still."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from deploy.embedded.postgres import Postgres
from shared.database import Database
from tests.shared.short_logs import short_logs

__all__ = ["short_logs"]


@dataclass
class StoppedClock:
    """Time that moves only when a test says so."""

    at: datetime = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    ticks_s: float = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.ticks_s

    async def sleep(self, delay_s: float) -> None:
        self.pass_by(delay_s)

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.ticks_s += seconds


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture(scope="module")
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """A database without a single table."""
    name = f"empty_{uuid4().hex}"
    postgres.create_database(name)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    """The empty database behind a pool of two, whose callers wait no longer than 300 ms."""
    database = Database.connect(empty_database_url, application_name="test", pool_size=2, pool_timeout_s=0.3)
    yield database
    await database.close()
