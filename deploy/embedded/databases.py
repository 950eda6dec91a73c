"""Brings the databases of both services up to date: `holdfast migrate`, and the stack before it starts them."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared.migrations import upgrade

MIGRATIONS = {
    "reservation": "reservation_service.store.migrations",
    "payment": "payment_service.store.migrations",
}


@dataclass(frozen=True)
class Migrated:
    """What one database was and is: revisions, `before` is None for an empty one."""

    service: str
    before: str | None
    after: str | None

    @property
    def changed(self) -> bool:
        return self.before != self.after


def migrate(urls: Mapping[str, str]) -> list[Migrated]:
    """Upgrade each service's database (name -> address), one after the other. Raises what the database raises.

    It runs in a thread of its own because the caller may be inside an event loop.
    """
    with ThreadPoolExecutor(1) as thread:
        return [Migrated(name, *thread.submit(upgrade, url, MIGRATIONS[name]).result()) for name, url in urls.items()]
