"""Money that comes late: what a guest must be told, what began a saga, and one live saga per payment.

Revision 0008, since release 0.1.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column(
        "reservations",
        sa.Column(
            "notices",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default="[]",
            nullable=False,
            comment="what the guest must be told",
        ),
    )
    op.add_column(
        "sagas",
        sa.Column("begun_by", sa.Text(), server_default="convert", nullable=False, comment="convert or late_money"),
    )
    # The wider rule first, so that there is no moment without one.
    op.create_index(
        "sagas_one_live_per_payment",
        "sagas",
        ["reservation_id", "generation"],
        unique=True,
        postgresql_where=sa.text("status IN ('running', 'unwinding', 'waiting')"),
    )
    op.drop_index("sagas_one_live", table_name="sagas")
