"""`python -m tests.release.record`: writes down this release: its schema, the rows it leaves, the statements it sends.

Run when a release is made. From then on `test_previous_release.py` holds every change against what is written here:
a rolling deployment is a time in which the previous release works on the newer schema.
"""

import asyncio
import base64
import io
import json
import secrets
import sys
import tempfile
from contextlib import ExitStack
from datetime import date, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import event, text

from deploy.embedded.databases import MIGRATIONS, migrate
from deploy.embedded.postgres import Postgres
from deploy.embedded.valkey import Valkey, find_valkey
from payment_service.store import tables as payment_tables
from reservation_service.store import tables as reservation_tables
from shared.database import Database
from shared.schema_age import head
from tests.answers import answered
from tests.faults.forked import stories
from tests.faults.forked.ground import Ground
from tests.faults.forked.stories import Case
from tests.faults.forked.town import Town, build_apps, open_town
from tests.faults.forked.trials import put_on_sale

FOLDER = Path(__file__).parent / "previous"
_TABLES = {"reservation": reservation_tables.metadata, "payment": payment_tables.metadata}
_TOLD = (
    stories.book,
    stories.unwind,
    stories.renew,
    stories.displace,
    stories.discount,
    stories.extend_and_sweep,
    stories.refund,
    stories.cancel_departure,
    stories.operate,
)
# What the connection says to itself, and what belongs to no release in particular.
_NOT_OURS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "RESET", "SHOW")
_LOOKED_AT = {
    "reservation": (
        "holds",
        "reservations",
        "sagas",
        "time-slots",
        "experiences",
        "discounts",
        "flags",
        "audit-export",
    ),
    "payment": ("payments", "webhook-events", "ledger", "breaker", "reconciliation", "flags", "audit-export"),
}


class Statements:
    """One example of each statement that was sent, in the order of their first appearance."""

    def __init__(self, database: Database) -> None:
        self.seen: dict[str, tuple[Any, ...]] = {}
        event.listen(database.engine.sync_engine, "before_cursor_execute", self._sent)
        event.listen(database.engine.sync_engine, "connect", self._connected)

    def _sent(self, _c: Any, _u: Any, query: str, args: Any, _x: Any, many: bool) -> None:
        self._note(query, args[0] if many else args)

    def _connected(self, connection: Any, _record: Any) -> None:
        """Hear of what goes past SQLAlchemy too."""
        connection.driver_connection.add_query_logger(lambda logged: self._note(logged.query, logged.args or ()))

    def _note(self, query: str, args: Any) -> None:
        if not query.strip().upper().startswith(_NOT_OURS):
            self.seen.setdefault(query.strip(), tuple(args))

    def lines(self) -> list[str]:
        return [
            json.dumps({"query": query, "args": [packed(arg) for arg in args]}, ensure_ascii=False)
            for query, args in self.seen.items()
            if "pg_catalog" not in query and "pg_stat_activity" not in query
        ]


def packed(value: Any) -> Any:
    """Return a parameter as JSON, with its type where JSON has none for it."""
    match value:
        case UUID():
            return {"uuid": str(value)}
        case datetime():
            return {"instant": value.isoformat()}
        case date():
            return {"date": value.isoformat()}
        case Decimal():
            return {"decimal": str(value)}
        case bytes():
            return {"bytes": base64.b64encode(value).decode()}
        case list() | tuple():
            return [packed(one) for one in value]
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"a parameter of a type that nobody has sent before: {type(value).__name__}")


def schema_of(service: str) -> str:
    """Return the statements that make this release's schema, as its migrations send them."""
    out = io.StringIO()
    scripts = ScriptDirectory(str(files(MIGRATIONS[service])))
    context = MigrationContext.configure(
        dialect_name="postgresql", dialect_opts={"paramstyle": "named"}, opts={"as_sql": True, "output_buffer": out}
    )
    with Operations.context(context):
        for script in reversed(list(scripts.walk_revisions())):
            script.module.upgrade()
    out.write("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY);\n")
    out.write(f"INSERT INTO alembic_version VALUES ('{head(MIGRATIONS[service])}');\n")  # noqa: S608  our own number
    return out.getvalue()


async def rows_of(service: str, database: Database) -> list[str]:
    """Return every row of every table, one a line."""
    lines = []
    async with database.reading() as connection:
        for table in _TABLES[service].sorted_tables:
            found = await connection.execute(text(f"SELECT to_jsonb(t) FROM {table.name} AS t"))  # noqa: S608
            lines += [json.dumps({"table": table.name, "row": row}) for row in found.scalars()]
    return lines


async def live(ground: Ground) -> None:
    """Live through what a release does, leave a hold and a booking unfinished, and write all of it down."""
    apps = build_apps(
        ground, flags={"FLAG_GROUP_ADMISSION": "off"}
    )  # the same statement, by the way that is listened to
    databases = {"reservation": apps.reservation.state.parts.database, "payment": apps.payment.state.parts.database}
    sent = {service: Statements(database) for service, database in databases.items()}
    async with open_town(apps, ground) as town:
        offers = await put_on_sale(town, len(_TOLD) + 1)
        for number, (story, offer) in enumerate(zip(_TOLD, offers[1:], strict=True)):
            await story(town, Case(f"release-{number}", offer))
        holder, buyer = town.customer("holder"), town.customer("buyer")
        answered(await holder.hold(offers[0], 1, key="left-held"), 201)
        bought = answered(await buyer.hold(offers[0], 1, key="left-pending"), 201)
        await town.insist(lambda: buyer.convert(bought["id"]), lambda seen: seen.status_code in {200, 201})
        await _look_around(town)
        for service, database in databases.items():
            _write(f"{service}.rows.jsonl", await rows_of(service, database))
    for service, statements in sent.items():
        _write(f"{service}.statements.jsonl", statements.lines())
        _write(f"{service}.schema.sql", schema_of(service).splitlines())


async def _look_around(town: Town) -> None:
    """Ask what operators ask: their questions run on the newer schema too."""
    for service, door in (("reservation", town.reservation), ("payment", town.payment)):
        for page in (*_LOOKED_AT[service], "invariants", "operator-actions"):
            await town.operator(door).ask("GET", f"/admin/v1/{page}")


def _write(name: str, lines: list[str]) -> None:
    (FOLDER / name).write_text("".join(f"{line}\n" for line in lines))
    print(f"  {name}: {len(lines)} lines")


def main() -> int:
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-release-")))
        postgres = parts.enter_context(Postgres(folder / "postgres", password=secrets.token_hex(16), durable=False))
        redis_url = parts.enter_context(Valkey(folder)).url if find_valkey() else ""
        urls = {}
        for service in MIGRATIONS:
            postgres.create_database(service)
            urls[service] = postgres.url(service)
        migrate(urls)
        ground = parts.enter_context(
            Ground(folder, reservation_url=urls["reservation"], payment_url=urls["payment"], redis_url=redis_url)
        )
        asyncio.run(live(ground))
    return 0


if __name__ == "__main__":
    sys.exit(main())
