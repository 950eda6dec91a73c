"""What races inside one process stand on: the rooms of reservation_service's own tests."""

from collections.abc import AsyncIterator

import pytest

from shared.database import Database
from tests.races.callers import outsider
from tests.reservation.conftest import bench, module_database_url, office, open_office, open_workshop, url
from tests.shared.short_logs import short_logs

__all__ = ["bench", "module_database_url", "office", "open_office", "open_workshop", "short_logs", "url"]


@pytest.fixture
async def other(reservation_database_url: str) -> AsyncIterator[Database]:
    async with outsider(reservation_database_url) as database:
        yield database
