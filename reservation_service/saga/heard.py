"""What answers have told of payments, so that payment_service need not tell it again as news.

It is said with the receipt of the next message, whoever that was about. Only what has been committed is noted. What is
lost with the process, or forgotten, is told after all: this saves messages, and nothing rests on it.
"""

from uuid import UUID

from shared.payment_contract import KnownVersion

_KEPT_MAX = 1000
_SAID_AT_ONCE_MAX = 16


class Heard:
    """How far the payments are known that this process has heard of in answers and not said so yet."""

    def __init__(self) -> None:
        self._versions: dict[UUID, int] = {}

    def note(self, payment_id: UUID, version: int) -> None:
        """Remember what was stored with a booking; of too many the oldest is forgotten."""
        if version > self._versions.get(payment_id, 0):
            self._versions[payment_id] = version
        if len(self._versions) > _KEPT_MAX:
            del self._versions[next(iter(self._versions))]

    def say(self, *, besides: UUID) -> tuple[KnownVersion, ...]:
        """Return some of it, once. What was heard of the payment that the receipt is about goes without saying."""
        self._versions.pop(besides, None)
        said = list(self._versions)[:_SAID_AT_ONCE_MAX]
        return tuple(KnownVersion(payment_id=one, version=self._versions.pop(one)) for one in said)
