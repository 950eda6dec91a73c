"""Many dead events sent round again: the plan, what it is about, and how the queue finds alike and dead events.

Revision 0003, since release 0.2.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("webhook_events", sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "webhook_events_alike", "webhook_events", ["intent_id"], postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index(
        "webhook_events_dead", "webhook_events", ["processed_at"], postgresql_where=sa.text("status = 'dead'")
    )
    _webhook_replays()
    _webhook_replay_items()


def _webhook_replays() -> None:
    now = sa.text("clock_timestamp()")
    op.create_table(
        "webhook_replays",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("planned_by", sa.Text(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="in the words of who confirmed it"),
        sa.Column("confirmed_by", sa.Text(), nullable=True),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('planned', 'running', 'done', 'cancelled')", name="webhook_replays_status"),
        sa.CheckConstraint("(due_at IS NOT NULL) = (status = 'running')", name="webhook_replays_due"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "webhook_replays_claimable", "webhook_replays", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL")
    )


def _webhook_replay_items() -> None:
    op.create_table(
        "webhook_replay_items",
        sa.Column("replay_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_status", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'replayed', 'skipped')", name="webhook_replay_items_state"),
        sa.ForeignKeyConstraint(["replay_id"], ["webhook_replays.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("replay_id", "event_id"),
    )
