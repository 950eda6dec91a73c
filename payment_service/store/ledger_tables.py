"""The tables of money that has moved: the ledger, which only grows, and the disputes that guests' banks open."""

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    event,
    func,
)

from payment_service.states import Account, DisputeStatus, Posting
from shared.append_only import append_only
from shared.columns import created_at, is_one_of

# What does not sum to zero was never written: the statement that tries is refused as a whole.
BALANCES = """CREATE OR REPLACE FUNCTION holdfast_ledger_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM entries GROUP BY transaction_id HAVING sum(amount) <> 0 OR min(currency) <> max(currency)) THEN
        RAISE EXCEPTION 'a ledger transaction must sum to zero' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$"""
BALANCED = """CREATE TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries
REFERENCING NEW TABLE AS entries FOR EACH STATEMENT EXECUTE FUNCTION holdfast_ledger_balances()"""


def ledger_entries_table(metadata: MetaData) -> Table:
    """Return double entry: two rows per transaction, one account's loss being the other's gain."""
    table = Table(
        "ledger_entries",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("transaction_id", Uuid, nullable=False, comment="made of payment, posting and cause"),
        Column("payment_id", Uuid, ForeignKey("payments.id"), nullable=False),
        Column("posting", Text, nullable=False),
        Column("cause", Text, nullable=False, comment="the refund or dispute that it is about; else empty"),
        Column("account", Text, nullable=False),
        Column("amount", BigInteger, nullable=False, comment="minor units; plus is into the account"),
        Column("currency", Text, nullable=False),
        created_at(),
        CheckConstraint(is_one_of("posting", Posting), name="ledger_entries_posting"),
        CheckConstraint(is_one_of("account", Account), name="ledger_entries_account"),
        CheckConstraint("amount <> 0", name="ledger_entries_amount"),
        UniqueConstraint("transaction_id", "account", name="ledger_entries_once"),  # a fact is posted once
        Index("ledger_entries_by_payment", "payment_id", "id"),
    )
    for statement in (BALANCES, BALANCED):
        event.listen(table, "after_create", DDL(statement))  # type: ignore[no-untyped-call]
    return append_only(table)


def disputes_table(metadata: MetaData) -> Table:
    """Return the disputes as Stripe showed them last; they move money and never seats."""
    return Table(
        "disputes",
        metadata,
        Column("id", Uuid, primary_key=True, comment="made of the payment's id and Stripe's"),
        Column("payment_id", Uuid, ForeignKey("payments.id"), nullable=False),
        Column("stripe_dispute_id", Text, nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("status", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("question", BigInteger, nullable=False, server_default="0"),
        created_at(),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        CheckConstraint(is_one_of("status", DisputeStatus), name="disputes_status"),
        CheckConstraint("amount > 0", name="disputes_amount"),
        UniqueConstraint("stripe_dispute_id", name="disputes_stripe_dispute"),
        Index("disputes_by_payment", "payment_id", "created_at"),
    )
