"""Lets a behaviour wake the job that goes on with what it has stored, without knowing the jobs."""

from shared.ticker import Background

WEBHOOKS = "process_webhooks"
NEWS = "deliver_news"
BREAKERS = "share_breakers"


class Nudges:
    """Wakes jobs early: what was just stored need not wait for the next tick. A lost nudge costs one interval."""

    def __init__(self) -> None:
        self._background: Background | None = None

    def connect(self, background: Background) -> None:
        """Behaviours are made before the jobs that run them, so the wire is laid last."""
        self._background = background

    def webhooks(self) -> None:
        self._nudge(WEBHOOKS)

    def news(self) -> None:
        self._nudge(NEWS)

    def breakers(self) -> None:
        self._nudge(BREAKERS)

    def _nudge(self, name: str) -> None:
        if self._background:
            self._background.nudge(name)
