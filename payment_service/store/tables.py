"""The tables, with the reason for every index and constraint.

What must never be untrue is a constraint here, so that no code, old or new, can make it so.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from payment_service.states import (
    UNSETTLED,
    BreakerState,
    EventStatus,
    FindingKind,
    Pass,
    RefundStatus,
    ReplayItem,
    ReplayStatus,
)
from payment_service.store.ledger_tables import disputes_table, ledger_entries_table
from shared.append_only import append_only
from shared.columns import created_at, is_one_of
from shared.due_rows import due_columns
from shared.flags import flag_overrides_table
from shared.operator_actions import operator_actions_table
from shared.payment_contract import Outcome, PaymentStatus

metadata = MetaData()


def _instant(name: str, *, nullable: bool = True) -> Column[object]:
    default = None if nullable else func.clock_timestamp()
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


# Numbers every question to Stripe before it is asked: of two answers, the one to the later question is the newer.
question_numbers = Sequence("question_numbers", metadata=metadata)

payments = Table(
    "payments",
    metadata,
    Column("id", Uuid, primary_key=True, comment="chosen by the caller, so that a retry means the same payment"),
    Column("reservation_id", Uuid, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default="0", comment="grows with every change told"),
    Column("amount", BigInteger, nullable=False, comment="minor units; 0 only for a cancel that came first"),
    Column("currency", Text, nullable=False),
    Column("capture_method", Text, nullable=False),
    Column("captured", BigInteger, nullable=False, server_default="0"),
    Column("refunded", BigInteger, nullable=False, server_default="0"),
    Column("intent_id", Text, comment="Stripe's id; empty until an answer or an event has named it"),
    Column("client_secret", Text, comment="for the guest's browser; never logged"),
    Column("decline_class", Text),
    Column("refusal_code", Text, comment="why Stripe refused to set the payment up"),
    Column("trouble", Text, comment="Stripe's object contradicts ours: a person must look"),
    _instant("capture_before"),
    _instant("cancel_requested_at"),
    _instant("refreshed_at"),
    Column("question", BigInteger, nullable=False, server_default="0", comment="which answer is shown"),
    created_at(),
    _instant("updated_at", nullable=False),
    Column("posted_version", Integer, nullable=False, server_default="0", comment="up to here the ledger knows it"),
    CheckConstraint(is_one_of("status", PaymentStatus), name="payments_status"),
    CheckConstraint("amount > 0 OR status = 'canceled'", name="payments_amount"),
    CheckConstraint("0 <= captured AND captured <= amount", name="payments_captured"),
    CheckConstraint("0 <= refunded AND refunded <= captured", name="payments_refunded"),
    UniqueConstraint("intent_id", name="payments_intent"),  # an event finds its payment, and only one
    UniqueConstraint("reservation_id", "generation", name="payments_generation"),  # double charges need a second row
    # The reconciler's view of what Stripe may still move; settled payments leave it.
    Index(
        "payments_unsettled",
        text("coalesce(refreshed_at, created_at)"),
        postgresql_where=text(is_one_of("status", sorted(UNSETTLED))),
    ),
    # What an older release changed: its money is posted after the fact.
    Index("payments_unposted", "id", postgresql_where=text("posted_version < version")),
    postgresql_with={"fillfactor": "80"},
)

payment_calls = Table(
    "payment_calls",
    metadata,
    Column("question", BigInteger, primary_key=True, comment="of question_numbers"),
    Column("payment_id", Uuid, ForeignKey("payments.id"), nullable=False),
    Column("step", Text, nullable=False),
    Column("key_number", Integer, nullable=False, comment="part of the key that Stripe saw"),
    _instant("asked_at", nullable=False),
    _instant("answered_at"),
    Column("outcome", Text, comment="empty: sent or not, nobody has written it down"),
    Column("code", Text),
    Column("key_is_spent", Boolean, nullable=False, server_default="false", comment="the key only repeats a failure"),
    CheckConstraint(f"outcome IS NULL OR {is_one_of('outcome', Outcome)}", name="payment_calls_outcome"),
    Index("payment_calls_by_payment", "payment_id", "question"),
)

refunds = Table(
    "refunds",
    metadata,
    Column("id", Uuid, primary_key=True, comment="chosen by the caller; the same id is the same refund"),
    Column("payment_id", Uuid, ForeignKey("payments.id"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("stripe_refund_id", Text),
    Column("failure", Text, comment="Stripe's word for why it failed"),
    Column("question", BigInteger, nullable=False, server_default="0"),
    created_at(),
    _instant("updated_at", nullable=False),
    CheckConstraint(is_one_of("status", RefundStatus), name="refunds_status"),
    CheckConstraint("amount > 0", name="refunds_amount"),
    UniqueConstraint("stripe_refund_id", name="refunds_stripe_refund"),
    Index("refunds_by_payment", "payment_id", "created_at"),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("stripe_event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    # An event is a hint to look; what it says about the object, guests' data included, is never kept.
    Column("object_id", Text, nullable=False),
    Column("intent_id", Text, nullable=False, comment="of the payment that the object belongs to; may be empty"),
    Column("livemode", Boolean, nullable=False),
    Column("status", Text, nullable=False, server_default=EventStatus.RECEIVED),
    Column("reason", Text, comment="why it was ignored, is waiting, or is dead"),
    Column("last_error", Text, comment="class names and codes only"),
    Column("deliveries", Integer, nullable=False, server_default="1"),
    Column("payment_id", Uuid, comment="whose state it led to"),
    Column("replayed_by", Text),
    _instant("replayed_at"),
    _instant("received_at", nullable=False),
    _instant("processed_at"),
    *due_columns(),
    CheckConstraint(is_one_of("status", EventStatus), name="webhook_events_status"),
    # A row falls due exactly as long as something is left to do: none is forgotten, none is done twice.
    CheckConstraint(f"(due_at IS NOT NULL) = (status = '{EventStatus.RECEIVED}')", name="webhook_events_due"),
    UniqueConstraint("stripe_event_id", name="webhook_events_stripe_event"),
    Index("webhook_events_claimable", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("webhook_events_by_payment", "payment_id"),
    Index("webhook_events_alike", "intent_id", postgresql_where=text("due_at IS NOT NULL")),
    Index("webhook_events_dead", "processed_at", postgresql_where=text(f"status = '{EventStatus.DEAD}'")),
)

# Many events sent round again: planned, confirmed, and then done a few at a time by a job.
webhook_replays = Table(
    "webhook_replays",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("status", Text, nullable=False),
    Column("total", Integer, nullable=False, server_default="0"),
    Column("planned_by", Text, nullable=False),
    created_at("planned_at"),
    _instant("expires_at", nullable=False),
    Column("reason", Text, comment="in the words of who confirmed it"),
    Column("confirmed_by", Text),
    Column("cancelled_by", Text),
    _instant("finished_at"),
    _instant("due_at"),
    CheckConstraint(is_one_of("status", ReplayStatus), name="webhook_replays_status"),
    CheckConstraint(f"(due_at IS NOT NULL) = (status = '{ReplayStatus.RUNNING}')", name="webhook_replays_due"),
    Index("webhook_replays_claimable", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

webhook_replay_items = Table(
    "webhook_replay_items",
    metadata,
    Column("replay_id", Uuid, ForeignKey("webhook_replays.id", ondelete="CASCADE"), primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    # As it was when the plan was made: an event that has moved on since is another one.
    Column("event_status", Text, nullable=False),
    _instant("ended_at", nullable=False),
    Column("state", Text, nullable=False, server_default=ReplayItem.WAITING),
    CheckConstraint(is_one_of("state", ReplayItem), name="webhook_replay_items_state"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("payment_id", Uuid, ForeignKey("payments.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False, comment="the payment's, as of this version"),
    Column("event", JSONB, nullable=False, comment="the body to be sent: the full state, no secrets"),
    Column("receipt", Text, comment="applied, ignored, or superseded by a newer version"),
    Column("last_error", Text),
    created_at(),
    _instant("delivered_at"),
    *due_columns(),
    CheckConstraint("(due_at IS NULL) = (delivered_at IS NOT NULL)", name="outbox_never_dies"),
    UniqueConstraint("payment_id", "version", name="outbox_version"),
    Index("outbox_claimable", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

# A comparison of Stripe's book with ours: how far it has come, and who is at it.
reconciliation_passes = Table(
    "reconciliation_passes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    _instant("seen_until"),  # everything at Stripe up to then has been compared
    _instant("reading_until"),  # the end of the window that is being read; empty between two comparisons
    Column("cursor", Text, comment="Stripe's id of the last object read in this window"),
    Column("looked", BigInteger, nullable=False, server_default="0", comment="objects compared since the first day"),
    Column("found", BigInteger, nullable=False, server_default="0", comment="of them, how many we did not know"),
    _instant("finished_at"),
    Column("last_error", Text),
    *due_columns(),
    UniqueConstraint("name", name="reconciliation_passes_name"),
    CheckConstraint(is_one_of("name", Pass), name="reconciliation_passes_known"),
)

reconciliation_findings = Table(
    "reconciliation_findings",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("stripe_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payment_id", Uuid, comment="as the object's metadata names it"),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    created_at(),
    UniqueConstraint("stripe_id", "kind", name="reconciliation_findings_once"),
    CheckConstraint(is_one_of("kind", FindingKind), name="reconciliation_findings_kind"),
)

idempotent_answers = Table(
    "idempotent_answers",
    metadata,
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("payment_id", Uuid, nullable=False),
    _instant("lease_until"),
    Column("outcome", Text, comment="empty while the first request runs"),
    Column("error", JSONB),
    created_at(),
    Index("idempotent_answers_by_age", "created_at"),  # the broom's way in
)

_BREAKER_STATES = (BreakerState.CLOSED, BreakerState.OPEN)  # half open is an open one with a probe
breakers = Table(
    "breakers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("state", Text, nullable=False, server_default=BreakerState.CLOSED),
    _instant("since", nullable=False),
    Column("rests_until", DateTime(timezone=True), comment="then one probe may try"),
    Column("probe", Uuid, comment="who tries: only its holder says how it went"),
    Column("probe_until", DateTime(timezone=True), comment="a lease: a dead one heals"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("forced", Text, comment="an operator holds it open or closed"),
    Column("forced_by", Text),
    CheckConstraint(is_one_of("state", _BREAKER_STATES), name="breakers_state"),
    CheckConstraint(is_one_of("forced", _BREAKER_STATES), name="breakers_forced"),
    CheckConstraint(f"(state = '{BreakerState.OPEN}') = (rests_until IS NOT NULL)", name="breakers_rest"),
)

ledger_entries = ledger_entries_table(metadata)
disputes = disputes_table(metadata)
flag_overrides = flag_overrides_table(metadata)
operator_actions = operator_actions_table(metadata)

# History; what says how far a delivery or a call has come may change beside it.
append_only(reconciliation_findings)
append_only(outbox, columns=("payment_id", "version", "status", "event", "created_at"))
append_only(payment_calls, columns=("payment_id", "step", "key_number"))
