"""The bad weather is no fiction: what a mode promises is seen from outside, and between two bouts Redis is well."""

import random
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from deploy.embedded.valkey import find_valkey
from tests.redis_weather.weather import MODES, bad_redis

_WITHIN_S = 8.0


def seen_now(url: str) -> str:
    """Return how Redis is: `well`, `forgetful` (a key of a moment ago is gone), or how it fails."""
    with Redis.from_url(url, socket_timeout=0.1, socket_connect_timeout=0.1, retry=Retry(NoBackoff(), 0)) as redis:
        try:
            known = redis.get("key")
            redis.set("key", "here")
        except RedisError as error:
            return type(error).__name__
    return "well" if known else "forgetful"


@pytest.mark.steady_redis
@pytest.mark.parametrize(
    ("mode", "bad"), [("killed", "ConnectionError"), ("flushed", "forgetful"), ("silent", "TimeoutError")]
)
def test_a_mode_does_what_it_says(tmp_path: Path, mode: str, bad: str) -> None:
    """R01, R02, R03: well, bad, and well again; and the run is told how often."""
    if find_valkey() is None:
        pytest.skip("there is no Valkey on this machine")
    bouts = list[int]()
    with bad_redis(mode, tmp_path, random.Random(7), bouts.append) as url:
        seen_now(url)
        for wanted in ("well", bad, "well"):
            end = time.monotonic() + _WITHIN_S
            while (seen := seen_now(url)) != wanted:
                assert time.monotonic() < end, f"{mode}: {wanted} was never seen, last {seen}"
                time.sleep(0.01)
    assert bouts[0] > 0


def test_absent_means_no_address(tmp_path: Path) -> None:
    """R01: the mode `absent` runs nothing, and every mode says what it means."""
    with bad_redis("absent", tmp_path, random.Random(7), pytest.fail) as url:
        assert url == ""
    assert all(MODES.values())
