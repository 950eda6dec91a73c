"""Rows that are history: the database itself refuses to change or delete them, whoever asks.

Where one role owns the tables, grants cannot do that; a trigger can. What belongs to delivery (leases, receipts) may
change on a row whose history may not.
"""

from collections.abc import Sequence

from sqlalchemy import DDL, Table, event

REFUSAL = """CREATE OR REPLACE FUNCTION holdfast_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is history: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$"""


def refusing(table: str, *, columns: Sequence[str] = ()) -> str:
    """Return the trigger that keeps a table's rows, or only `columns` of them, as they were written."""
    update = f"UPDATE OF {', '.join(columns)}" if columns else "UPDATE"
    return f"""CREATE TRIGGER {table}_append_only BEFORE {update} OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change()"""


def append_only(table: Table, *, columns: Sequence[str] = ()) -> Table:
    """Make a table, wherever its metadata is created, refuse what its migration refuses."""
    event.listen(table, "after_create", _ddl(REFUSAL))
    event.listen(table, "after_create", _ddl(refusing(table.name, columns=columns)))
    return table


def unprotected(*tables: str) -> str:
    """Return the query for those of these tables whose history could be changed: nothing, as long as none was disarmed."""
    names = ", ".join(f"'{table}'" for table in tables)
    return f"""SELECT name FROM unnest(ARRAY[{names}]) AS name WHERE NOT EXISTS (
                   SELECT FROM pg_trigger WHERE tgname = name || '_append_only' AND tgrelid = to_regclass(name)
                   AND tgenabled IN ('O', 'A'))"""  # noqa: S608  our own words


def _ddl(statement: str) -> DDL:
    return DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]  # DDL formats its text
