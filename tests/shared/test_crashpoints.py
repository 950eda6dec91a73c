"""A crash point costs nothing until it is armed, and then ends the process at exactly that pass."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.crashpoints import arm, crashpoint, external_call


class Died(Exception):
    """Stands in for SIGKILL."""


def die() -> None:
    raise Died


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm(None)


def test_nothing_happens_until_it_is_armed() -> None:
    """Unarmed, or armed elsewhere, a point lets everybody pass."""
    crashpoint("here")
    arm("there", die)
    crashpoint("here")


def test_an_armed_point_is_reached() -> None:
    """Armed, the first pass dies; disarmed, it is harmless again."""
    arm("here", die)
    with pytest.raises(Died):
        crashpoint("here")
    arm(None)
    crashpoint("here")


def test_the_nth_pass_dies_and_only_that() -> None:
    """`name#3` lets two pass, kills the third, and lets the fourth pass: a restarted process is not killed again."""
    arm("here#3", die)
    crashpoint("here")
    crashpoint("here")
    with pytest.raises(Died):
        crashpoint("here")
    crashpoint("here")


async def test_an_external_call_has_a_point_on_either_side() -> None:
    """Before: the call is not made; after: it is made, and what it brought is lost."""
    made = []

    async def call() -> None:
        async with external_call("pay"):
            made.append("call")

    arm("pay.before", die)
    with pytest.raises(Died):
        await call()
    assert not made
    arm("pay.after", die)
    with pytest.raises(Died):
        await call()
    assert made == ["call"]


async def test_a_call_that_raises_is_no_crash() -> None:
    """An error inside leaves through the block as it is."""
    arm("pay.after", die)
    with pytest.raises(ValueError, match="weather"):
        async with external_call("pay"):
            raise ValueError("weather")


@pytest.mark.parametrize(("armed_at", "passes"), [("here", 0), ("here#2", 1)])
def test_the_environment_arms_it_and_it_is_really_a_kill(armed_at: str, passes: int) -> None:
    """D4: `HOLDFAST_CRASH_AT` ends the process by SIGKILL, no `finally` runs."""
    code = (
        "from shared.crashpoints import crashpoint\n"
        "try:\n"
        "    for _ in range(5):\n"
        "        crashpoint('here'); print('passed', flush=True)\n"
        "finally:\n"
        "    print('cleaned up', flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HOLDFAST_CRASH_AT": armed_at},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.splitlines() == ["passed"] * passes
