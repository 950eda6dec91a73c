"""Rows of the ledger: written once, read by payment or in sum, and never touched again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from payment_service.states import POSTINGS, Account, Posting
from payment_service.store.payments import PAYMENT_COLUMNS, Payment, payment_of
from payment_service.store.tables import disputes, payments, refunds
from payment_service.store.tables import ledger_entries as entries
from shared.changes import placed
from shared.database import Connection
from shared.identifiers import derived_id
from shared.prepared import Prepared


@dataclass(frozen=True)
class Fact:
    """Something that happened to the money of a payment; `cause` names the refund or dispute, if there is one."""

    posting: Posting
    amount: int
    cause: str = ""

    @property
    def name(self) -> tuple[Posting, str]:
        """Return what is posted at most once per payment."""
        return self.posting, self.cause


_POSTED = Prepared(
    select(entries.c.posting, entries.c.cause).where(entries.c.payment_id == bindparam("of_payment")).distinct()
)
_HAS_MORE = Prepared(
    select(
        or_(
            select(refunds.c.id).where(refunds.c.payment_id == bindparam("of_payment")).exists(),
            select(disputes.c.id).where(disputes.c.payment_id == bindparam("of_payment")).exists(),
        ).label("has_more")
    )
)


async def posted(connection: Connection, payment_id: UUID) -> frozenset[tuple[Posting, str]]:
    """Return the names of all facts that the ledger knows of a payment."""
    found = await _POSTED.rows(connection, of_payment=payment_id)
    return frozenset((Posting(row["posting"]), row["cause"]) for row in found)


async def has_more(connection: Connection, payment_id: UUID) -> bool:
    """Tell whether a payment has refunds or disputes, of whatever kind."""
    return bool(await _HAS_MORE.value(connection, of_payment=payment_id))


async def post(tx: Connection, payment: Payment, facts: Iterable[Fact]) -> None:
    """Write facts down, two entries each; one that the ledger has stays as it is. The caller has locked the payment."""
    rows = [row for fact in facts for row in _entries(payment, fact)]
    if rows:
        values = {f"{name}{number}": value for number, row in enumerate(rows) for name, value in row.items()}
        await _post(len(rows)).count(tx, **values)


@cache
def _post(rows: int) -> Prepared:
    """Return the insert of so many entries: two for each of the few facts that one change can make."""
    names = ("transaction_id", "payment_id", "posting", "cause", "currency", "account", "amount")
    new = insert(entries).values([placed(entries, *names, number=number) for number in range(rows)])
    return Prepared(new.on_conflict_do_nothing(index_elements=["transaction_id", "account"]))


def _entries(payment: Payment, fact: Fact) -> list[dict[str, Any]]:
    source, target = POSTINGS[fact.posting]
    common = {
        "transaction_id": derived_id(payment.id, f"ledger:{fact.posting}:{fact.cause}"),
        "payment_id": payment.id,
        "posting": fact.posting,
        "cause": fact.cause,
        "currency": payment.currency,
    }
    return [common | {"account": source, "amount": -fact.amount}, common | {"account": target, "amount": fact.amount}]


async def of_payment(connection: Connection, payment_id: UUID) -> Sequence[dict[str, Any]]:
    """Return all entries of a payment, oldest first."""
    found = await connection.execute(select(entries).where(entries.c.payment_id == payment_id).order_by(entries.c.id))
    return [dict(row) for row in found.mappings()]


async def balances(connection: Connection, payment_id: UUID) -> dict[Account, int]:
    """Return what each account has of a payment, from the ledger alone."""
    found = await connection.execute(
        select(entries.c.account, func.sum(entries.c.amount))
        .where(entries.c.payment_id == payment_id)
        .group_by(entries.c.account)
    )
    sums = {Account(account): int(amount) for account, amount in found}
    return {account: sums.get(account, 0) for account in Account}


async def totals(connection: Connection) -> Sequence[dict[str, Any]]:
    """Return what each account has of each currency, over all payments; the sums of a currency are zero together."""
    amount = func.sum(entries.c.amount)
    found = await connection.execute(
        select(entries.c.currency, entries.c.account, amount.label("amount"))
        .group_by(entries.c.currency, entries.c.account)
        .order_by(entries.c.currency, entries.c.account)
    )
    return [{**row, "amount": int(row["amount"])} for row in found.mappings()]


async def claim_unposted(tx: Connection, *, limit: int) -> list[Payment]:
    """Lock payments that were changed without their ledger."""
    found = await tx.execute(
        select(*PAYMENT_COLUMNS)
        .where(payments.c.posted_version < payments.c.version)
        .order_by(payments.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [payment_of(row) for row in found.mappings()]
