"""The ledger, disputes, and history that cannot be changed any more.

Revision 0005, since release 0.3. Only adds: release 0.2 goes on working, and what it changes is posted by a job.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_REFUSAL = """CREATE OR REPLACE FUNCTION holdfast_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is history: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$"""
_BALANCES = """CREATE OR REPLACE FUNCTION holdfast_ledger_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM entries GROUP BY transaction_id HAVING sum(amount) <> 0 OR min(currency) <> max(currency)) THEN
        RAISE EXCEPTION 'a ledger transaction must sum to zero' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$"""
_TRIGGERS = (
    """CREATE TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries
       REFERENCING NEW TABLE AS entries FOR EACH STATEMENT EXECUTE FUNCTION holdfast_ledger_balances()""",
    """CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
       FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change()""",
    """CREATE TRIGGER reconciliation_findings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_findings
       FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change()""",
    """CREATE TRIGGER outbox_append_only
       BEFORE UPDATE OF payment_id, version, status, event, created_at OR DELETE OR TRUNCATE ON outbox
       FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change()""",
    """CREATE TRIGGER payment_calls_append_only
       BEFORE UPDATE OF payment_id, step, key_number OR DELETE OR TRUNCATE ON payment_calls
       FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change()""",
)


def _instant(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False)


def upgrade() -> None:
    _create_ledger()
    _create_disputes()
    op.add_column(
        "payments",
        sa.Column(
            "posted_version",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="up to here the ledger knows it",
        ),
    )
    op.create_index("payments_unposted", "payments", ["id"], postgresql_where=sa.text("posted_version < version"))
    for statement in (_REFUSAL, _BALANCES, *_TRIGGERS):
        op.execute(statement)


def _create_ledger() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("transaction_id", sa.Uuid(), nullable=False, comment="made of payment, posting and cause"),
        sa.Column("payment_id", sa.Uuid(), sa.ForeignKey("payments.id"), nullable=False),
        sa.Column("posting", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False, comment="the refund or dispute that it is about; else empty"),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False, comment="minor units; plus is into the account"),
        sa.Column("currency", sa.Text(), nullable=False),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint(
            "posting IN ('authorized', 'voided', 'captured', 'refund_requested', 'refund_settled', 'refund_failed',"
            " 'refund_reversed', 'dispute_opened', 'dispute_won', 'dispute_lost')",
            name="ledger_entries_posting",
        ),
        sa.CheckConstraint(
            "account IN ('guest', 'reserved', 'balance', 'refunding', 'disputed')", name="ledger_entries_account"
        ),
        sa.CheckConstraint("amount <> 0", name="ledger_entries_amount"),
        sa.UniqueConstraint("transaction_id", "account", name="ledger_entries_once"),
    )
    op.create_index("ledger_entries_by_payment", "ledger_entries", ["payment_id", "id"])


def _create_disputes() -> None:
    op.create_table(
        "disputes",
        sa.Column("id", sa.Uuid(), nullable=False, comment="made of the payment's id and Stripe's"),
        sa.Column("payment_id", sa.Uuid(), sa.ForeignKey("payments.id"), nullable=False),
        sa.Column("stripe_dispute_id", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("question", sa.BigInteger(), server_default="0", nullable=False),
        _instant("created_at"),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("status IN ('inquiry', 'inquiry_closed', 'open', 'won', 'lost')", name="disputes_status"),
        sa.CheckConstraint("amount > 0", name="disputes_amount"),
        sa.UniqueConstraint("stripe_dispute_id", name="disputes_stripe_dispute"),
    )
    op.create_index("disputes_by_payment", "disputes", ["payment_id", "created_at"])
