"""How the processes themselves are: do they answer, do they wait for the database, does their background work run?"""

from deploy.grafana.expressions import highest, per_minute, quantile, rate, share, share_of_each, total
from deploy.grafana.guests import ANSWERS, FAILURES_GOAL, OUR_FAULT
from deploy.grafana.panels import Dashboard, Goal, Kind, Panel, Query, Row, Unit

_POOL_WAIT = "db_client_connection_wait_seconds"
_LAG = "event_loop_lag_seconds"
_RUNS = "background_run_duration_seconds"
_LAG_GOAL = Goal(0.1)
_OLDEST_GOAL = Goal(300)

_FIRST = Row(
    "Is it our guests?",
    4,
    (
        Panel(
            "Failed answers of all services",
            "Which share of all requests, those between the services included, do we answer with 5xx?",
            "0, and never above 0.1 %.",
            (Query(share(rate(f"{ANSWERS}_count", where=OUR_FAULT), rate(f"{ANSWERS}_count")), "5xx"),),
            Unit.SHARE,
            Kind.FIGURE,
            FAILURES_GOAL,
        ),
        Panel(
            "Processes that do not answer",
            "How many processes could Prometheus not reach?",
            "0, but for a moment during a release.",
            (Query(total("up == bool 0"), "away"),),
            kind=Kind.FIGURE,
            goal=Goal(1),
        ),
        Panel(
            "Worst wait for a connection",
            "How long does the slowest of a hundred requests wait for a connection to the database?",
            "below 10 ms.",
            (Query(quantile(0.99, _POOL_WAIT), "p99"),),
            Unit.SECONDS,
            Kind.FIGURE,
            Goal(0.1),
        ),
        Panel(
            "Oldest transaction",
            "For how long has somebody kept a transaction open?",
            "below ten seconds; from five minutes on PostgreSQL falls behind with its tidying.",
            (Query(highest("db_oldest_transaction_seconds"), "oldest"),),
            Unit.SECONDS,
            Kind.FIGURE,
            _OLDEST_GOAL,
        ),
    ),
)

_ANSWERS = Row(
    "Answers",
    2,
    (
        Panel(
            "Processes that answer",
            "How many processes of each service are up, of how many that Prometheus knows?",
            "both lines of a service on each other.",
            (
                Query(total("up", "job"), "{{job}} up"),
                Query("count by (job) (up)", "{{job}} known"),
            ),
        ),
        Panel(
            "Answers, by kind",
            "How many answers does each service give, and of which kind?",
            "mostly 2xx; 4xx are refusals, 5xx are our fault.",
            tuple(
                Query(
                    rate(f"{ANSWERS}_count", "job", where=f'http_response_status_code=~"{kind}.."'),
                    f"{{{{job}}}} {kind}xx",
                )
                for kind in (2, 3, 4, 5)
            ),
            Unit.REQUESTS_A_SECOND,
        ),
        Panel(
            "Failed answers, by service",
            "Which share of its requests does each service answer with 5xx?",
            "no line at all.",
            (
                Query(
                    share_of_each(rate(f"{ANSWERS}_count", "job", where=OUR_FAULT), rate(f"{ANSWERS}_count", "job")),
                    "{{job}}",
                ),
            ),
            Unit.SHARE,
            goal=FAILURES_GOAL,
        ),
        Panel(
            "How long answers take",
            "How long does the slowest of a hundred answers of each service take? Of a stream, its beginning counts.",
            "below a second; calls that ask Stripe are in it.",
            (Query(quantile(0.99, ANSWERS, "job"), "{{job}}"),),
            Unit.SECONDS,
        ),
    ),
)

_DATABASE = Row(
    "Database",
    3,
    (
        Panel(
            "Connections",
            "How many pool connections are active, idle, waited for, in all processes of a service together?",
            "some idle, and nobody waiting for longer than a moment.",
            (Query(total("db_client_connections", "job", "state"), "{{job}} {{state}}"),),
        ),
        Panel(
            "Waiting for a connection",
            "How long does the slowest of a hundred requests wait for a connection?",
            "below 10 ms; more means that statements are slow, or that the pool is too small.",
            (Query(quantile(0.99, _POOL_WAIT, "job"), "{{job}}"),),
            Unit.SECONDS,
            goal=Goal(0.1),
        ),
        Panel(
            "Oldest transaction, by service",
            "In which database does somebody keep a transaction open?",
            "below ten seconds. Ours end by then; the runbook says how to find whose it is.",
            (Query(highest("db_oldest_transaction_seconds", "job"), "{{job}}"),),
            Unit.SECONDS,
            goal=_OLDEST_GOAL,
        ),
    ),
)

_BACKGROUND = Row(
    "The event loop, and what happens without a request",
    2,
    (
        Panel(
            "How late the event loop wakes",
            "How late does the event loop wake who has slept, in one of a hundred cases?",
            "a few milliseconds; above 100 ms something blocks it.",
            (Query(quantile(0.99, _LAG, "job"), "{{job}}"),),
            Unit.SECONDS,
            goal=_LAG_GOAL,
        ),
        Panel(
            "Runs of background work",
            "Does the background work run?",
            "steady lines; one that falls to 0 is work that is not done any more.",
            (Query(rate(f"{_RUNS}_count", "job", "task"), "{{job}} {{task}}"),),
            Unit.A_SECOND,
        ),
        Panel(
            "Failures of background work",
            "Which background work fails? A warning tick_failed in the log says why.",
            "no line above 0; the next run makes up for it.",
            (Query(per_minute(f"{_RUNS}_count", "job", "task", where='succeeded="false"'), "{{job}} {{task}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "How long background work takes",
            "How long does the slowest of a hundred batches take?",
            "below a second; watch_loop sleeps for a quarter of one, and check_invariants may take some.",
            (Query(quantile(0.99, _RUNS, "job", "task"), "{{job}} {{task}}"),),
            Unit.SECONDS,
        ),
        Panel(
            "Old keys forgotten",
            "How many old idempotency keys were deleted?",
            "about as many as are made, a few days later.",
            (Query(per_minute("reservation_keys_forgotten_total"), "keys"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Old events forgotten",
            "How many handled events were deleted because of their age?",
            "about as many as come, some weeks later.",
            (Query(per_minute("payment_webhooks_forgotten_total"), "events"),),
            Unit.A_MINUTE,
        ),
    ),
)

PAGE = Dashboard(
    "processes",
    "Holdfast: processes",
    "How the processes are: whether they answer, wait for the database, and do their background work.",
    (_FIRST, _ANSWERS, _DATABASE, _BACKGROUND),
)
