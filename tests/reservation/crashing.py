"""Ends a process at a named crash point without ending the tests: the line raises, and nobody uses that engine again."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from reservation_service.saga.engine import Engine
from shared import crashpoints
from tests.doubles.scripted_payments import Died
from tests.reservation.saga_bench import Bench, Story

Part = Callable[[Engine], Awaitable[Any]]


class _Listening:
    """Stands where the armed point would, is reached by none, and writes down all that pass."""

    def __init__(self) -> None:
        self.passed: list[str] = []

    @property
    def name(self) -> "_Listening":
        return self

    def __eq__(self, name: object) -> bool:
        self.passed.append(str(name))
        return False

    __hash__ = None  # type: ignore[assignment]


@contextmanager
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Yield a list that collects the crash points passed inside the block, as `name#n`, the tests' own left out."""
    ear, numbered = _Listening(), list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(crashpoints, "_armed", ear)
        yield numbered
    seen: Counter[str] = Counter()
    for name in ear.passed:
        seen[name] += 1
        if not name.startswith("test."):
            numbered.append(f"{name}#{seen[name]}")


class Crash:
    """A crash that is planned at a point; `fired` says that it came."""

    def __init__(self, point: str) -> None:
        self.fired = False
        self._point = point

    def _die(self) -> None:
        self.fired = True
        raise Died(self._point)

    @contextmanager
    def planned(self) -> Iterator[None]:
        crashpoints.arm(self._point, self._die)
        try:
            yield
        finally:
            crashpoints.arm(None)


async def play(bench: Bench, parts: Sequence[Part], engine: Engine, crash: Crash | None = None) -> bool:
    """Let one process do these parts; False when it died on the way, and then it did nothing more."""
    for part in parts:
        try:
            await part(engine)
            await engine.drain(10)
        except Died:
            return False
        if crash is not None and crash.fired:
            return False
    return True


def paying(bench: Bench, story: Story) -> tuple[Part, ...]:
    """The guest converts and pays; payment_service tells until somebody listens."""

    async def pay(engine: Engine) -> None:
        if story.payment_id not in bench.payments.book:
            return  # there is nothing to pay yet
        told = (
            bench.payments.pay(story.payment_id) if bench.is_payable(story) else bench.payments.event(story.payment_id)
        )
        await engine.signal(told)

    return (lambda engine: bench.convert(story, engine=engine), pay)


def leaving(bench: Bench, story: Story) -> tuple[Part, ...]:
    """The guest converts and never pays; time runs out."""

    async def time_passes(engine: Engine) -> None:
        await bench.pass_deadline(story)
        await bench.turn(engine)

    return (lambda engine: bench.convert(story, engine=engine), time_passes)


def taking_back(bench: Bench, story: Story) -> tuple[Part, ...]:
    """The card was charged behind our back and the capture is refused: the money must go back, once."""
    convert, pay = paying(bench, story)

    async def charged(engine: Engine) -> None:
        if bench.payments.of(story.hold_id) and not bench.entry(story).captured:
            bench.payments.change(story.payment_id, captured=bench.entry(story).amount)
        await pay(engine)

    return (convert, charged)


def cancelling(bench: Bench, story: Story) -> tuple[Part, ...]:
    """The guest of a confirmed booking calls it off, as often as it takes."""
    return (lambda engine: bench.cancel(story, engine=engine),)
