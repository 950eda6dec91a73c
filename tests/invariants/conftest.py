"""The smallest ground on which each promise can be broken: one service in this process, its neighbour a double."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.payment.till import Till, open_till
from tests.reservation.box_office import BoxOffice, open_box_office
from tests.reservation.saga_bench import Bench, open_bench


@pytest.fixture
async def office(reservation_database_url: str) -> AsyncIterator[BoxOffice]:
    """reservation_service over ASGI with nothing that runs by itself; after the test its own audit finds nothing."""
    async with open_box_office(reservation_database_url) as office:
        yield office
        await office.assert_consistent()


@pytest.fixture
async def bench(reservation_database_url: str) -> AsyncIterator[Bench]:
    """Saga engines that are driven by hand; after the test the service's own audit finds nothing."""
    async with open_bench(reservation_database_url) as bench:
        yield bench
        await bench.assert_consistent()


@pytest.fixture
async def till(payment_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Till]:
    """payment_service with no ticker, its line to the Stripe sandbox in our hands; after the test its audit is clean."""
    async with open_till(payment_database_url, tmp_path, monkeypatch) as till:
        yield till
        assert await till.violated() == {}
