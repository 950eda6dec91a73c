"""The tables of what is sold: experiences, tickets, time slots and discounts; the rules of `store.tables` hold here too."""

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
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from reservation_service.states import CancellationStatus, SlotStatus
from shared.columns import created_at, is_one_of
from shared.due_rows import due_columns

metadata = MetaData()


experiences = Table(
    "experiences",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("time_zone", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("hold_ttl_seconds", Integer),
    Column("max_party", Integer, nullable=False),
    Column("cutoff_minutes", Integer, nullable=False, server_default="0"),
    Column("capture_method", Text, nullable=False, server_default="manual"),
    Column("late_payment_policy", Text, nullable=False, server_default="rebook_or_refund"),
    Column("cancellation_policy", JSONB, nullable=False),
    created_at(),
)

ticket_types = Table(
    "ticket_types",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("experience_id", Uuid, ForeignKey("experiences.id"), nullable=False),
    Column("code", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("price_minor", BigInteger, nullable=False),
    Column("seats", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("active", Boolean, nullable=False, server_default="true", comment="whether it is still sold"),
    UniqueConstraint("experience_id", "code", name="ticket_types_code"),
    CheckConstraint("price_minor >= 0", name="ticket_types_price"),
    CheckConstraint("seats >= 0", name="ticket_types_seats"),
)

time_slots = Table(
    "time_slots",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("experience_id", Uuid, ForeignKey("experiences.id"), nullable=False),
    Column("starts_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("sells_until", DateTime(timezone=True), nullable=False, comment="starts_at less the experience's cutoff"),
    Column("capacity", Integer, nullable=False),
    Column("taken", Integer, nullable=False, server_default="0"),
    Column("status", Text, nullable=False, server_default="open"),
    Column("version", Integer, nullable=False, server_default="1"),
    created_at(),
    # The sentence that makes overselling impossible. No index touches `taken`, so its updates stay heap-only.
    CheckConstraint("0 <= taken AND taken <= capacity", name="time_slots_never_oversold"),
    CheckConstraint("starts_at < ends_at AND sells_until <= starts_at", name="time_slots_times"),
    CheckConstraint(is_one_of("status", SlotStatus), name="time_slots_status"),
    Index("time_slots_by_day", "experience_id", "starts_at"),
    postgresql_with={"fillfactor": "50"},
)

discounts = Table(
    "discounts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("experience_id", Uuid, ForeignKey("experiences.id"), comment="null: for all experiences"),
    Column("code", Text, nullable=False, comment="in upper case, as guests' codes are looked up"),
    Column("basis_points", Integer, comment="hundredths of a percent; null: a fixed amount"),
    Column("amount_minor", BigInteger),
    Column("currency", Text),
    Column("valid_from", DateTime(timezone=True)),
    Column("valid_until", DateTime(timezone=True)),
    Column("max_uses", Integer),
    Column("max_uses_per_customer", Integer),
    Column("limits_changed_at", DateTime(timezone=True), comment="null: as it was made"),
    Column("active", Boolean, nullable=False, server_default="true"),
    created_at(),
    CheckConstraint("code = upper(code)", name="discounts_code"),
    CheckConstraint(
        "(basis_points BETWEEN 1 AND 10000 AND amount_minor IS NULL AND currency IS NULL)"
        " OR (basis_points IS NULL AND amount_minor >= 1 AND currency IS NOT NULL)",
        name="discounts_kind",
    ),
    CheckConstraint("valid_from < valid_until", name="discounts_dates"),
    CheckConstraint("max_uses >= 0 AND max_uses_per_customer >= 1", name="discounts_limits"),
    # A code is unique per experience, and once more among those for all of them.
    Index(
        "discounts_by_experience",
        "code",
        "experience_id",
        unique=True,
        postgresql_where=text("experience_id IS NOT NULL"),
    ),
    Index("discounts_for_all", "code", unique=True, postgresql_where=text("experience_id IS NULL")),
)

slot_changes = Table(
    "slot_changes",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("time_slot_id", Uuid, ForeignKey("time_slots.id"), nullable=False),
    Column("changes", JSONB, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    created_at(),
    Index("slot_changes_by_slot", "time_slot_id", "id"),
)

# One row per cancelled slot, written with its status: what is left to do falls due until nothing is.
slot_cancellations = Table(
    "slot_cancellations",
    metadata,
    Column("id", Uuid, ForeignKey("time_slots.id"), primary_key=True, comment="the slot's own id"),
    Column("status", Text, nullable=False, server_default=CancellationStatus.RUNNING),
    Column("held_released", Integer, nullable=False, server_default="0"),
    created_at("started_at"),
    Column("finished_at", DateTime(timezone=True)),
    *due_columns(),
    CheckConstraint(is_one_of("status", CancellationStatus), name="slot_cancellations_status"),
    Index("slot_cancellations_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)
