"""Redis on a bad day: what a mode does to it, again and again, while tests run that should not notice."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from redis import Redis

from deploy.embedded.stack import Stack
from deploy.embedded.valkey import Valkey
from tests.doubles.fault_proxy import BLACK_HOLE, FaultProxy

STEADY = "steady"
# What each mode means, in the order in which they are run.
MODES = {
    "absent": "no REDIS_URL",
    "killed": "SIGKILL at random moments, and back within half a second",
    "flushed": "FLUSHALL each second",
    "silent": "a wire that swallows everything, for up to a second",
    "paused": "a holder stopped for longer than its locks live",
}
PAUSED_LOCK_TTL_MS = 100
_PAUSE_S = (0.15, 0.4)  # longer than that


@dataclass
class Bouts:
    """Does something bad on a thread of its own until told to stop; the moments follow the dice."""

    act: Callable[[], None]
    dice: random.Random
    between_s: tuple[float, float]
    count: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._stop.wait(self.dice.uniform(*self.between_s)):
            self.act()
            self.count += 1

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Let it happen for as long as this context is open; a bout that has begun is brought to its end."""
        thread = threading.Thread(target=self.run, name="redis-weather")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


@contextmanager
def bad_redis(mode: str, folder: Path, dice: random.Random, told: Callable[[int], None]) -> Iterator[str]:
    """Run a Valkey to which happens what `mode` says; yield its address, and tell at the end how often it happened."""
    if mode == "absent":
        yield ""
        return
    with Valkey(folder) as server:
        if mode == "silent":
            with FaultProxy(server.port) as wire:
                bouts = Bouts(partial(_fall_silent, wire, dice), dice, (0.5, 2.5))
                with bouts.going_on():
                    yield f"redis://127.0.0.1:{wire.port}/0"
        elif mode == "killed":
            bouts = Bouts(partial(_die_and_rise, server, dice), dice, (0.3, 2.0))
            with bouts.going_on():
                yield server.url
        elif mode == "flushed":
            bouts = Bouts(partial(_forget_all, server.url), dice, (1.0, 1.0))
            with bouts.going_on():
                yield server.url
        else:
            yield server.url
            return
    told(bouts.count)


@contextmanager
def paused_holders(stack: Stack, dice: random.Random, told: Callable[[int], None]) -> Iterator[None]:
    """Stop the reservation service again and again, each time for longer than its locks live."""
    bouts = Bouts(partial(_pause, stack, dice), dice, (0.4, 2.0))
    with bouts.going_on():
        yield
    told(bouts.count)


def _fall_silent(wire: FaultProxy, dice: random.Random) -> None:
    wire.inject(BLACK_HOLE)
    time.sleep(dice.uniform(0.2, 1.0))
    wire.heal()


def _die_and_rise(server: Valkey, dice: random.Random) -> None:
    server.kill()
    time.sleep(dice.uniform(0.0, 0.5))
    server.start()


def _forget_all(url: str) -> None:
    with Redis.from_url(url) as redis:
        redis.flushall()


def _pause(stack: Stack, dice: random.Random) -> None:
    running = stack.children().get("reservation")
    if running is None:
        return  # a test has it killed right now
    pid = running[0]
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(dice.uniform(*_PAUSE_S))
        os.kill(pid, signal.SIGCONT)
