"""The tables, and why each index: what must never be untrue is a constraint, so that no code, old or new, makes it so."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from reservation_service.states import LIVE_SAGA, PINNED, BookingStatus, SagaStatus
from reservation_service.store.catalogue_tables import (
    discounts,
    experiences,
    metadata,
    slot_cancellations,
    slot_changes,
    ticket_types,
    time_slots,
)
from shared.append_only import append_only
from shared.columns import created_at, is_one_of
from shared.due_rows import due_columns
from shared.flags import flag_overrides_table
from shared.operator_actions import operator_actions_table

__all__ = [
    "api_keys",
    "discounts",
    "experiences",
    "flag_overrides",
    "idempotency",
    "metadata",
    "operator_actions",
    "payment_signals",
    "reservation_events",
    "reservations",
    "saga_log",
    "sagas",
    "slot_cancellations",
    "slot_changes",
    "ticket_types",
    "time_slots",
]

reservations = Table(
    "reservations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("caller", Text, nullable=False, comment="the customer: `sub` of the token that made the hold"),
    Column("time_slot_id", Uuid, ForeignKey("time_slots.id"), nullable=False),
    Column("status", Text, nullable=False, server_default="held"),
    Column("seats", Integer, nullable=False),
    Column("seats_pinned", Boolean, nullable=False, server_default="true", comment="counted in the slot's `taken`"),
    Column("items", JSONB, nullable=False),
    Column("price", JSONB, nullable=False, comment="as it was when the hold was made"),
    Column("total_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("capture_method", Text, nullable=False),
    Column("client_reference", Text),
    Column("metadata", JSONB),
    created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("created_expires_at", DateTime(timezone=True), nullable=False, comment="never changes: replays show it"),
    Column("extensions", Integer, nullable=False, server_default="0"),
    Column("released_by", Text),
    Column("supersedes", Uuid, ForeignKey("reservations.id")),
    Column("version", Integer, nullable=False, server_default="1"),
    # From here on: known once the hold is converted.
    Column("reference", Text),
    Column("customer", JSONB),
    Column("payment_mode", Text),
    Column("pay_until", DateTime(timezone=True)),
    Column("generation", Integer, nullable=False, server_default="1", comment="which PaymentIntent of this booking"),
    Column("payment", JSONB, comment="what payment_service last told"),
    Column("payment_version", Integer, nullable=False, server_default="0"),
    Column("failure_reason", Text),
    Column("cancel_requested_at", DateTime(timezone=True)),
    Column("cancellation_policy", JSONB, comment="the terms that it was converted on"),
    Column("cancellation", JSONB, comment="who asked, why, and on which terms"),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("refund_due_minor", BigInteger, comment="null: whatever was captured"),
    Column("refund_attempt", Integer, nullable=False, server_default="1", comment="a failed refund gets a successor"),
    Column("confirmed_at", DateTime(timezone=True)),
    Column("discount_id", Uuid, ForeignKey("discounts.id"), comment="one use of it while the seats are pinned"),
    Column("notices", JSONB, nullable=False, server_default="[]", comment="what the guest must be told"),
    Column("lock_waited_ms", Integer, comment="how long it waited for its slot's lock; null: not worth telling"),
    CheckConstraint(is_one_of("status", BookingStatus), name="reservations_status"),
    CheckConstraint("seats >= 1 AND total_minor >= 0", name="reservations_amounts"),
    CheckConstraint("0 <= refund_due_minor AND refund_due_minor <= total_minor", name="reservations_refund_due"),
    # Seats are pinned exactly in the statuses that own them; an operator's case says for itself.
    CheckConstraint(
        f"status = 'needs_attention' OR seats_pinned = ({is_one_of('status', sorted(PINNED))})",
        name="reservations_seats_pinned",
    ),
    UniqueConstraint("reference", name="reservations_reference"),
    UniqueConstraint("supersedes", name="reservations_supersedes"),  # two renewals of one hold: one wins
    # The sweeper's and the slot's view of what may be given back; held rows only, so it stays small.
    Index("reservations_due", "expires_at", postgresql_where=text("status = 'held'")),
    Index("reservations_held_by_slot", "time_slot_id", "expires_at", postgresql_where=text("status = 'held'")),
    Index("reservations_held_by_caller", "caller", "expires_at", postgresql_where=text("status = 'held'")),
    Index("reservations_by_caller", "caller", "id"),
    Index("reservations_by_slot", "time_slot_id"),
    # Uses of a discount are counted, never kept: what is pinned is used.
    Index(
        "reservations_using_discount",
        "discount_id",
        "caller",
        postgresql_where=text("discount_id IS NOT NULL AND seats_pinned"),
    ),
    # Operators look for a guest by e-mail; the id gives the order.
    Index(
        "reservations_by_email",
        text("lower(customer ->> 'email')"),
        "id",
        postgresql_where=text("customer IS NOT NULL"),
    ),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("hold_id", Uuid, ForeignKey("reservations.id"), nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    created_at(),
)

reservation_events = Table(
    "reservation_events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("reservation_id", Uuid, ForeignKey("reservations.id"), nullable=False),
    Column("from_status", Text, nullable=False),
    Column("to_status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("trace_id", Text, nullable=False, server_default=""),
    created_at(),
    Index("reservation_events_by_reservation", "reservation_id", "id"),
)

sagas = Table(
    "sagas",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("reservation_id", Uuid, ForeignKey("reservations.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("flags", JSONB, nullable=False, comment="as they were when it started"),
    Column("unwinding_because", Text, comment="deadline, refused or asked"),
    Column("reason", Text, comment="why it needs attention"),
    Column("trace_id", Text, nullable=False, server_default=""),
    created_at(),
    *due_columns(),
    Column("begun_by", Text, nullable=False, server_default="convert", comment="convert or late_money"),
    CheckConstraint(is_one_of("status", SagaStatus), name="sagas_status"),
    # One live saga per payment of a booking; what comes late on an older payment goes back beside the booking's own.
    Index(
        "sagas_one_live_per_payment",
        "reservation_id",
        "generation",
        unique=True,
        postgresql_where=text(is_one_of("status", sorted(LIVE_SAGA))),
    ),
    Index("sagas_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("sagas_by_reservation", "reservation_id"),
    # What operators look at, and what is counted every few seconds; few rows, hopefully none.
    Index("sagas_needing_attention", "id", postgresql_where=text("status = 'needs_attention'")),
)

saga_log = Table(
    "saga_log",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("saga_id", Uuid, ForeignKey("sagas.id"), nullable=False),
    Column("step", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("detail", JSONB),
    Column("epoch", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("direction IN ('do', 'undo')", name="saga_log_direction"),
    Index("saga_log_by_saga", "saga_id", "id"),
)

payment_signals = Table(
    "payment_signals",
    metadata,
    Column("payment_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("reservation_id", Uuid, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("body", JSONB, nullable=False),
    created_at(),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, comment="what is shown of the key"),
    Column("hash", LargeBinary, nullable=False, comment="SHA-256 of the key, which is stored nowhere"),
    Column("scopes", JSONB, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    created_at(),
    UniqueConstraint("hash", name="api_keys_hash"),
    # What every process reads each second.
    Index("api_keys_valid", "id", postgresql_where=text("revoked_at IS NULL")),
)

flag_overrides = flag_overrides_table(metadata)
operator_actions = operator_actions_table(metadata)

for _history in (reservation_events, saga_log, slot_changes, payment_signals):
    append_only(_history)
