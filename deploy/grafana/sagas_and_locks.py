"""How bookings are carried to their end, how holds are admitted, and whether anything is untrue."""

from deploy.grafana.expressions import highest, mean, per_minute, quantile, rate, share, total, zero_while
from deploy.grafana.panels import Dashboard, Goal, Kind, Panel, Query, Row, Unit

_STEPS = "reservation_saga_step_duration_seconds"
_LOCKS = "reservation_slot_lock_wait_seconds"
_BUSY = 'outcome=~"slot_busy|service_unavailable"'
_NONE = Goal(1)  # one is too many
_NOT_CHECKED = "time() - max{} (invariants_checked_timestamp_seconds)"
_HOUR = Goal(3600)

_FIRST = Row(
    "Is it our guests?",
    4,
    (
        Panel(
            "Holds refused because we are busy",
            "Which share of requests for a hold could not be decided in time (503)?",
            "0, and never above 0.1 %; nothing was done, and the same call again is safe.",
            (Query(share(rate("reservation_holds_total", where=_BUSY), rate("reservation_holds_total")), "503"),),
            Unit.SHARE,
            Kind.FIGURE,
            Goal(0.001),
        ),
        Panel(
            "Bookings that need a person",
            "How many sagas wait for a person?",
            "0. Nothing moves by itself any more: `holdfast saga list` says what to do.",
            (
                Query(
                    # Without one there is no series; what is counted in the same breath says that somebody has looked.
                    zero_while(
                        "reservation_refunds_outstanding",
                        total(highest("reservation_sagas_needing_attention", "reason")),
                    ),
                    "sagas",
                ),
            ),
            kind=Kind.FIGURE,
            goal=_NONE,
        ),
        Panel(
            "Rows that are untrue",
            "How many rows violate an invariant, in both databases?",
            "0.",
            (Query(total(highest("invariant_violations", "job", "id")), "rows"),),
            kind=Kind.FIGURE,
            goal=_NONE,
        ),
        Panel(
            "Since invariants were checked",
            "How long ago did any process check the invariants?",
            "below ten minutes; above an hour the number beside it is stale.",
            (Query(_NOT_CHECKED.format(" by (job)"), "{{job}}"),),
            Unit.SECONDS,
            Kind.FIGURE,
            _HOUR,
        ),
    ),
)

_SAGAS = Row(
    "Sagas",
    3,
    (
        Panel(
            "How long steps take",
            "How long does the slowest of a hundred outside steps take?",
            "somewhat above the calls to Stripe on the page about money.",
            (Query(quantile(0.99, _STEPS, "step", "direction"), "{{direction}} {{step}}"),),
            Unit.SECONDS,
        ),
        Panel(
            "How steps end",
            "How often are outside steps taken, and how do they end?",
            "done, and some refused; not_sent and unknown are tried again.",
            (
                Query(
                    per_minute(f"{_STEPS}_count", "step", "direction", "outcome"), "{{direction}} {{step}}: {{outcome}}"
                ),
            ),
            Unit.A_MINUTE,
        ),
        Panel(
            "Sagas in hand",
            "How many sagas run right now, in all processes together?",
            "few; a process has 20 at most, so a line that stays there is a queue.",
            (Query(total("reservation_sagas_live"), "sagas"),),
        ),
        Panel(
            "Sagas that need a person, by reason",
            "Why do sagas wait for a person? The runbook has a line for each reason.",
            "no line at all.",
            (Query(highest("reservation_sagas_needing_attention", "reason"), "{{reason}}"),),
            goal=_NONE,
        ),
        Panel(
            "Messages from payment_service",
            "What became of payment_service's messages?",
            "applied, and some ignored because an answer had said it before.",
            (Query(per_minute("reservation_payment_signals_total", "result"), "{{result}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Steps without an answer",
            "Which steps end without an answer of payment_service's?",
            "no line at all; while there is one, bookings stay pending and seats stay theirs.",
            (
                Query(
                    per_minute(f"{_STEPS}_count", "step", "outcome", where='outcome=~"not_sent|unknown|stuck"'),
                    "{{step}}: {{outcome}}",
                ),
            ),
            Unit.A_MINUTE,
        ),
    ),
)

_ADMISSION = Row(
    "Admission of holds",
    3,
    (
        Panel(
            "How long callers wait to be admitted",
            "How long does a caller wait for the statement that takes seats, the line before it included?",
            "p99 below 50 ms: half of the 100 ms that a hold may take.",
            (
                Query(quantile(0.5, "reservation_admission_wait_seconds"), "p50"),
                Query(quantile(0.99, "reservation_admission_wait_seconds"), "p99"),
            ),
            Unit.SECONDS,
            goal=Goal(0.1),
        ),
        Panel(
            "Holds in one transaction",
            "How many holds share one transaction, on average?",
            "near 1 on a quiet day, and more the more come at once.",
            (Query(mean("reservation_admission_group_size"), "holds"),),
        ),
        Panel(
            "How groups end",
            "How do groups of holds end?",
            "written; blocked while somebody keeps a slot's row locked, settled_alone after an error.",
            (Query(per_minute("reservation_admission_groups_total", "outcome"), "{{outcome}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Callers who wait",
            "How many callers wait to be admitted right now, in all processes together?",
            "near 0; what stays high is more than the database can write.",
            (Query(total("reservation_admission_waiting"), "waiting"),),
        ),
        Panel(
            "Callers who left",
            "How many callers hung up while they waited?",
            "none; each of them waited longer than their program wanted to.",
            (Query(per_minute("reservation_admission_left_total"), "left"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Holds refused because we are busy, by answer",
            "What do those hear whose hold could not be decided in time?",
            "no line at all.",
            (Query(per_minute("reservation_holds_total", "outcome", where=_BUSY), "{{outcome}}"),),
            Unit.A_MINUTE,
        ),
    ),
)

_REDIS = Row(
    "Redis: locks and limits",
    3,
    (
        Panel(
            "How long locks take",
            "How long does a group of holds wait for its slots' locks?",
            "acquired within a few milliseconds; contended goes on without after a moment.",
            (Query(quantile(0.99, _LOCKS, "outcome"), "{{outcome}}"),),
            Unit.SECONDS,
        ),
        Panel(
            "How locks end",
            "How often are locks asked for, and how does that end?",
            "acquired; unavailable means that Redis is away, and PostgreSQL decides alone.",
            (Query(rate(f"{_LOCKS}_count", "outcome"), "{{outcome}}"),),
            Unit.A_SECOND,
        ),
        Panel(
            "Locks that others have",
            "How often did somebody else have a slot's lock?",
            "near 0; it grows while many processes sell the same slot.",
            (Query(per_minute("reservation_slot_locks_contended_total"), "contended"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Locks lost",
            "How often was a lock gone before its holder had finished?",
            "none; if Redis is well, something makes holders slow: look at the database first.",
            (Query(per_minute("reservation_slot_locks_lost_total"), "lost"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "How Redis fails the lock",
            "How does Redis fail us, and when: as a lock is taken, or given back?",
            "no line at all. Holds go on; the runbook says what each kind means.",
            (Query(per_minute("reservation_slot_lock_failures_total", "doing", "kind"), "{{doing}}: {{kind}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Who counts requests",
            "Who counts requests for the limits?",
            "redis. With fallback each process counts for itself, and limits are wider than they say.",
            (Query(rate("reservation_rate_limit_counts_total", "counted_by"), "{{counted_by}}"),),
            Unit.REQUESTS_A_SECOND,
        ),
    ),
)

_TRUTH = Row(
    "Is anything untrue?",
    2,
    (
        Panel(
            "Rows that are untrue, by invariant",
            "Which invariant is violated, and by how many rows?",
            "every line at 0.",
            (Query(highest("invariant_violations", "job", "id"), "{{job}} {{id}}"),),
            goal=_NONE,
        ),
        Panel(
            "Since invariants were checked, by service",
            "How long ago did any process of a service check its invariants?",
            "a saw that turns back every five minutes.",
            (Query(_NOT_CHECKED.format(" by (job)"), "{{job}}"),),
            Unit.SECONDS,
            goal=_HOUR,
        ),
    ),
)

PAGE = Dashboard(
    "sagas-and-locks",
    "Holdfast: sagas and locks",
    "How bookings are carried to their end, how holds are admitted, and whether anything is untrue.",
    (_FIRST, _SAGAS, _ADMISSION, _REDIS, _TRUTH),
)
