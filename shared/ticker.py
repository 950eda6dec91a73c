"""Runs what happens without a request: one bounded piece of work, again and again, woken early when nudged."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from shared.clock import Clock

log = structlog.get_logger()


@dataclass(frozen=True)
class Job:
    """A line of a service's `background.py`.

    `run_once` does at most one batch and returns how many rows it handled; a full batch is followed by the next one
    at once. `enabled` is asked before each run (a feature flag).
    """

    name: str
    interval_s: float
    batch: int
    run_once: Callable[[], Awaitable[int]]
    enabled: Callable[[], bool] = lambda: True


class Ticker:
    """One task that runs one job until it is stopped."""

    def __init__(self, job: Job, clock: Clock, observe: Callable[[str, bool, float], None] | None = None) -> None:
        self.job = job
        self.last_success: float | None = None
        self._clock = clock
        self._observe = observe
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"ticker:{self.job.name}")

    def nudge(self) -> None:
        """Run soon, not only when the interval is over; safe to call from anywhere in the loop."""
        self._woken.set()

    async def stop(self, timeout_s: float) -> None:
        """Let the running batch end (at most `timeout_s`), then cancel it; leases make that safe."""
        self._stopping = True
        self._woken.set()
        if self._task:
            _done, pending = await asyncio.wait({self._task}, timeout=timeout_s)
            for task in pending:
                task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            handled = await self._run_once()
            if handled >= self.job.batch:
                continue
            try:
                async with asyncio.timeout(self.job.interval_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _run_once(self) -> int:
        if not self.job.enabled():
            return 0
        started = self._clock.monotonic()
        try:
            handled = await self.job.run_once()
        except Exception as error:
            log.warning("tick_failed", job=self.job.name, error=type(error).__name__, exc_info=True)
            handled, succeeded = 0, False
        else:
            succeeded = True
            self.last_success = self._clock.monotonic()
        if self._observe:
            self._observe(self.job.name, succeeded, self._clock.monotonic() - started)
        return handled


class Background:
    """All tickers of one process."""

    def __init__(
        self, jobs: Sequence[Job], clock: Clock, observe: Callable[[str, bool, float], None] | None = None
    ) -> None:
        self._tickers = {job.name: Ticker(job, clock, observe) for job in jobs}

    def start(self) -> None:
        for ticker in self._tickers.values():
            ticker.start()

    def nudge(self, name: str) -> None:
        self._tickers[name].nudge()

    async def stop(self, timeout_s: float) -> None:
        await asyncio.gather(*(ticker.stop(timeout_s) for ticker in self._tickers.values()))
