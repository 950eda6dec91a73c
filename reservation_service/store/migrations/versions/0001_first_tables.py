"""The first tables: the catalogue, bookings with their keys and events, sagas with their journal, flags.

Revision 0001, since release 0.1.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "experiences",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("hold_ttl_seconds", sa.Integer(), nullable=True),
        sa.Column("max_party", sa.Integer(), nullable=False),
        sa.Column("cutoff_minutes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("capture_method", sa.Text(), server_default="manual", nullable=False),
        sa.Column("late_payment_policy", sa.Text(), server_default="rebook_or_refund", nullable=False),
        sa.Column("cancellation_policy", postgresql.JSONB(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "flag_overrides",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("percentage", sa.SmallInteger(), server_default="100", nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("percentage BETWEEN 0 AND 100", name="flag_overrides_percentage"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "payment_signals",
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reservation_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("body", postgresql.JSONB(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("payment_id", "version"),
    )
    op.create_table(
        "ticket_types",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("experience_id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("price_minor", sa.BigInteger(), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.CheckConstraint("price_minor >= 0", name="ticket_types_price"),
        sa.CheckConstraint("seats >= 0", name="ticket_types_seats"),
        sa.ForeignKeyConstraint(
            ["experience_id"],
            ["experiences.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("experience_id", "code", name="ticket_types_code"),
    )
    op.create_table(
        "time_slots",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("experience_id", sa.Uuid(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "sells_until", sa.DateTime(timezone=True), nullable=False, comment="starts_at less the experience's cutoff"
        ),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), server_default="0", nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("status IN ('open', 'closed', 'cancelled')", name="time_slots_status"),
        sa.CheckConstraint("0 <= taken AND taken <= capacity", name="time_slots_never_oversold"),
        sa.CheckConstraint("starts_at < ends_at AND sells_until <= starts_at", name="time_slots_times"),
        sa.ForeignKeyConstraint(
            ["experience_id"],
            ["experiences.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("time_slots_by_day", "time_slots", ["experience_id", "starts_at"], unique=False)
    op.create_table(
        "reservations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False, comment="the customer: `sub` of the token that made the hold"),
        sa.Column("time_slot_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), server_default="held", nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column(
            "seats_pinned", sa.Boolean(), server_default="true", nullable=False, comment="counted in the slot's `taken`"
        ),
        sa.Column("items", postgresql.JSONB(), nullable=False),
        sa.Column("price", postgresql.JSONB(), nullable=False, comment="as it was when the hold was made"),
        sa.Column("total_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("capture_method", sa.Text(), nullable=False),
        sa.Column("client_reference", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "created_expires_at", sa.DateTime(timezone=True), nullable=False, comment="never changes: replays show it"
        ),
        sa.Column("extensions", sa.Integer(), server_default="0", nullable=False),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.Column("supersedes", sa.Uuid(), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("customer", postgresql.JSONB(), nullable=True),
        sa.Column("payment_mode", sa.Text(), nullable=True),
        sa.Column("pay_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "generation",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="which PaymentIntent of this booking",
        ),
        sa.Column("payment", postgresql.JSONB(), nullable=True, comment="what payment_service last told"),
        sa.Column("payment_version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status = 'needs_attention' OR seats_pinned = (status IN ('confirmed', 'held', 'pending'))",
            name="reservations_seats_pinned",
        ),
        sa.CheckConstraint(
            "status IN ('held', 'expired', 'released', 'pending', 'confirmed', 'failed', 'cancelled', 'needs_attention')",
            name="reservations_status",
        ),
        sa.CheckConstraint("seats >= 1 AND total_minor >= 0", name="reservations_amounts"),
        sa.ForeignKeyConstraint(
            ["supersedes"],
            ["reservations.id"],
        ),
        sa.ForeignKeyConstraint(
            ["time_slot_id"],
            ["time_slots.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("reference", name="reservations_reference"),
        sa.UniqueConstraint("supersedes", name="reservations_supersedes"),
    )
    op.create_index("reservations_by_caller", "reservations", ["caller", "id"], unique=False)
    op.create_index("reservations_by_slot", "reservations", ["time_slot_id"], unique=False)
    op.create_index(
        "reservations_due", "reservations", ["expires_at"], unique=False, postgresql_where=sa.text("status = 'held'")
    )
    op.create_index(
        "reservations_held_by_caller",
        "reservations",
        ["caller", "expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'held'"),
    )
    op.create_index(
        "reservations_held_by_slot",
        "reservations",
        ["time_slot_id", "expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'held'"),
    )
    op.create_table(
        "idempotency",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("hold_id", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["hold_id"],
            ["reservations.id"],
        ),
        sa.PrimaryKeyConstraint("caller", "route", "key"),
    )
    op.create_table(
        "reservation_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("reservation_id", sa.Uuid(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=False),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["reservation_id"],
            ["reservations.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("reservation_events_by_reservation", "reservation_events", ["reservation_id", "id"], unique=False)
    op.create_table(
        "sagas",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("reservation_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("flags", postgresql.JSONB(), nullable=False, comment="as they were when it started"),
        sa.Column("unwinding_because", sa.Text(), nullable=True, comment="deadline, refused or asked"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it needs attention"),
        sa.Column("trace_id", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, comment="null: nothing left to do"),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "status IN ('running', 'waiting', 'unwinding', 'completed', 'compensated', 'needs_attention')",
            name="sagas_status",
        ),
        sa.ForeignKeyConstraint(
            ["reservation_id"],
            ["reservations.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("sagas_by_reservation", "sagas", ["reservation_id"], unique=False)
    op.create_index("sagas_due", "sagas", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_index(
        "sagas_one_live",
        "sagas",
        ["reservation_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('running', 'unwinding', 'waiting')"),
    )
    op.create_table(
        "saga_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("saga_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("direction IN ('do', 'undo')", name="saga_log_direction"),
        sa.ForeignKeyConstraint(
            ["saga_id"],
            ["sagas.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("saga_log_by_saga", "saga_log", ["saga_id", "id"], unique=False)
