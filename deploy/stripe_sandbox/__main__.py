"""`python -m deploy.stripe_sandbox`: settings from the environment, one process, until SIGTERM or Ctrl-C."""

import asyncio
import signal
from types import FrameType

import uvicorn

from .app import create_app
from .droppable import DroppableProtocol
from .sandbox import Sandbox
from .settings import Settings

_GRACE_S = 1


async def serve(settings: Settings) -> None:
    """Serve until a signal comes."""
    config = uvicorn.Config(
        create_app(Sandbox.open(settings)),
        host=settings.host,
        port=settings.port,
        http=DroppableProtocol,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        headers=[("Server", "Holdfast-Stripe-Sandbox (not Stripe)")],
        timeout_graceful_shutdown=_GRACE_S,
    )
    await uvicorn.Server(config).serve()


def _already_stopping(_number: int, _frame: FrameType | None) -> None:
    """Let it be: uvicorn raises the signal once more after it has stopped cleanly; then there is nothing left to do."""


def main() -> None:
    """Run the sandbox in the foreground."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _already_stopping)
    asyncio.run(serve(Settings.from_environment()))


if __name__ == "__main__":
    main()
