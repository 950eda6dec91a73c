"""Tables as they are after years of trade, made by the database itself: a tenth of all holds became bookings.

Ids count upwards like those of the product, so pages and indexes fill in the same order. The counters of the slots say
what their rows say.
"""
# Every word of these statements is ours.
# ruff: noqa: S608

from collections.abc import Sequence
from typing import Any

_EXPERIENCE = "'00000000-0000-7000-8001-000000000000'::uuid"
ROWS_PER_SLOT = 20

RESERVATION_TABLES = (
    "time_slots", "reservations", "idempotency", "reservation_events", "sagas", "saga_log", "payment_signals",
)  # fmt: skip
PAYMENT_TABLES = (
    "payments", "payment_calls", "outbox", "webhook_events", "idempotent_answers", "ledger_entries",
)  # fmt: skip


def _id(kind: int, number: str = "n") -> str:
    """Return the SQL of an id; kinds keep tables apart."""
    return f"('00000000-0000-7000-8{kind:03d}-' || lpad(to_hex({number}), 12, '0'))::uuid"


def _born(kind: int, number: str, ago: str) -> str:
    """Return the SQL of an id that begins, as ours do, with the milliseconds of its birth (RFC 9562, version 7)."""
    ms = f"lpad(to_hex((extract(epoch FROM now() - interval '{ago}') * 1000)::bigint), 12, '0')"
    return f"({ms} || '70008{kind:03d}' || lpad(to_hex({number}), 12, '0'))::uuid"


def reservation_sql(rows: int, *, first: int = 1, rows_per_slot: int = ROWS_PER_SLOT) -> Sequence[str]:
    """Return statements that add holds `first` to `first + rows - 1` and all that belongs to them, on slots of their own."""
    series = f"generate_series({first}, {first + rows - 1}) AS n"
    bookings = f"{series} WHERE n % 10 = 0"
    first_slot, last_slot = first // rows_per_slot, (first + rows - 1) // rows_per_slot
    return (
        f"""INSERT INTO experiences (id, title, time_zone, currency, max_party, cancellation_policy)
        VALUES ({_EXPERIENCE}, 'A tour of long ago', 'Europe/Lisbon', 'EUR', 10, '{{"type": "none"}}')
        ON CONFLICT DO NOTHING""",
        f"""INSERT INTO time_slots (id, experience_id, starts_at, ends_at, sells_until, capacity)
        SELECT {_id(2)}, {_EXPERIENCE}, at, at + interval '1 hour', at, greatest({rows_per_slot}, 10)
        FROM (SELECT n, now() - interval '1 day' * (1 + n % 1000) AS at
              FROM generate_series({first_slot}, {last_slot}) AS n) AS slots
        ON CONFLICT DO NOTHING""",
        f"""INSERT INTO reservations (id, caller, time_slot_id, status, seats, seats_pinned, items, price, total_minor,
            currency, capture_method, expires_at, created_expires_at, created_at, reference, customer, payment_mode,
            confirmed_at)
        SELECT {_id(3)}, 'customer-' || n / 4, {_id(2, f"n / {rows_per_slot}")},
               CASE WHEN n % 10 = 0 THEN 'confirmed' ELSE 'expired' END, 1, n % 10 = 0,
               '[{{"quantity": 1, "title": "Adult"}}]', '{{"total": {{"amount": 4500, "currency": "EUR"}}}}', 4500,
               'EUR', 'manual', at, at, at, CASE WHEN n % 10 = 0 THEN 'OLD' || n END,
               CASE WHEN n % 10 = 0 THEN jsonb_build_object('name', 'Ada', 'email', 'ada-' || n || '@example.org') END,
               CASE WHEN n % 10 = 0 THEN 'stripe' END, CASE WHEN n % 10 = 0 THEN at END
        FROM (SELECT n, now() - interval '1 second' * ({first + rows} - n) - interval '1 day' AS at FROM {series}) AS t""",
        f"""INSERT INTO idempotency (caller, route, key, hold_id, fingerprint, created_at)
        SELECT 'customer-' || n / 4, 'POST /v1/holds', 'key-' || n, {_id(3)}, '\\x00'::bytea, now() - interval '1 day'
        FROM {series}""",
        f"""INSERT INTO reservation_events (reservation_id, from_status, to_status, reason)
        SELECT {_id(3)}, 'held', CASE WHEN n % 10 = 0 THEN 'pending' ELSE 'expired' END, 'long ago' FROM {series}""",
        f"""INSERT INTO sagas (id, reservation_id, status, generation, flags)
        SELECT {_id(4)}, {_id(3)}, 'completed', 1, '{{}}' FROM {bookings}""",
        f"""INSERT INTO saga_log (saga_id, step, direction, event, epoch)
        SELECT {_id(4)}, 'step-' || line, 'do', 'done', 1 FROM {series}, generate_series(1, 8) AS line
        WHERE n % 10 = 0""",
        f"""INSERT INTO payment_signals (payment_id, version, reservation_id, generation, body)
        SELECT {_id(5)}, version, {_id(3)}, 1, '{{}}' FROM {series}, generate_series(1, 2) AS version
        WHERE n % 10 = 0""",
        f"""UPDATE time_slots AS slot SET taken = booked.seats
        FROM (SELECT time_slot_id, sum(seats) AS seats FROM reservations
              WHERE seats_pinned AND id BETWEEN {_id(3, str(first))} AND {_id(3, str(first + rows - 1))} GROUP BY 1) AS booked
        WHERE slot.id = booked.time_slot_id""",
    )


def payment_sql(rows: int, *, first: int = 1) -> Sequence[str]:
    """Return statements that add `rows` captured payments and all that belongs to them."""
    series = f"generate_series({first}, {first + rows - 1}) AS n"
    return (
        f"""INSERT INTO payments (id, reservation_id, generation, status, version, amount, currency, capture_method,
            captured, intent_id, posted_version, refreshed_at)
        SELECT {_id(5)}, {_id(3)}, 1, 'captured', 2, 4500, 'EUR', 'manual', 4500, 'pi_old_' || n, 2, now()
        FROM {series}""",
        f"""INSERT INTO payment_calls (question, payment_id, step, key_number, answered_at, outcome)
        SELECT nextval('question_numbers'), {_id(5)}, step, 1, now(), 'ok'
        FROM {series}, unnest(ARRAY['create', 'capture']) AS step""",
        f"""INSERT INTO outbox (id, payment_id, version, status, event, receipt, delivered_at)
        SELECT {_id(6, "n * 2 + version")}, {_id(5)}, version,
               CASE version WHEN 1 THEN 'authorized' ELSE 'captured' END, '{{}}', 'applied', now()
        FROM {series}, generate_series(1, 2) AS version""",
        f"""INSERT INTO webhook_events (id, stripe_event_id, type, object_id, intent_id, livemode, status, payment_id,
            processed_at, received_at)
        SELECT {_born(7, "n * 2 + copy", "1 day")}, 'evt_old_' || n * 2 + copy, 'payment_intent.succeeded', 'pi_old_' || n,
               'pi_old_' || n, false, 'processed', {_id(5)}, now(), now() - interval '1 day'
        FROM {series}, generate_series(0, 1) AS copy""",
        f"""INSERT INTO idempotent_answers (route, key, fingerprint, payment_id, outcome)
        SELECT 'POST /internal/v1/payments', 'key-' || n, '\\x00'::bytea, {_id(5)}, 'ok' FROM {series}""",
        f"""INSERT INTO ledger_entries (transaction_id, payment_id, posting, cause, account, amount, currency)
        SELECT {_id(9)}, {_id(5)}, 'captured', '', account, amount, 'EUR'
        FROM {series}, (VALUES ('balance', 4500), ('guest', -4500)) AS sides (account, amount)""",
    )


async def fill(connection: Any, statements: Sequence[str], tables: Sequence[str]) -> None:
    """Run the statements, and let the database count what is there now."""
    for statement in statements:
        await connection.execute(statement)
    await connection.execute(f"VACUUM ANALYZE {', '.join(tables)}")
