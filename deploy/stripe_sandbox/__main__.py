"""`python -m deploy.stripe_sandbox`: settings from the environment, one process, until SIGTERM or Ctrl-C."""

import asyncio
import signal
import sys
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
    server = uvicorn.Server(config)

    def stop(_number: int, _frame: FrameType | None) -> None:
        """End before uvicorn listens for signals itself; when it raises one again, after a clean stop, that is all."""
        if not server.should_exit:
            sys.exit()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    await server.serve()


if __name__ == "__main__":
    asyncio.run(serve(Settings.from_environment()))
