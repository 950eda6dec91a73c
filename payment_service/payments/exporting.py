"""Shows Stripe's lists as they are at this moment, page by page, so that an audit can hold them against our tables."""

from dataclasses import replace
from typing import Any

from payment_service.errors import CursorUnknown, ProviderAway
from payment_service.gateway.guarded import GuardedGateway
from payment_service.gateway.results import Page
from payment_service.states import Book
from payment_service.store import reconciliation
from shared.crashpoints import external_call
from shared.database import Database
from shared.payment_contract import Outcome


class Exporting:
    """Asks live; nothing is kept. An account that others use too shows only what belongs to our payments."""

    def __init__(self, database: Database, provider: GuardedGateway, *, budget_s: float) -> None:
        self._database = database
        self._provider = provider
        self._budget_s = budget_s

    async def page(self, book: Book, *, after: str | None) -> Page[Any]:
        """Return a page, newest first. Raises ProviderAway (503), and CursorUnknown (422) for an id that Stripe has not."""
        deadline = self._provider.budget(self._budget_s)
        async with external_call("export_from_stripe"):
            result = await self._provider.export_page(book, after=after, deadline=deadline)
        if result.outcome is Outcome.DECLINED:
            raise CursorUnknown
        if result.value is None:
            raise ProviderAway(retry_after_ms=int((result.retry_after_s or 1.0) * 1000))
        if book is Book.INTENTS:
            return result.value
        async with self._database.reading() as connection:
            ours = await reconciliation.ours_among(connection, [item.intent_id for item in result.value.items])
        return replace(result.value, items=tuple(item for item in result.value.items if item.intent_id in ours))
