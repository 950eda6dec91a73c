"""`make demo`: a whole system in a temporary folder, five stories told while they happen, and 0 only if all end right."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import httpx
from rich.console import Console

from deploy.embedded.binaries import BinariesMissing
from deploy.embedded.demo import DemoFailed
from deploy.embedded.processes import StartFailed
from deploy.embedded.screen import Screen
from deploy.embedded.seed import seed
from deploy.embedded.stack import Stack
from deploy.stories.scene import Scene, until
from deploy.stories.tales import TALES, Tale

# As in production but for the scale of time: a lease is still longer than all that one step may wait for.
_IN_SHORT = {
    "reservation": {
        "INTERNAL_CALL_TIMEOUT_S": "2.8",
        "SAGA_LEASE_SECONDS": "3",
        "SAGA_POLL_SECONDS": "0.2",
        "SAGA_BACKOFF_MAX_S": "1",
        "SWEEP_INTERVAL_SECONDS": "0.5",
    },
    "payment": {
        "STRIPE_TIMEOUT_S": "2",
        "GATEWAY_BUDGET_S": "2.5",
        "BACKGROUND_BUDGET_S": "2.5",
        "RESERVATION_TIMEOUT_S": "2",
        "RETRY_FIRST_WAIT_S": "0.1",
        "RETRY_MAX_WAIT_S": "0.5",
        "IDEMPOTENCY_LEASE_S": "3",
        "WEBHOOK_LEASE_SECONDS": "3",
        "WEBHOOK_BACKOFF_FIRST_S": "0.2",
        "WEBHOOK_BACKOFF_MAX_S": "1",
        "OUTBOX_LEASE_SECONDS": "3",
        "OUTBOX_BACKOFF_FIRST_S": "0.2",
        "OUTBOX_BACKOFF_MAX_S": "1",
    },
}
# What may stand in the user's environment for other purposes: the stories kill and break things, so they use their own.
_NOT_FOR_STORIES = (
    "AUTH_", "FLAG_", "GUEST_", "HOLDFAST_", "INTERNAL_", "PAYMENT_", "RATE_", "REDIS_", "RESERVATION_", "SANDBOX_", "STRIPE_",
)  # fmt: skip


def main() -> int:
    """Return 0 when all stories end right, 1 when one does not, 130 when somebody interrupts."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    console = Console(highlight=False, soft_wrap=True)
    try:
        return _play(console, Screen(console))
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _play(console: Console, screen: Screen) -> int:
    began = time.monotonic()
    try:
        with _scene(screen) as scene:
            ended_right = [_tell(console, screen, scene, *numbered) for numbered in enumerate(TALES, 1)]
            console.print("\n[bold]Afterwards[/]")
            sound = _is_sound(screen, scene)
    except (StartFailed, BinariesMissing, httpx.HTTPError) as failure:
        screen.failure(f"the system did not start: {failure}")
        return 1
    told, right = len(ended_right), sum(ended_right)
    console.print(f"\nstories {right}/{told} ended right in {time.monotonic() - began:.1f} s")
    return 0 if sound and right == told else 1


@contextmanager
def _scene(screen: Screen) -> Iterator[Scene]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_STORIES)}
    with tempfile.TemporaryDirectory(prefix="holdfast-stories-") as folder:
        screen.starting(Path(folder))
        with Stack(
            Path(folder) / "state", environ=environ, durable=False, extra_env=_IN_SHORT, announce=screen.line
        ) as stack:
            seed(stack.url("reservation"), stack.operator_token(), now=datetime.now(UTC))
            yield Scene(stack)


def _tell(console: Console, screen: Screen, scene: Scene, number: int, told: tuple[str, Tale]) -> bool:
    """Play one story and print each step with the time since the one before; True when it ended right."""
    title, tale = told
    console.print(f"\n[bold]{number}. {title}[/]")
    since = time.perf_counter()
    try:
        for step, detail in tale(scene):
            now = time.perf_counter()
            screen.step(step, detail, (now - since) * 1000)
            since = now
    except (DemoFailed, StartFailed, httpx.HTTPError, KeyError, ValueError) as failure:
        screen.failure(f"{title}: {failure!r}")
        for service in ("reservation", "payment"):
            screen.failure(f"--- {service}\n{scene.stack.log_tail(service)}")
            if not scene.stack.alive(service):
                scene.stack.restart(service, env={"HOLDFAST_CRASH_AT": ""})
        return False
    return True


def _is_sound(screen: Screen, scene: Scene) -> bool:
    """Ask both services for their own audit, once what is on its way has arrived."""
    began = time.perf_counter()
    try:
        until(scene.violations, lambda found: not found, "a clean audit")
    except (DemoFailed, httpx.HTTPError) as failure:
        screen.failure(str(failure))
        return False
    screen.step("audit", "both services find every invariant kept", (time.perf_counter() - began) * 1000)
    return True


if __name__ == "__main__":
    sys.exit(main())
