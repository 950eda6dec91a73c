"""The watch over the invariants: what it finds is a metric, and never two processes look at once."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from shared.database import Database
from shared.invariant_watch import InvariantWatch
from shared.invariants import Invariant, only_one_checks
from shared.process_metrics import ProcessMetrics

INVARIANTS = (
    Invariant("never", "nothing is ever found", "SELECT 1 WHERE false"),
    Invariant("twice", "two rows are always found", "SELECT n FROM generate_series(1, 2) AS n"),
)


@pytest.fixture
async def database(payment_database_url: str) -> AsyncIterator[Database]:
    database = Database.connect(payment_database_url, application_name="tests")
    yield database
    await database.close()


def told(metrics: ProcessMetrics, invariant: str) -> float | None:
    return metrics.registry.get_sample_value("invariant_violations", {"id": invariant})


async def test_what_is_found_is_a_metric(database: Database) -> None:
    """One number per invariant, zero included, and the time of the check."""
    metrics = ProcessMetrics(CollectorRegistry())
    assert await InvariantWatch(database, INVARIANTS, metrics).check() == 0
    assert (told(metrics, "never"), told(metrics, "twice")) == (0.0, 2.0)
    assert metrics.registry.get_sample_value("invariants_checked_timestamp_seconds")


async def test_one_process_checks_at_a_time(database: Database) -> None:
    """Who comes while another one checks says nothing; an audit is too dear to be made twice at once."""
    metrics = ProcessMetrics(CollectorRegistry())
    async with database.transaction("test") as other:
        assert await only_one_checks(other)
        await InvariantWatch(database, INVARIANTS, metrics).check()
        assert told(metrics, "twice") is None
        await other.execute(text("SELECT 1"))
    await InvariantWatch(database, INVARIANTS, metrics).check()
    assert told(metrics, "twice") == 2.0
