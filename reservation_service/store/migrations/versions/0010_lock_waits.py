"""Waits for a slot's lock that are worth telling, kept with the hold that had to wait.

Revision 0010, since release 0.1.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column(
        "reservations",
        sa.Column(
            "lock_waited_ms",
            sa.Integer(),
            nullable=True,
            comment="how long it waited for its slot's lock; null: not worth telling",
        ),
    )
