"""Departures that are cancelled, operators' changes with their reasons, and ticket types that are no longer sold.

Revision 0004, since release 0.1.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "ticket_types",
        sa.Column("active", sa.Boolean(), server_default="true", nullable=False, comment="whether it is still sold"),
    )
    op.create_table(
        "slot_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("time_slot_id", sa.Uuid(), nullable=False),
        sa.Column("changes", postgresql.JSONB(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(["time_slot_id"], ["time_slots.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("slot_changes_by_slot", "slot_changes", ["time_slot_id", "id"], unique=False)
    op.create_table(
        "slot_cancellations",
        sa.Column("id", sa.Uuid(), nullable=False, comment="the slot's own id"),
        sa.Column("status", sa.Text(), server_default="running", nullable=False),
        sa.Column("held_released", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, comment="null: nothing left to do"),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("status IN ('running', 'awaiting_refund', 'finished')", name="slot_cancellations_status"),
        sa.ForeignKeyConstraint(["id"], ["time_slots.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "slot_cancellations_due",
        "slot_cancellations",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "reservations_by_email",
        "reservations",
        [sa.text("lower(customer ->> 'email')"), "id"],
        unique=False,
        postgresql_where=sa.text("customer IS NOT NULL"),
    )
