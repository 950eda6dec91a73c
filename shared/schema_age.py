"""Tells a service that starts too early so: its database lacks a migration that this code needs.

The migrations are read as text. Loading them, and the library that runs them, would cost every start a quarter of a
second; only `shared.migrations` does.
"""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from shared.database import DatabaseAway

_REVISION = re.compile(r'^(revision|down_revision) = (?:"(\w+)"|None)$', re.MULTILINE)


class SchemaOutdated(RuntimeError):
    """The database is older than this code; run `holdfast migrate`."""


def head(package: str) -> str:
    """Return the newest revision that this code knows."""
    newest = [revision for revision, is_followed in _known(package).items() if not is_followed]
    if len(newest) != 1:
        raise SchemaOutdated(f"{package} has {len(newest)} newest migrations, not one")
    return newest[0]


async def require_current(database_url: str, package: str) -> None:
    """Refuse to start on a schema that lacks a migration. Raises SchemaOutdated, or DatabaseAway.

    A schema that is *newer* than this code is welcome: migrations only expand, so the older release of a rolling
    deployment goes on working.
    """
    engine = create_async_engine(database_url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            current = await _current(connection)
    except (DBAPIError, OSError, TimeoutError) as error:
        raise DatabaseAway(type(error).__name__) from error
    finally:
        await engine.dispose()
    if current is None or (current in _known(package) and current != head(package)):
        raise SchemaOutdated(
            f"the database is at revision {current or 'none'}, this code needs {head(package)}: run `holdfast migrate`"
        )


async def _current(connection: AsyncConnection) -> str | None:
    if (await connection.execute(text("SELECT to_regclass('alembic_version')"))).scalar_one() is None:
        return None
    return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()


def _known(package: str) -> dict[str, bool]:
    """Return the revisions that this code knows, and of each whether another one follows it."""
    steps = [dict(_REVISION.findall(path.read_text("utf-8"))) for path in _versions(package)]
    followed = {step["down_revision"] for step in steps}
    return {step["revision"]: step["revision"] in followed for step in steps}


def _versions(package: str) -> list[Traversable]:
    folder = files(package) / "versions"
    return [path for path in folder.iterdir() if path.name.endswith(".py") and path.name != "__init__.py"]
