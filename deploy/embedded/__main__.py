"""`make run`: start everything, make one booking where you can watch, stay up until Ctrl-C, leave nothing behind."""

import os
import signal
import sys
import time
from datetime import UTC, datetime
from types import FrameType

from deploy.embedded.binaries import BinariesMissing
from deploy.embedded.clone import AlreadyRunning, Clone, Running
from deploy.embedded.processes import StartFailed
from deploy.embedded.screen import Screen
from deploy.embedded.stack import Stack
from deploy.embedded.supervision import Supervision

_LOOK_EVERY_S = 0.5


def main() -> int:
    """Return the exit code: 0 after Ctrl-C (or SIGTERM) and when a stack is up already, 1 when it cannot run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    screen = Screen()
    clone = Clone.here()
    try:
        with clone.held():
            return _run(clone, screen)
    except AlreadyRunning as there:
        screen.already_running(there.running)
        return 0
    except (StartFailed, BinariesMissing) as failure:
        screen.failure(str(failure))
        return 1
    except KeyboardInterrupt:
        return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(clone: Clone, screen: Screen) -> int:
    began = time.monotonic()
    screen.starting(clone.folder)
    stack = Stack(clone.folder, announce=screen.line)
    try:
        stack.start()
        _publish(clone, stack)
        _show_booking(stack, screen, began)
        screen.addresses(_urls(stack))
        screen.up()
        _watch(clone, stack, screen)
    except KeyboardInterrupt:
        screen.line("stopping")
    finally:
        _close(stack)
    screen.line("stopped; bookings and secrets stay in " + str(clone.folder))
    return 0


def _show_booking(stack: Stack, screen: Screen, began: float) -> None:
    """Fill the catalogue and book. A booking that fails is told, and the stack stays up to be looked at."""
    import httpx  # noqa: PLC0415  loaded while there is nothing else to do

    from deploy.embedded.demo import Booking, DemoFailed  # noqa: PLC0415
    from deploy.embedded.seed import seed  # noqa: PLC0415

    try:
        seeded = seed(stack.url("reservation"), stack.operator_token(), now=datetime.now(UTC))
        screen.seeded(seeded.experiences, seeded.slots)
        booking = Booking(stack.url("reservation"), stack.wiring.cashier())
        for step in booking.steps():
            screen.step(step.title, step.detail, step.took_ms)
    except (DemoFailed, httpx.HTTPError) as failure:
        screen.failure(f"the demo booking failed: {failure}")
    else:
        screen.booked(booking.reservation, time.monotonic() - began)


def _watch(clone: Clone, stack: Stack, screen: Screen) -> None:
    supervision = Supervision(stack, screen.line)
    while True:
        time.sleep(_LOOK_EVERY_S)
        if supervision.check():
            _publish(clone, stack)


def _publish(clone: Clone, stack: Stack) -> None:
    clone.publish(Running(os.getpid(), _urls(stack), stack.children()))


def _urls(stack: Stack) -> dict[str, str]:
    names = ("reservation", "payment", "sandbox", "valkey")
    return {name: stack.url(name) for name in names if name in stack.parts()}


def _close(stack: Stack) -> None:
    """Stop in order; a second Ctrl-C means: at once."""
    try:
        stack.close()
    except KeyboardInterrupt:
        for name in stack.parts():
            stack.kill(name)


if __name__ == "__main__":
    sys.exit(main())
