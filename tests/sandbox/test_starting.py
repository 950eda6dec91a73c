"""A sandbox that is told to end while it is starting ends."""

import os
import subprocess
import sys
from pathlib import Path

from tests.sandbox.running import PUBLISHABLE_KEY, ROOT, SECRET_KEY, free_port

# The signal comes when the sandbox has its state and uvicorn does not listen for signals yet.
_TOLD_TOO_SOON = """
import os, runpy, signal, uvicorn
serve = uvicorn.Server.serve
async def told_first(self):
    os.kill(os.getpid(), signal.SIGTERM)
    await serve(self)
uvicorn.Server.serve = told_first
runpy.run_module("deploy.stripe_sandbox", run_name="__main__")
"""


def test_a_signal_that_comes_too_soon_is_not_lost(tmp_path: Path) -> None:
    """Whoever stops a stack that has just failed to start would wait for it in vain."""
    environment = {
        "SANDBOX_PORT": str(free_port()),
        "SANDBOX_STATE": str(tmp_path / "sandbox.sqlite"),
        "SANDBOX_SECRET_KEY": SECRET_KEY,
        "SANDBOX_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
    }
    ended = subprocess.run(
        [sys.executable, "-c", _TOLD_TOO_SOON], cwd=ROOT, env=os.environ | environment, timeout=20, check=False
    )
    assert ended.returncode == 0
