"""What tests of reservation_service stand on: databases of their own, and the service running in this very process."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from deploy.embedded.postgres import Postgres
from tests.doubles.fault_proxy import FaultProxy
from tests.observed_moves import made_as_marked
from tests.reservation.box_office import BoxOffice, open_box_office
from tests.reservation.saga_bench import Bench, open_bench
from tests.shared.short_logs import short_logs

__all__ = ["short_logs"]


@pytest.fixture(scope="module")
def module_database_url(postgres: Postgres, reservation_template: str) -> Iterator[str]:
    """One fresh database for a whole module, whose tests each bring their own slots and customers."""
    name = f"module_{uuid4().hex}"
    postgres.create_database(name, template=reservation_template)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
async def open_office(module_database_url: str) -> AsyncIterator[BoxOffice]:
    """The whole service over ASGI, its background work asleep: tests do by hand what the tickers would."""
    async with open_box_office(module_database_url) as office:
        yield office


@pytest.fixture
async def office(request: pytest.FixtureRequest, open_office: BoxOffice) -> AsyncIterator[BoxOffice]:
    """The service, honest neighbours at the start of each test; after it, its own audit must find nothing."""
    open_office.payments.heal()
    async with made_as_marked(request.node.iter_markers("makes_move"), open_office.sql):
        yield open_office
    open_office.payments.heal()
    await open_office.assert_consistent()


@pytest.fixture(scope="module")
async def open_workshop(module_database_url: str) -> AsyncIterator[Bench]:
    """A saga engine on a real database, with nothing that runs by itself."""
    async with open_bench(module_database_url) as bench:
        yield bench


@pytest.fixture
async def bench(open_workshop: Bench) -> AsyncIterator[Bench]:
    """The engine, with honest neighbours and all flags on; after the test the audit must find nothing."""
    open_workshop.reset()
    yield open_workshop
    if not open_workshop.audited:
        await open_workshop.assert_consistent()


@pytest.fixture
def url(redis_url: str) -> str:
    """The address of the Valkey, for tests that are nothing without one."""
    if not redis_url:
        pytest.skip("there is no Valkey on this machine")
    return redis_url


@pytest.fixture
def proxy(url: str) -> Iterator[FaultProxy]:
    """A wire to Valkey that can be cut."""
    with FaultProxy(int(url.rpartition(":")[2].partition("/")[0])) as proxy:
        yield proxy
