"""The ground all tests stand on: one PostgreSQL, one Valkey, fresh databases by template, and one whole running system."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from deploy.embedded.postgres import Postgres
from deploy.embedded.stack import Stack
from tests.audited import violated
from tests.databases import Databases, migrated_template, open_server
from tests.doubles.stripe_sandbox import Stripe
from tests.figures import figures_in
from tests.nursery import serve_warm
from tests.order import long_files_first
from tests.redis_weather.plugin import (
    holders_in_this_weather,
    leave_out_what_needs_steady_redis,
    offices_in_this_weather,
    pytest_addoption,
    pytest_configure,
    redis_in_this_weather,
)
from tests.scenarios import watch
from tests.scenarios.watch import pytest_itemcollected, pytest_sessionfinish
from tests.surroundings import ROOM_FOR_CROWDS, open_stack, template_of
from tests.system import System

__all__ = [
    "holders_in_this_weather",
    "offices_in_this_weather",
    "pytest_addoption",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_sessionfinish",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the tests that suit the Redis weather, and begin with the long ones."""
    leave_out_what_needs_steady_redis(config, items)
    long_files_first(items)


@pytest.fixture(scope="session", autouse=True)
def room_for_crowds() -> Iterator[None]:
    """Let services that run in this very process take crowds too, unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in ROOM_FOR_CROWDS.items():
            environment.setenv(name, value)
        yield


@pytest.fixture(scope="session", autouse=True)
def warm_services() -> Iterator[None]:
    """Services start from a process that has loaded them."""
    with serve_warm():
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One embedded PostgreSQL for the whole run; it need not survive a power cut, so it never waits for the disk."""
    with open_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: Postgres) -> Iterator[Databases]:
    """The hand that makes and drops the databases of single tests."""
    with Databases(postgres) as hand:
        yield hand


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[str]:
    """One Valkey for the whole run; empty, which means "run without", where the machine has none."""
    with redis_in_this_weather(pytestconfig, tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def reservation_template(postgres: Postgres) -> str:
    """A database with all migrations of reservation_service, to be cloned and never connected to."""
    return migrated_template(postgres, "reservation")


@pytest.fixture(scope="session")
def payment_template(postgres: Postgres) -> str:
    """A database with all migrations of payment_service, to be cloned and never connected to."""
    return migrated_template(postgres, "payment")


def _clone(request: pytest.FixtureRequest, postgres: Postgres, databases: Databases, service: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    databases.create(name, template=template_of(service))
    yield postgres.url(name)
    if request.node.get_closest_marker("plants_violations") is None:
        assert violated(postgres.dsn(name), service) == {}, "the database is not as the audit wants it"
    databases.drop(name)


@pytest.fixture
def reservation_database_url(
    request: pytest.FixtureRequest, postgres: Postgres, databases: Databases, reservation_template: str
) -> Iterator[str]:
    """A fresh, migrated database of reservation_service, audited and gone after the test."""
    yield from _clone(request, postgres, databases, "reservation")


@pytest.fixture
def payment_database_url(
    request: pytest.FixtureRequest, postgres: Postgres, databases: Databases, payment_template: str
) -> Iterator[str]:
    """A fresh, migrated database of payment_service, audited and gone after the test."""
    yield from _clone(request, postgres, databases, "payment")


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    redis_url: str,
    reservation_template: str,
    payment_template: str,
) -> Iterator[Stack]:
    """The whole system as real processes: both services and the Stripe sandbox, shared by all tests that ask for it."""
    with open_stack(tmp_path_factory.mktemp("stack"), postgres, redis_url, name="stack") as running:
        yield running


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """One client for all stories. A connection serves one request: a process may be killed between any two."""
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(timeout=20.0, limits=limits, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def stack_system(stack: Stack, http: httpx.Client) -> System:
    """The running system, for fixtures that live longer than a test."""
    return System(stack, http)


@pytest.fixture
def system(stack_system: System) -> Iterator[System]:
    """The running system, whole at the start of each test; after it, both services' own audits must be clean."""
    system = stack_system
    system.heal_what_is_down()
    yield system
    system.heal_what_is_down()
    system.assert_consistent()


@pytest.fixture(scope="module")
def three_books(stack_system: System) -> Iterator[None]:
    """After the last test of a module: bookings, payments and Stripe tell one story, by the product's own audit."""
    yield
    stack_system.heal_what_is_down()
    stack_system.assert_books_agree()


@pytest.fixture
def stripe(system: System, three_books: None) -> Iterator[Stripe]:
    """The Stripe sandbox of the running system; after the test, its book and ours must tell the same story."""
    sandbox = Stripe(system)
    yield sandbox
    system.heal_what_is_down()
    sandbox.assert_books_agree()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the tests have counted, above pytest's own last line."""
    told = [
        f"{figure}   ({report.nodeid})"
        for report in terminalreporter.getreports("passed")
        for figure in figures_in(report.capstdout)
    ]
    if told:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(told))
    watch.show(terminalreporter)
