"""What operators did: who, what, why, before and after, one row each, written with the change itself.

Revision 0006, since release 0.3. Only adds: older releases do not notice.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "operator_actions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="the id or name of what was acted on"),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("before", JSONB(), nullable=True, comment="what the action changed, as it was"),
        sa.Column("after", JSONB(), nullable=True, comment="and as it is since"),
        sa.Column("request_id", sa.Text(), server_default="", nullable=False),
        sa.Column("trace_id", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("operator_actions_by_target", "operator_actions", ["target", "id"])
    op.create_index("operator_actions_by_operator", "operator_actions", ["operator", "id"])
    op.execute(
        """CREATE TRIGGER operator_actions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON operator_actions
           FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change()"""
    )
