"""Events, journals and the changes of slots are history: the database refuses to change or delete them.

Revision 0005, since release 0.3. Only adds; no release ever changed such a row.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

_REFUSAL = """CREATE OR REPLACE FUNCTION holdfast_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is history: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$"""


def upgrade() -> None:
    op.execute(_REFUSAL)
    for table in ("reservation_events", "saga_log", "slot_changes", "payment_signals"):
        op.execute(
            f"""CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
                FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change()"""
        )
