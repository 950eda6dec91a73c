"""Bookings that are taken back: the terms they were made on, who asked, and what goes back.

Revision 0009, since release 0.1.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column(
        "reservations",
        sa.Column(
            "cancellation_policy", postgresql.JSONB(), nullable=True, comment="the terms that it was converted on"
        ),
    )
    op.add_column(
        "reservations",
        sa.Column("cancellation", postgresql.JSONB(), nullable=True, comment="who asked, why, and on which terms"),
    )
    op.add_column("reservations", sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "reservations",
        sa.Column("refund_due_minor", sa.BigInteger(), nullable=True, comment="null: whatever was captured"),
    )
    op.add_column(
        "reservations",
        sa.Column(
            "refund_attempt",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="a failed refund gets a successor",
        ),
    )
    op.create_check_constraint(
        "reservations_refund_due", "reservations", "0 <= refund_due_minor AND refund_due_minor <= total_minor"
    )
