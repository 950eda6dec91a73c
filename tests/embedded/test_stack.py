"""The stack the tests drive: parts can be replaced, killed, restarted with other settings, and doubled."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from deploy.embedded.postgres import Postgres
from deploy.embedded.processes import StartFailed
from deploy.embedded.stack import Stack
from tests.embedded.conftest import gone_within

_DATABASES = ("stack_api_reservation", "stack_api_payment")


@pytest.fixture(scope="module")
def environ(postgres: Postgres, reservation_template: str, payment_template: str) -> Mapping[str, str]:
    """A user's environment: databases of their own, no Redis."""
    for name, template in zip(_DATABASES, (reservation_template, payment_template), strict=True):
        postgres.create_database(name, template=template)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STRIPE_")}
    reservation, payment = (postgres.url(name) for name in _DATABASES)
    return inherited | {"RESERVATION_DATABASE_URL": reservation, "PAYMENT_DATABASE_URL": payment, "REDIS_URL": ""}


class WatchedStack(Stack):
    """Remembers which parts were running when it turned to the databases."""

    early: frozenset[str] = frozenset()

    def _prepare_databases(self, began: float) -> None:
        self.early = frozenset(name for name in self.parts() if self.alive(name))
        super()._prepare_databases(began)


@pytest.fixture(scope="module")
def own_stack(environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedStack]:
    """A stack for this page alone, because its parts are treated badly."""
    with WatchedStack(tmp_path_factory.mktemp("stack"), environ=environ) as running:
        yield running


def test_what_the_user_brings_is_not_started(own_stack: Stack, environ: Mapping[str, str]) -> None:
    """With databases of one's own and no Redis, only the sandbox and the services run, and they use what was given."""
    assert own_stack.parts() == ("sandbox", "payment", "reservation")
    assert own_stack.database_url("payment") == environ["PAYMENT_DATABASE_URL"]
    assert own_stack.url("valkey") == ""


def test_services_load_while_their_databases_are_prepared(own_stack: WatchedStack) -> None:
    """Two seconds of loading and one of migrating are not one after the other."""
    assert own_stack.early == {"sandbox", "payment", "reservation"}


def test_a_killed_part_comes_back_on_its_port_with_other_settings(own_stack: Stack) -> None:
    """Kill and restart are seen by others as an outage of the same address; the new setting is in force and stays."""
    address = own_stack.url("reservation")
    own_stack.kill("reservation")
    assert not own_stack.alive("reservation")
    assert own_stack.exit_code("reservation") == -signal.SIGKILL
    own_stack.restart("reservation", env={"HOLD_TTL_SECONDS": "7"})
    assert own_stack.url("reservation") == address
    assert httpx.get(f"{address}/readyz", timeout=5).status_code == 200
    assert own_stack.exit_code("reservation") is None


def test_a_stopped_part_leaves_by_itself(own_stack: Stack) -> None:
    """SIGTERM is enough for each service and for the sandbox: none has to be killed at the deadline."""
    for name in own_stack.parts():
        own_stack.stop(name)
        assert own_stack.exit_code(name) in {0, -signal.SIGTERM}, own_stack.log_tail(name)
    for name in own_stack.parts():
        own_stack.launch(name)
    for name in own_stack.parts():
        own_stack.wait_ready(name)


def test_a_replica_serves_the_same_database(own_stack: Stack) -> None:
    """Two processes of one service are normal; each has its own address."""
    replica = own_stack.add_replica("reservation")
    assert own_stack.url(replica) != own_stack.url("reservation")
    lists = [httpx.get(f"{own_stack.url(name)}/v1/experiences", timeout=5).json() for name in ("reservation", replica)]
    assert lists[0] == lists[1]
    own_stack.stop(replica)


def test_an_operator_s_token_opens_the_admin_door(own_stack: Stack) -> None:
    """The token fits both services."""
    headers = {"Authorization": f"Bearer {own_stack.operator_token()}"}
    for service in ("reservation", "payment"):
        answer = httpx.get(f"{own_stack.url(service)}/admin/v1/invariants", headers=headers, timeout=10)
        assert answer.status_code == 200, answer.text


def test_a_part_that_cannot_start_is_named_and_nothing_is_left(environ: Mapping[str, str], tmp_path: Path) -> None:
    """The error carries the log of the part that failed; the parts that had started are stopped again."""
    stack = Stack(tmp_path, environ=environ, extra_env={"payment": {"PAYMENT_PORT": "not-a-port"}})
    with pytest.raises(StartFailed, match=r"payment ended with exit code(.|\n)*PAYMENT_PORT"):
        stack.start()
    assert not any(stack.alive(name) for name in stack.parts())
    assert gone_within(str(tmp_path), 5)


def test_a_database_of_the_user_s_that_is_away_is_told(environ: Mapping[str, str], tmp_path: Path) -> None:
    """An address that nobody answers is a sentence at the start, not a service that dies later."""
    away = {**environ, "PAYMENT_DATABASE_URL": "postgresql+asyncpg://nobody@127.0.0.1:1/none"}
    with pytest.raises(StartFailed, match="cannot be reached"):
        Stack(tmp_path, environ=away).start()
