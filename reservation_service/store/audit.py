"""The invariants of seats and statuses, as queries that return what violates them: nothing, ever.

Each query may be run on a living database: it finds nothing that is merely on its way. Each reads a table once or
follows an index, so the cost grows with the rows; `docs/explanation/invariants.md` says how it was measured.
"""

from reservation_service.states import CONVERTED, LEGAL_MOVES, LIVE_SAGA, PINNED, BookingStatus, ReleasedBy, SagaStatus
from reservation_service.store.slots import HOLD_ROUTE
from shared.append_only import unprotected
from shared.columns import is_one_of
from shared.invariants import Invariant

_LEGAL_EDGES = ", ".join(f"('{source}', '{target}')" for source, targets in LEGAL_MOVES.items() for target in targets)
# A booking that waits for an operator still has its seats: only a move away from there lets go of them.
_KEEPING = PINNED | {BookingStatus.NEEDS_ATTENTION}
_GAVE_BACK = f"{is_one_of('from_status', sorted(_KEEPING))} AND NOT {is_one_of('to_status', sorted(_KEEPING))}"
_TOOK_AGAIN = f"NOT {is_one_of('from_status', sorted(_KEEPING))} AND {is_one_of('to_status', sorted(_KEEPING))}"
# Names of the page (`saga/reservation_saga.py`), which is above this room: keys of the journal, so they never change.
_OUR_STEPS = "('create_hold', 'confirm_reservation')"
_LAST_STEP = "confirm_reservation"
_OVER = is_one_of("old.status", (BookingStatus.EXPIRED, BookingStatus.FAILED, BookingStatus.RELEASED))
# Who judged a hold in time may still have had to wait for locks, at most this long, before it was written down.
_WAITED_FOR_LOCKS = "interval '5 seconds'"
# The longest that a wall clock was ever turned back at once is an hour; this leaves room for the unusual.
_TURNED_BACK = "interval '3 hours'"


# Somebody still looks after the booking's money: a saga, or a person who was asked to.
_SOMEBODYS = is_one_of("s.status", sorted(LIVE_SAGA | {SagaStatus.NEEDS_ATTENTION}))
# Disputed money is with the bank.
_WITH_THE_BANK = "('disputed', 'dispute_lost')"
# An operator has ended the saga on their word, and nothing has moved it since; the last line of its journal says so.
_VOUCHED_FOR = """EXISTS (SELECT FROM saga_log AS v WHERE v.saga_id = s.id AND v.step = 'operator' AND v.event = 'resolve'
                   AND NOT EXISTS (SELECT FROM saga_log AS later WHERE later.saga_id = v.saga_id AND later.id > v.id))"""


def _is_known(time_zone: str) -> str:
    """Return the question whether the database knows this zone; it lists its zones once, whatever it is asked about."""
    return f"({time_zone} IN (SELECT name FROM pg_timezone_names))"  # noqa: S608  our own words


# Only what the limits promise: a use was let in although as many as allowed were pinned. Uses from before the limit was
# set are left alone, as are requests that were on their way then, and bookings that took their seats back later.
_LET_IN_AGAIN = """EXISTS (SELECT FROM reservation_events AS e
                    WHERE e.reservation_id = r.id AND e.to_status = 'pending' AND e.from_status <> 'held')"""


def _used_beyond(limit: str, per: str) -> str:
    """Return the discounts whose newest use of a group came on top of more than `limit` allows."""
    return f"""
        SELECT d.id FROM discounts AS d JOIN (
            SELECT r.discount_id, count(*) AS uses, max(r.created_at) AS newest FROM reservations AS r
            WHERE r.discount_id IS NOT NULL AND r.seats_pinned AND NOT {_LET_IN_AGAIN} GROUP BY {per}) AS u
          ON u.discount_id = d.id
        WHERE u.uses > d.{limit}
          AND (d.limits_changed_at IS NULL OR u.newest > d.limits_changed_at + interval '15 seconds')
    """  # noqa: S608  built from our own words


INVARIANTS = (
    Invariant(
        "I1",
        "no slot is oversold",
        "SELECT id FROM time_slots WHERE taken > capacity OR taken < 0",
    ),
    Invariant(
        "I2",
        "each slot's counter equals the seats of the bookings that pin them",
        """
        SELECT slot.id FROM time_slots AS slot
        LEFT JOIN (SELECT time_slot_id, sum(seats) AS seats FROM reservations WHERE seats_pinned GROUP BY 1) AS pinned
          ON pinned.time_slot_id = slot.id
        WHERE slot.taken <> coalesce(pinned.seats, 0)
        """,
    ),
    Invariant(
        "I3",
        "a booking's seats went back exactly once when it let go of them, and never while it keeps them",
        f"""
        SELECT r.id FROM reservations AS r
        LEFT JOIN (SELECT reservation_id, count(*) FILTER (WHERE {_GAVE_BACK}) - count(*) FILTER (WHERE {_TOOK_AGAIN}) AS times
                   FROM reservation_events GROUP BY 1) AS back ON back.reservation_id = r.id
        WHERE coalesce(back.times, 0) <> (NOT r.seats_pinned)::int
        """,  # noqa: S608  built from our own enumerations
    ),
    Invariant(
        "I4",
        "a payment of a booking has at most one live saga, and a pending booking has one for its present payment",
        """
        SELECT coalesce(r.id, s.reservation_id)
        FROM (SELECT id, generation FROM reservations WHERE status = 'pending') AS r
        FULL JOIN (SELECT reservation_id, generation, count(*) AS sagas FROM sagas
                   WHERE status IN ('running', 'waiting', 'unwinding') GROUP BY 1, 2) AS s
          ON s.reservation_id = r.id AND s.generation = r.generation
        WHERE s.sagas IS NULL OR s.sagas > 1
        """,
    ),
    Invariant(
        "I5",
        "money that a dead booking still owes its guest is on its way back, or somebody's case",
        f"""
        SELECT r.id FROM reservations AS r
        WHERE {is_one_of("r.status", (BookingStatus.CANCELLED, BookingStatus.FAILED))} AND r.payment_mode = 'stripe'
          AND r.payment ->> 'status' NOT IN {_WITH_THE_BANK}
          AND least(r.refund_due_minor, (r.payment ->> 'captured')::bigint) > (r.payment ->> 'refunded')::bigint
          AND NOT EXISTS (SELECT FROM sagas AS s WHERE s.reservation_id = r.id AND ({_SOMEBODYS} OR {_VOUCHED_FOR}))
        """,  # noqa: S608  built from our own enumerations
    ),
    Invariant(
        "I6",
        "no booking is confirmed without its money, unless it is free or paid elsewhere",
        """
        SELECT id FROM reservations WHERE status = 'confirmed' AND total_minor > 0 AND payment_mode = 'stripe'
          AND coalesce((payment ->> 'captured')::bigint, 0) < total_minor
        """,
    ),
    Invariant(
        "I9",
        "the database itself refuses to change or delete what is history",
        unprotected("reservation_events", "saga_log", "slot_changes", "payment_signals", "operator_actions"),
    ),
    Invariant(
        "I16",
        "no saga is overdue: each live one is leased, or falls due",
        """
        SELECT id FROM sagas WHERE status IN ('running', 'waiting', 'unwinding') AND due_at IS NULL
        """,
    ),
    Invariant(
        "I17",
        "a saga that needs attention says why",
        "SELECT id FROM sagas WHERE status = 'needs_attention' AND reason IS NULL",
    ),
    Invariant(
        "I18",
        "a completed saga has done each step once, up to the last one; a compensated one has undone whatever may have"
        " happened; or a person has vouched for it",
        f"""
        WITH undone AS (
            SELECT saga_id, step, max(id) FILTER (WHERE event = 'done') AS at FROM saga_log
            WHERE direction = 'undo' AND event IN ('done', 'in_vain') GROUP BY 1, 2
            HAVING max(id) FILTER (WHERE event = 'in_vain') > max(id) FILTER (WHERE event = 'done') IS NOT TRUE),
        steps AS (
            SELECT l.saga_id, l.step, count(*) FILTER (WHERE event = 'done') AS done,
                   count(*) FILTER (WHERE event = 'started') > count(*) FILTER (WHERE event = 'not_sent') AS maybe_sent
            FROM saga_log AS l LEFT JOIN undone AS u ON u.saga_id = l.saga_id AND u.step = l.step
            WHERE l.direction = 'do' AND l.step <> 'operator' AND l.id > coalesce(u.at, 0) GROUP BY 1, 2)
        SELECT s.id FROM sagas AS s LEFT JOIN steps AS p ON p.saga_id = s.id
        WHERE s.status IN ('completed', 'compensated') GROUP BY s.id
        HAVING CASE s.status
               WHEN 'completed' THEN bool_and(p.done = 1) AND bool_or(p.step = '{_LAST_STEP}') IS TRUE
               ELSE bool_and(NOT p.maybe_sent AND NOT (p.done > 0 AND p.step IN {_OUR_STEPS})) IS NOT FALSE END IS FALSE
           AND NOT {_VOUCHED_FOR}
        """,  # noqa: S608  built from our own words
    ),
    Invariant(
        "I19",
        "only the holder of the newest lease writes the journal",
        """
        SELECT id FROM (SELECT saga_id AS id, epoch < lag(epoch) OVER (PARTITION BY saga_id ORDER BY id) AS back
                        FROM saga_log) AS steps WHERE back
        """,
    ),
    Invariant(
        "I20",
        "a key stands once for one request, and shows no hold but its own caller's",
        f"""
        SELECT i.key FROM idempotency AS i LEFT JOIN reservations AS r ON r.id = i.hold_id
        WHERE r.id IS NULL OR length(i.fingerprint) = 0 OR (i.route = '{HOLD_ROUTE}' AND r.caller <> i.caller)
        UNION ALL
        SELECT key FROM idempotency GROUP BY caller, route, key HAVING count(*) > 1
        """,  # noqa: S608  built from our own words
    ),
    Invariant(
        "I21",
        "a key has one hold at a time: it shows the newest one, and the one before it had ended, and was not given back"
        " by its guest",
        f"""
        SELECT old.id FROM reservations AS new JOIN reservations AS old ON old.id = new.supersedes
        WHERE old.seats_pinned OR NOT {_OVER} OR old.released_by = '{ReleasedBy.GUEST}' OR old.caller <> new.caller
           OR new.id = old.id
        UNION ALL
        SELECT supersedes FROM reservations WHERE supersedes IS NOT NULL GROUP BY 1 HAVING count(*) > 1
        UNION ALL
        SELECT old.id FROM reservations AS new JOIN idempotency AS i ON i.hold_id = new.supersedes
        JOIN reservations AS old ON old.id = new.supersedes WHERE i.route = '{HOLD_ROUTE}'
        """,  # noqa: S608  built from our own words
    ),
    Invariant(
        "I22",
        "statuses moved along legal edges only, each from where the one before it led, and the last one is the row's",
        f"""
        SELECT r.id FROM reservations AS r LEFT JOIN
            (SELECT reservation_id, from_status, to_status, lag(to_status, 1, 'held') OVER life AS before,
                    lead(id) OVER life IS NULL AS last
             FROM reservation_events WINDOW life AS (PARTITION BY reservation_id ORDER BY id)) AS move
          ON move.reservation_id = r.id
        WHERE from_status <> before OR (from_status, to_status) NOT IN ({_LEGAL_EDGES})
           OR r.status <> coalesce(to_status, 'held') AND last IS NOT FALSE
        """,  # noqa: S608  built from our own enumerations
    ),
    Invariant(
        "I23",
        "every converted booking was converted before its hold expired, and no hold was expired before its time",
        f"""
        SELECT r.id FROM reservations AS r JOIN reservation_events AS e ON e.reservation_id = r.id
        WHERE e.from_status = 'held'
          AND ((e.to_status = 'pending' AND {is_one_of("r.status", sorted(CONVERTED))}
                AND e.created_at > r.expires_at + {_WAITED_FOR_LOCKS})
            OR (e.to_status = 'expired' AND e.created_at < r.expires_at))
        """,  # noqa: S608  built from our own enumerations
    ),
    Invariant(
        "I24",
        "every booking has an owner, and an id that nobody can guess",
        """
        SELECT id FROM reservations WHERE caller IS NULL OR caller = '' OR substr(id::text, 15, 1) <> '7'
        """,
    ),
    Invariant(
        "I28",
        "every time zone is one that the clock knows, and a slot's local time there is its instant again",
        f"""
        SELECT id FROM experiences WHERE NOT {_is_known("time_zone")}
        UNION ALL
        SELECT s.id FROM time_slots AS s JOIN experiences AS e ON e.id = s.experience_id
        WHERE NOT isfinite(s.starts_at) OR NOT isfinite(s.ends_at)
           OR CASE WHEN {_is_known("e.time_zone")}
                   THEN abs(extract(epoch FROM s.starts_at AT TIME ZONE e.time_zone AT TIME ZONE e.time_zone - s.starts_at))
                        > extract(epoch FROM {_TURNED_BACK}) END
        """,  # noqa: S608  built from our own words
    ),
    Invariant(
        "discount-uses",
        "no discount was let in more often than its limits allow, in all or per customer",
        f"{_used_beyond('max_uses', 'r.discount_id')} UNION {_used_beyond('max_uses_per_customer', 'r.discount_id, r.caller')}",
    ),
    Invariant(
        "price-sums",
        "every price adds up: lines to the subtotal, subtotal less discount to the total, and nothing is negative",
        """
        SELECT id FROM (
            SELECT r.id, r.total_minor, (price #>> '{subtotal,amount}')::bigint AS subtotal,
                   (price #>> '{discount,amount}')::bigint AS discount, (price #>> '{total,amount}')::bigint AS total,
                   (SELECT sum((line #>> '{amount,amount}')::bigint)
                    FROM jsonb_array_elements(r.price -> 'lines') AS line) AS lines
            FROM reservations AS r) AS p
        WHERE (lines = subtotal AND subtotal - discount = total AND total = total_minor AND discount >= 0
               AND total >= 0) IS NOT TRUE
        """,
    ),
)
