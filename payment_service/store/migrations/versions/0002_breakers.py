"""The breakers: what all processes agree on about calls to the provider.

Revision 0002, since release 0.1.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "breakers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="closed", nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("rests_until", sa.DateTime(timezone=True), nullable=True, comment="then one probe may try"),
        sa.Column("probe", sa.Uuid(), nullable=True, comment="who tries: only its holder says how it went"),
        sa.Column("probe_until", sa.DateTime(timezone=True), nullable=True, comment="a lease: a dead one heals"),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("forced", sa.Text(), nullable=True, comment="an operator holds it open or closed"),
        sa.Column("forced_by", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('closed', 'open')", name="breakers_state"),
        sa.CheckConstraint("forced IN ('closed', 'open')", name="breakers_forced"),
        sa.CheckConstraint("(state = 'open') = (rests_until IS NOT NULL)", name="breakers_rest"),
        sa.PrimaryKeyConstraint("name"),
    )
