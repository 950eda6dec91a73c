"""The first tables: payments with their journal of calls and refunds, Stripe's events, news, kept answers, flags.

Revision 0001, since release 0.1.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("question_numbers")))
    _payments()
    _payment_calls()
    _refunds()
    _webhook_events()
    _outbox()
    _idempotent_answers()
    _flag_overrides()


def _payments() -> None:
    op.create_table(
        "payments",
        sa.Column(
            "id", sa.Uuid(), nullable=False, comment="chosen by the caller, so that a retry means the same payment"
        ),
        sa.Column("reservation_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="0", nullable=False, comment="grows with every change told"),
        sa.Column(
            "amount", sa.BigInteger(), nullable=False, comment="minor units; 0 only for a cancel that came first"
        ),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("capture_method", sa.Text(), nullable=False),
        sa.Column("captured", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refunded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "intent_id", sa.Text(), nullable=True, comment="Stripe's id; empty until an answer or an event has named it"
        ),
        sa.Column("client_secret", sa.Text(), nullable=True, comment="for the guest's browser; never logged"),
        sa.Column("decline_class", sa.Text(), nullable=True),
        sa.Column("refusal_code", sa.Text(), nullable=True, comment="why Stripe refused to set the payment up"),
        sa.Column("trouble", sa.Text(), nullable=True, comment="Stripe's object contradicts ours: a person must look"),
        sa.Column("capture_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("question", sa.BigInteger(), server_default="0", nullable=False, comment="which answer is shown"),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("amount > 0 OR status = 'canceled'", name="payments_amount"),
        sa.CheckConstraint(
            "status IN ('none', 'setup_failed', 'requires_payment', 'requires_action', 'processing', 'authorized', 'captured', 'refund_pending', 'partially_refunded', 'refunded', 'refund_failed', 'canceled', 'disputed', 'dispute_lost', 'external')",
            name="payments_status",
        ),
        sa.CheckConstraint("0 <= captured AND captured <= amount", name="payments_captured"),
        sa.CheckConstraint("0 <= refunded AND refunded <= captured", name="payments_refunded"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("intent_id", name="payments_intent"),
        sa.UniqueConstraint("reservation_id", "generation", name="payments_generation"),
        postgresql_with={"fillfactor": "80"},
    )


def _payment_calls() -> None:
    op.create_table(
        "payment_calls",
        sa.Column("question", sa.BigInteger(), nullable=False, comment="of question_numbers"),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("key_number", sa.Integer(), nullable=False, comment="part of the key that Stripe saw"),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True, comment="empty: sent or not, nobody has written it down"),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column(
            "key_is_spent",
            sa.Boolean(),
            server_default="false",
            nullable=False,
            comment="the key only repeats a failure",
        ),
        sa.CheckConstraint(
            "outcome IS NULL OR outcome IN ('ok', 'declined', 'not_sent', 'unknown', 'too_late')",
            name="payment_calls_outcome",
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.id"],
        ),
        sa.PrimaryKeyConstraint("question"),
    )
    op.create_index("payment_calls_by_payment", "payment_calls", ["payment_id", "question"], unique=False)


def _refunds() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.Uuid(), nullable=False, comment="chosen by the caller; the same id is the same refund"),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("stripe_refund_id", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True, comment="Stripe's word for why it failed"),
        sa.Column("question", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "status IN ('requested', 'pending', 'succeeded', 'failed', 'canceled')", name="refunds_status"
        ),
        sa.CheckConstraint("amount > 0", name="refunds_amount"),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("stripe_refund_id", name="refunds_stripe_refund"),
    )
    op.create_index("refunds_by_payment", "refunds", ["payment_id", "created_at"], unique=False)


def _webhook_events() -> None:
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("stripe_event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column(
            "intent_id", sa.Text(), nullable=False, comment="of the payment that the object belongs to; may be empty"
        ),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), server_default="received", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it was ignored, is waiting, or is dead"),
        sa.Column("last_error", sa.Text(), nullable=True, comment="class names and codes only"),
        sa.Column("deliveries", sa.Integer(), server_default="1", nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True, comment="whose state it led to"),
        sa.Column("replayed_by", sa.Text(), nullable=True),
        sa.Column(
            "received_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, comment="null: nothing left to do"),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("(due_at IS NOT NULL) = (status = 'received')", name="webhook_events_due"),
        sa.CheckConstraint(
            "status IN ('received', 'processing', 'processed', 'ignored', 'dead')", name="webhook_events_status"
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("stripe_event_id", name="webhook_events_stripe_event"),
    )
    op.create_index("webhook_events_by_payment", "webhook_events", ["payment_id"], unique=False)
    op.create_index(
        "webhook_events_claimable",
        "webhook_events",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="the payment's, as of this version"),
        sa.Column(
            "event", postgresql.JSONB(), nullable=False, comment="the body to be sent: the full state, no secrets"
        ),
        sa.Column("receipt", sa.Text(), nullable=True, comment="applied, ignored, or superseded by a newer version"),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, comment="null: nothing left to do"),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("(due_at IS NULL) = (delivered_at IS NOT NULL)", name="outbox_never_dies"),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("payment_id", "version", name="outbox_version"),
    )
    op.create_index(
        "outbox_claimable", "outbox", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL")
    )


def _idempotent_answers() -> None:
    op.create_table(
        "idempotent_answers",
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True, comment="empty while the first request runs"),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("route", "key"),
    )
    op.create_index("idempotent_answers_by_age", "idempotent_answers", ["created_at"], unique=False)


def _flag_overrides() -> None:
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
