"""The comparison with Stripe: how far it has come, what it found, and the index that leads to unsettled payments.

Revision 0004, since release 0.2. Only adds: release 0.1 does not notice.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _instant(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def upgrade() -> None:
    op.create_table(
        "reconciliation_passes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        _instant("seen_until"),
        _instant("reading_until"),
        sa.Column("cursor", sa.Text(), nullable=True, comment="Stripe's id of the last object read in this window"),
        sa.Column(
            "looked",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="objects compared since the first day",
        ),
        sa.Column(
            "found", sa.BigInteger(), server_default="0", nullable=False, comment="of them, how many we did not know"
        ),
        _instant("finished_at"),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, comment="null: nothing left to do"),
        _instant("lease_until"),
        sa.Column("lease_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="reconciliation_passes_name"),
        sa.CheckConstraint("name IN ('events', 'intents')", name="reconciliation_passes_known"),
    )
    op.create_table(
        "reconciliation_findings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("stripe_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True, comment="as the object's metadata names it"),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("stripe_id", "kind", name="reconciliation_findings_once"),
        sa.CheckConstraint(
            "kind IN ('adopted', 'orphan_canceled', 'orphan_captured')", name="reconciliation_findings_kind"
        ),
    )
    op.create_index(
        "payments_unsettled",
        "payments",
        [sa.text("coalesce(refreshed_at, created_at)")],
        postgresql_where=sa.text(
            "status IN ('authorized', 'processing', 'refund_pending', 'requires_action', 'requires_payment')"
        ),
    )
