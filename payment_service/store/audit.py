"""The invariants of money and of messages, as queries that return what violates them: nothing, ever.

Each query may be run on a living database: it finds nothing that is merely on its way.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text

from payment_service.states import DISPUTE_HOLDS_MONEY, LEGAL_MOVES, REFUND_WITHOUT_EFFECT, Account
from payment_service.store.tables import disputes, ledger_entries, payments, refunds
from shared.append_only import unprotected
from shared.database import Connection
from shared.invariants import Invariant

STUCK_AFTER_MINUTES = 15
LEASE_AT_MOST_MINUTES = 10

_VOID = ", ".join(f"'{status}'" for status in sorted(REFUND_WITHOUT_EFFECT))

_LEGAL_MOVES = ", ".join(f"('{was}', '{now}')" for was, moves in LEGAL_MOVES.items() for now in moves)

_PER_ACCOUNT = ", ".join(f"sum(amount) FILTER (WHERE account = '{account}') AS {account}" for account in Account)

INVARIANTS = (
    Invariant(
        "payment-amounts",
        "0 <= refunded <= captured <= amount, and money is captured exactly in the statuses that say so",
        """SELECT id::text FROM payments WHERE NOT (0 <= refunded AND refunded <= captured AND captured <= amount)
           OR (captured > 0) <> (status IN ('captured', 'refund_pending', 'partially_refunded', 'refunded',
                                            'refund_failed', 'disputed', 'dispute_lost'))""",
    ),
    Invariant(
        "one-live-payment",
        "A reservation has at most one payment that can take or has taken money",
        """SELECT reservation_id::text FROM payments WHERE status NOT IN ('canceled', 'setup_failed')
           GROUP BY reservation_id HAVING count(*) > 1""",
    ),
    Invariant(
        "refund-sums",
        "Refunds that have or may have effect never exceed what was captured, and the done ones are what is shown",
        f"""SELECT p.id::text FROM payments p LEFT JOIN refunds r ON r.payment_id = p.id GROUP BY p.id
            HAVING coalesce(sum(r.amount) FILTER (WHERE r.status NOT IN ({_VOID})), 0) > p.captured
                OR coalesce(sum(r.amount) FILTER (WHERE r.status = 'succeeded'), 0) <> p.refunded""",  # noqa: S608
    ),
    Invariant(
        "ledger-sums-to-zero",
        "Every transaction of the ledger has two entries of one currency, and they sum to zero",
        """SELECT transaction_id::text FROM ledger_entries GROUP BY transaction_id
           HAVING sum(amount) <> 0 OR count(*) <> 2 OR min(currency) <> max(currency)""",
    ),
    Invariant(
        "ledger-balances",
        "What the ledger says of each account of a payment is what the payment, its refunds and its disputes say",
        f"""SELECT p.id::text FROM payments p
            LEFT JOIN (SELECT payment_id, {_PER_ACCOUNT} FROM ledger_entries GROUP BY 1) l ON l.payment_id = p.id
            LEFT JOIN (SELECT payment_id, sum(amount) FILTER (WHERE status IN ('requested', 'pending')) AS going
                         FROM refunds GROUP BY 1) r ON r.payment_id = p.id
            LEFT JOIN (SELECT payment_id, sum(amount) FILTER (WHERE status = 'open') AS held,
                              sum(amount) FILTER (WHERE status = 'lost') AS lost
                         FROM disputes GROUP BY 1) d ON d.payment_id = p.id
            WHERE p.posted_version >= p.version AND (
                  coalesce(l.reserved, 0) <> CASE p.status WHEN 'authorized' THEN p.amount ELSE 0 END
               OR coalesce(l.refunding, 0) <> coalesce(r.going, 0)
               OR coalesce(l.disputed, 0) <> coalesce(d.held, 0)
               OR coalesce(l.balance, 0) <> p.captured - p.refunded - coalesce(r.going, 0)
                                          - coalesce(d.held, 0) - coalesce(d.lost, 0))""",  # noqa: S608
    ),
    Invariant(
        "ledger-not-behind",
        "Whatever changed a payment, the ledger knows of it before long",
        f"""SELECT id::text FROM payments WHERE posted_version < version
            AND updated_at < clock_timestamp() - interval '{STUCK_AFTER_MINUTES} minutes'""",  # noqa: S608
    ),
    Invariant(
        "history-is-kept",
        "The database itself refuses to change or delete what is history",
        unprotected("ledger_entries", "reconciliation_findings", "outbox", "payment_calls", "operator_actions"),
    ),
    Invariant(
        "legal-moves",
        "Every told change of a payment's status is a legal move",
        f"""SELECT payment_id::text FROM
             (SELECT payment_id, status, lag(status) OVER (PARTITION BY payment_id ORDER BY version) AS before
                FROM outbox) AS told
            WHERE before <> status AND (before, status) NOT IN ({_LEGAL_MOVES})""",  # noqa: S608
    ),
    Invariant(
        "told-versions",
        "Every version of a payment has its news, and the newest news is the payment as it is",
        """SELECT p.id::text FROM payments p LEFT JOIN outbox o ON o.payment_id = p.id GROUP BY p.id
           HAVING count(o.id) <> p.version OR coalesce(max(o.version), 0) <> p.version
               OR coalesce((array_agg(o.status ORDER BY o.version DESC))[1], p.status) <> p.status""",
    ),
    Invariant(
        "one-news-per-state",
        "No two versions of a payment in a row say the same: a state that was seen twice is told once",
        """SELECT payment_id::text FROM
             (SELECT payment_id, event - 'version' - 'occurred_at' AS said,
                     lag(event - 'version' - 'occurred_at') OVER (PARTITION BY payment_id ORDER BY version) AS before
                FROM outbox) AS told
            WHERE said = before""",
    ),
    Invariant(
        "news-not-stuck",
        "News is delivered, or was tried lately, or is about to be",
        f"""SELECT id::text FROM outbox WHERE due_at < clock_timestamp() - interval '{STUCK_AFTER_MINUTES} minutes'
            AND coalesce(lease_until, due_at) < clock_timestamp() - interval '{STUCK_AFTER_MINUTES} minutes'""",  # noqa: S608
    ),
    Invariant(
        "one-row-per-event",
        "A Stripe event has one row, however often it was delivered",
        "SELECT stripe_event_id FROM webhook_events GROUP BY stripe_event_id HAVING count(*) > 1",
    ),
    Invariant(
        "events-not-lost",
        "A stored event is due, or it is processed, ignored or dead; then it says when, and the latter two say why",
        """SELECT id::text FROM webhook_events WHERE (due_at IS NOT NULL) <> (status = 'received')
           OR (processed_at IS NOT NULL) <> (status <> 'received')
           OR (status IN ('ignored', 'dead') AND reason IS NULL)""",
    ),
    Invariant(
        "events-not-stuck",
        "An event that is due is claimed before long",
        f"""SELECT id::text FROM webhook_events WHERE due_at < clock_timestamp() - interval '{STUCK_AFTER_MINUTES} minutes'
            AND coalesce(lease_until, due_at) < clock_timestamp() - interval '{STUCK_AFTER_MINUTES} minutes'""",  # noqa: S608
    ),
    Invariant(
        "one-row-per-object",
        "An object at Stripe is the object of one row, so that its news has one effect",
        """SELECT intent_id FROM payments WHERE intent_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1
           UNION ALL
           SELECT stripe_refund_id FROM refunds WHERE stripe_refund_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1""",
    ),
    Invariant(
        "leases-end",
        "What is leased is unfinished, and the lease ends before long",
        " UNION ALL ".join(
            f"""SELECT id::text FROM {table} WHERE lease_until IS NOT NULL
                AND (due_at IS NULL OR lease_until > clock_timestamp() + interval '{LEASE_AT_MOST_MINUTES} minutes')"""  # noqa: S608
            for table in ("webhook_events", "outbox")
        ),
    ),
    Invariant(
        "no-contradiction",
        "No object at Stripe contradicts our row",
        "SELECT id::text FROM payments WHERE trouble IS NOT NULL",
    ),
)


async def export(connection: Connection, *, limit: int, after: UUID | None) -> Sequence[dict[str, Any]]:
    """Return payments with their refunds and their age, for the three-way audit; in order of id."""
    given_back = (
        select(
            func.coalesce(
                func.json_agg(
                    func.json_build_object(
                        "id", refunds.c.id, "amount", refunds.c.amount, "status", refunds.c.status,
                        "stripe_refund_id", refunds.c.stripe_refund_id,
                    )
                ),
                text("'[]'::json"),
            )
        )
        .where(refunds.c.payment_id == payments.c.id)
        .scalar_subquery()
    )  # fmt: skip
    disputed = (
        select(func.coalesce(func.sum(disputes.c.amount), 0))
        .where(disputes.c.payment_id == payments.c.id, disputes.c.status.in_(sorted(DISPUTE_HOLDS_MONEY)))
        .scalar_subquery()
    )
    balance = (
        select(func.coalesce(func.sum(ledger_entries.c.amount), 0))
        .where(ledger_entries.c.payment_id == payments.c.id, ledger_entries.c.account == Account.BALANCE)
        .scalar_subquery()
    )
    unchanged_s = func.extract("epoch", func.clock_timestamp() - payments.c.updated_at)
    query = (
        select(
            payments.c.id,
            payments.c.reservation_id,
            payments.c.generation,
            payments.c.status,
            payments.c.version,
            payments.c.amount,
            payments.c.currency,
            payments.c.captured,
            payments.c.refunded,
            payments.c.intent_id.label("stripe_payment_intent_id"),
            payments.c.updated_at,
            unchanged_s.label("unchanged_s"),
            given_back.label("refunds"),
            disputed.label("disputed"),
            balance.label("balance"),
            payments.c.trouble,
        )
        .order_by(payments.c.id)
        .limit(limit)
    )
    if after:
        query = query.where(payments.c.id > after)
    return [dict(row) for row in (await connection.execute(query)).mappings()]
