"""The invariants of seats and statuses, as queries that return what violates them: nothing, ever."""

from reservation_service.states import CONVERTED, LEGAL_MOVES
from shared.invariants import Invariant

_LEGAL_EDGES = ", ".join(f"('{source}', '{target}')" for source, targets in LEGAL_MOVES.items() for target in targets)
_CONVERTED = ", ".join(f"'{status}'" for status in sorted(CONVERTED))

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
        "I4",
        "a booking has at most one live saga, and a pending booking has one",
        """
        SELECT r.id FROM reservations AS r
        WHERE r.status = 'pending' AND NOT EXISTS (
            SELECT FROM sagas AS s WHERE s.reservation_id = r.id AND s.status IN ('running', 'waiting', 'unwinding'))
        """,
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
        "I19",
        "only the holder of the newest lease writes the journal",
        """
        SELECT id FROM (SELECT saga_id AS id, epoch < lag(epoch) OVER (PARTITION BY saga_id ORDER BY id) AS back
                        FROM saga_log) AS steps WHERE back
        """,
    ),
    Invariant(
        "I21",
        "a renewed hold's predecessor is over",
        """
        SELECT old.id FROM reservations AS new JOIN reservations AS old ON old.id = new.supersedes
        WHERE old.seats_pinned
        """,
    ),
    Invariant(
        "I22",
        "statuses moved along legal edges only",
        f"""
        SELECT reservation_id AS id FROM reservation_events
        WHERE (from_status, to_status) NOT IN ({_LEGAL_EDGES})
        UNION ALL
        SELECT r.id FROM reservations AS r WHERE r.status <> coalesce(
            (SELECT e.to_status FROM reservation_events AS e WHERE e.reservation_id = r.id ORDER BY e.id DESC LIMIT 1),
            'held')
        """,  # noqa: S608  built from our own enumerations
    ),
    Invariant(
        "I23",
        "every converted booking was converted before its hold expired",
        f"""
        SELECT r.id FROM reservations AS r WHERE r.status IN ({_CONVERTED}) AND EXISTS (
            SELECT FROM reservation_events AS e
            WHERE e.reservation_id = r.id AND e.from_status = 'held' AND e.to_status = 'pending'
              AND e.created_at > r.expires_at + interval '1 second')
        """,  # noqa: S608  built from our own enumerations
    ),
)
