"""`--redis=MODE`: any test of this suite, in the Redis weather of that mode; what needs a steady Redis is left out and counted."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.embedded.stack import Stack
from deploy.embedded.valkey import Valkey, find_valkey
from tests.redis_weather.weather import MODES, PAUSED_LOCK_TTL_MS, STEADY, bad_redis, paused_holders

MARKER = "steady_redis: asserts what only a Redis can do that is there and well, or makes a weather of its own"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("redis weather")
    group.addoption("--redis", choices=[STEADY, *MODES], default=STEADY, help="what happens to Redis meanwhile")
    group.addoption("--redis-seed", type=int, default=0, help="the moments at which it happens")
    group.addoption("--redis-tally", type=Path, default=None, help="a file that is told how often it happened")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


def leave_out_what_needs_steady_redis(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a steady Redis: a test that cannot fail in this weather must not count as passed in it."""
    if _mode(config) == STEADY:
        return
    left_out = [item for item in items if item.get_closest_marker("steady_redis")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    if _is_first(config):
        _tally(config, "deselected", len(left_out))


@contextmanager
def redis_in_this_weather(config: pytest.Config, folder: Path) -> Iterator[str]:
    """Run Redis for this session; yield its address, which is empty where the machine has none ("run without")."""
    if find_valkey() is None:
        yield ""
    elif _mode(config) == STEADY:
        with Valkey(folder) as server:
            yield server.url
    else:
        with bad_redis(_mode(config), folder, _dice(config), lambda bouts: _tally(config, "bouts", bouts)) as url:
            yield url


@pytest.fixture(scope="session", autouse=True)
def offices_in_this_weather(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give the services that run in this very process the same Redis, which they otherwise do without."""
    if _mode(request.config) == STEADY:
        yield
        return
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("REDIS_URL", request.getfixturevalue("redis_url"))
        yield


@pytest.fixture(scope="session", autouse=True)
def holders_in_this_weather(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the mode `paused`, stop the running service again and again."""
    if _mode(request.config) != "paused":
        yield
        return
    config, stack = request.config, request.getfixturevalue("stack")
    assert isinstance(stack, Stack)
    stack.restart("reservation", env={"SLOT_LOCK_TTL_MS": str(PAUSED_LOCK_TTL_MS)})
    with paused_holders(stack, _dice(config), lambda bouts: _tally(config, "bouts", bouts)):
        yield


def _mode(config: pytest.Config) -> str:
    return str(config.getoption("--redis"))


def _worker(config: pytest.Config) -> str:
    found: dict[str, str] = getattr(config, "workerinput", {})
    return found.get("workerid", "")


def _is_first(config: pytest.Config) -> bool:
    """Tell whether this is the process that speaks for the run: the workers all collect the same."""
    return _worker(config) == "gw0" or (not _worker(config) and not config.getoption("numprocesses", None))


def _dice(config: pytest.Config) -> random.Random:
    return random.Random(f"{config.getoption('--redis-seed')} {_mode(config)} {_worker(config)}")


def _tally(config: pytest.Config, what: str, count: int) -> None:
    file = config.getoption("--redis-tally")
    if file is not None:
        with Path(file).open("a") as lines:
            lines.write(json.dumps({"what": what, "count": count}) + "\n")
