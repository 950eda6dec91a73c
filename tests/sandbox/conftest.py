"""Fixtures of the sandbox's tests: one process that most tests share, and a factory for those that kill or move theirs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.sandbox.receiver import WebhookReceiver
from tests.sandbox.running import RunningSandbox

Start = Callable[..., Awaitable[RunningSandbox]]


@pytest.fixture(scope="session")
async def shared_receiver() -> AsyncIterator[WebhookReceiver]:
    """Take what the shared sandbox delivers; every signature and every shape must be right in the whole session."""
    async with WebhookReceiver() as receiver:
        yield receiver
    assert receiver.errors == []


@pytest.fixture(scope="session")
async def shared_sandbox(
    tmp_path_factory: pytest.TempPathFactory, shared_receiver: WebhookReceiver
) -> AsyncIterator[RunningSandbox]:
    """The process that most tests share."""
    async with RunningSandbox(tmp_path_factory.mktemp("sandbox"), shared_receiver.url) as sandbox:
        yield sandbox
        assert "Traceback" not in sandbox.log()


@pytest.fixture
async def sandbox(shared_sandbox: RunningSandbox) -> AsyncIterator[RunningSandbox]:
    """The shared process, well behaved again after each test."""
    yield shared_sandbox
    await shared_sandbox.http.delete("/_sandbox/faults")


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    """A receiver of the test's own."""
    async with WebhookReceiver() as own:
        yield own


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Offer sandboxes that only this test uses, killed at the end of the test; arguments are a webhook URL and settings."""
    async with AsyncExitStack() as stack:

        async def start_one(webhook_url: str = "", **environment: str) -> RunningSandbox:
            return await stack.enter_async_context(RunningSandbox(tmp_path, webhook_url, **environment))

        yield start_one
