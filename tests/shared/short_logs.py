"""One plain line an event: hundreds of planned crashes, each with its stack drawn, take longer than the tests."""

from collections.abc import Iterator

import pytest
import structlog


def _without_stack(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.pop("exc_info", None)
    return event


@pytest.fixture(scope="package", autouse=True)
def short_logs() -> Iterator[None]:
    """Log without stacks while these tests run; the tests say themselves what they expect to go wrong."""
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.add_log_level, _without_stack, structlog.processors.KeyValueRenderer()]
    )
    yield
    structlog.configure(**before)
