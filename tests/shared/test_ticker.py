"""Work without a request: batch after batch while there is work, soon when nudged, on and on when it fails."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.clock import SystemClock
from shared.ticker import Background, Job, Ticker

FAR_S = 60.0


class Work:
    """A job whose batches are scripted; it counts its runs."""

    def __init__(self, *batches: int | Exception) -> None:
        self.runs = 0
        self._batches = list(batches)
        self._more = asyncio.Event()

    async def run_once(self) -> int:
        self.runs += 1
        self._more.set()
        batch = self._batches.pop(0) if self._batches else 0
        if isinstance(batch, Exception):
            raise batch
        return batch

    async def until(self, runs: int) -> None:
        async with asyncio.timeout(5):
            while self.runs < runs:
                self._more.clear()
                await self._more.wait()
        await asyncio.sleep(0)


def ticker(
    run_once: Callable[[], Awaitable[int]], *, interval_s: float = FAR_S, enabled: Callable[[], bool] | None = None
) -> Ticker:
    return Ticker(Job("job", interval_s, 10, run_once, enabled or (lambda: True)), SystemClock())


async def test_a_full_batch_is_followed_at_once() -> None:
    """Full batches run back to back, then the interval begins."""
    work = Work(10, 10, 3)
    running = ticker(work.run_once)
    running.start()
    await work.until(3)
    await asyncio.sleep(0.02)
    assert work.runs == 3
    await running.stop(1)


async def test_it_comes_back_after_its_interval() -> None:
    """Without any work the next look comes after the interval."""
    work = Work()
    running = ticker(work.run_once, interval_s=0.01)
    running.start()
    await work.until(3)
    await running.stop(1)


async def test_a_failing_batch_is_not_the_last() -> None:
    """C20: an error is observed as a failure and the next tick comes all the same."""
    work, seen = Work(ValueError("broken"), 1), list[tuple[str, bool]]()
    running = Ticker(
        Job("job", 0.01, 10, work.run_once),
        SystemClock(),
        observe=lambda name, succeeded, _took_s: seen.append((name, succeeded)),
    )
    running.start()
    await work.until(2)
    assert running.last_success is not None
    await running.stop(1)
    assert seen[:2] == [("job", False), ("job", True)]


async def test_a_nudge_wakes_it() -> None:
    """A nudge does not wait for the interval; one that comes during a run is not lost."""
    started, let_go = asyncio.Event(), asyncio.Event()
    runs = 0

    async def slowly() -> int:
        nonlocal runs
        runs += 1
        started.set()
        await let_go.wait()
        return 0

    running = ticker(slowly)
    running.start()
    await started.wait()
    running.nudge()
    let_go.set()
    started.clear()
    await asyncio.wait_for(started.wait(), 2)
    assert runs == 2
    await running.stop(1)


async def test_a_flag_that_is_off_stops_the_work_not_the_ticker() -> None:
    """X14: off, nothing runs; on again, the next tick runs."""
    work, on = Work(), False
    running = ticker(work.run_once, interval_s=0.01, enabled=lambda: on)
    running.start()
    await asyncio.sleep(0.05)
    assert work.runs == 0
    on = True
    await work.until(1)
    await running.stop(1)


async def test_stopping_lets_the_batch_end() -> None:
    """X11: a batch that ends in time is waited for, and no other one is begun."""
    started, ended = asyncio.Event(), False

    async def batch() -> int:
        nonlocal ended
        started.set()
        await asyncio.sleep(0.05)
        ended = True
        return 10

    running = ticker(batch)
    running.start()
    await started.wait()
    await running.stop(2)
    assert ended


async def test_stopping_has_a_deadline() -> None:
    """X11: a batch that hangs is cancelled; its lease makes that safe."""
    started, cancelled = asyncio.Event(), False

    async def hangs() -> int:
        nonlocal cancelled
        started.set()
        try:
            await asyncio.sleep(FAR_S)
        except asyncio.CancelledError:
            cancelled = True
            raise
        return 0

    running = ticker(hangs)
    running.start()
    await started.wait()
    await asyncio.wait_for(running.stop(0.05), 2)
    assert cancelled


async def test_stopping_what_never_started() -> None:
    """A process that fails while starting can still be stopped."""
    await ticker(Work().run_once).stop(1)


async def test_a_background_runs_and_nudges_by_name() -> None:
    """All jobs of a process start and stop together; a nudge reaches the one that is named, no other."""
    one, other = Work(), Work()
    background = Background(
        [Job("one", FAR_S, 10, one.run_once), Job("other", FAR_S, 10, other.run_once)], SystemClock()
    )
    background.start()
    await one.until(1)
    await other.until(1)
    background.nudge("one")
    await one.until(2)
    assert other.runs == 1
    with pytest.raises(KeyError):
        background.nudge("nobody")
    await background.stop(1)
