"""A system of its own: it is asked for payments of bookings that nobody made, which the audit of a shared one would find."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.embedded.postgres import Postgres
from tests.surroundings import open_stack
from tests.system import System


@pytest.fixture
def system(
    tmp_path: Path,
    postgres: Postgres,
    redis_url: str,
    reservation_template: str,
    payment_template: str,
) -> Iterator[System]:
    """Both services and the sandbox; after the test, both services' own audits must be clean."""
    with (
        open_stack(tmp_path, postgres, redis_url, name="fuzz") as stack,
        httpx.Client(timeout=20.0, trust_env=False) as http,  # nobody is killed here, so connections are kept
    ):
        system = System(stack, http)
        yield system
        system.assert_consistent()
