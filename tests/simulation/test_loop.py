"""Virtual time passes at once; a world that goes round in circles is ended, one that only takes long is not."""

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from tests.simulation.loop import VirtualLoop

_HOUR_S = 3600.0


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """A loop in which a hundred things may happen an hour."""
    loop = VirtualLoop(Random("loop"))
    loop.events_max = 100
    yield loop
    loop.close()


async def looks(every_s: float, for_s: float) -> None:
    for _ in range(int(for_s / every_s)):
        await asyncio.sleep(every_s)


async def yields(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def test_what_goes_round_is_ended(loop: VirtualLoop) -> None:
    """As many looks as may be, and far too soon: whoever looks so often finds nothing any more."""
    with pytest.raises(RuntimeError, match="events without end"):
        loop.run_until_complete(looks(every_s=1.0, for_s=_HOUR_S))
    assert loop.virtual_s < _HOUR_S / 10


def test_what_goes_round_before_any_time_has_passed_is_ended(loop: VirtualLoop) -> None:
    """Whoever yields and yields never lets time go on."""
    with pytest.raises(RuntimeError, match="events without end"):
        loop.run_until_complete(yields(1000))
    assert loop.virtual_s == 0


def test_what_takes_long_is_not(loop: VirtualLoop) -> None:
    """A slow bank is looked at for days: many more events in all than an hour may have."""
    loop.run_until_complete(looks(every_s=120.0, for_s=100 * _HOUR_S))
    assert loop.virtual_s == 100 * _HOUR_S
    assert loop.events > 2000
