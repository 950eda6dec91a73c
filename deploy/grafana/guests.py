"""What guests notice: are they answered, how fast, and do their holds become bookings?"""

from deploy.grafana.expressions import per_minute, quantile, rate, share, share_of_each, total
from deploy.grafana.panels import Dashboard, Goal, Kind, Panel, Query, Row, Unit

ANSWERS = "http_server_request_duration_seconds"
OUR_FAULT = 'http_response_status_code=~"5.."'
_GUESTS = 'http_route=~"/v1/.*"'
# Asked the way the alert HoldsAreSlow asks, so that both mean the same holds.
_HOLD = 'http_request_method="POST",http_route="/v1/holds"'
_ADMITTED = f'{_HOLD},http_response_status_code!~"429|499|5.."'
_CONVERT = 'http_request_method="POST",http_route="/v1/holds/{hold_id}/convert"'
FAILURES_GOAL = Goal(0.001)
_HOLD_GOAL = Goal(0.1)

_FIRST = Row(
    "Is it our guests?",
    4,
    (
        Panel(
            "Failed answers",
            "Which share of guests' requests do we answer with 5xx?",
            "0, and never above 0.1 %.",
            (
                Query(
                    share(
                        rate(f"{ANSWERS}_count", where=f"{_GUESTS},{OUR_FAULT}"),
                        rate(f"{ANSWERS}_count", where=_GUESTS),
                    ),
                    "5xx",
                ),
            ),
            Unit.SHARE,
            Kind.FIGURE,
            FAILURES_GOAL,
        ),
        Panel(
            "Slowest holds",
            "How long does the slowest of a hundred holds take?",
            "tens of milliseconds; the goal is 100 ms.",
            (Query(quantile(0.99, ANSWERS, where=_HOLD), "p99"),),
            Unit.SECONDS,
            Kind.FIGURE,
            _HOLD_GOAL,
        ),
        Panel(
            "Holds answered within 100 ms",
            "Which share of requests for a hold is answered within 100 ms, granted or not, those turned away left out?",
            "above 99 %.",
            (
                Query(
                    share(
                        rate(f"{ANSWERS}_bucket", where=f'{_ADMITTED},le="0.1"'),
                        rate(f"{ANSWERS}_count", where=_ADMITTED),
                    ),
                    "in time",
                ),
            ),
            Unit.SHARE,
            Kind.FIGURE,
            Goal(0.99, at_least=True),
            from_zero=False,
        ),
        Panel(
            "Bookings confirmed",
            "How many bookings a minute come to their good end?",
            "what this hour of the week usually brings; 0 only when nobody is there.",
            (Query(per_minute("reservation_bookings_total", where='status="confirmed"'), "confirmed"),),
            Unit.A_MINUTE,
            Kind.FIGURE,
        ),
    ),
)

_FUNNEL = Row(
    "From a hold to a booking",
    3,
    (
        Panel(
            "Held, converted, confirmed",
            "Where do guests get lost between a hold and a booking?",
            "each line below the one before, at a steady distance; confirmed follows when guests have paid.",
            (
                Query(per_minute("reservation_holds_total", where='outcome="created"'), "held"),
                Query(per_minute("reservation_bookings_total", where='status="pending"'), "converted"),
                Query(per_minute("reservation_bookings_total", where='status="confirmed"'), "confirmed"),
            ),
            Unit.A_MINUTE,
        ),
        Panel(
            "What becomes of requests for a hold",
            "How do requests for a hold end?",
            "mostly created; slot_unavailable while something sells out; slot_busy hardly ever.",
            (Query(per_minute("reservation_holds_total", "outcome"), "{{outcome}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "What convert answers",
            "What do guests hear who convert a hold?",
            "mostly action_required or succeeded; payment_setup_failed only while Stripe is away.",
            (Query(per_minute("reservation_conversions_total", "outcome"), "{{outcome}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Statuses that bookings reach",
            "Which statuses do bookings reach?",
            "as many pending as all others together, and hardly any needs_attention.",
            (Query(per_minute("reservation_bookings_total", "status"), "{{status}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Cancellations",
            "Who has bookings cancelled, guests or operators?",
            "few by guests, and none by operators unless a departure is cancelled.",
            (Query(per_minute("reservation_cancellations_total", "by"), "by {{by}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Holds that lapsed",
            "How many holds end because nobody converted them in time, and who notices first?",
            "the sweeper tidies up most; others want the seats first only in a rush.",
            (
                Query(per_minute("reservation_holds_expired_total"), "by the sweeper"),
                Query(per_minute("reservation_holds_displaced_total"), "by who wanted the seats"),
            ),
            Unit.A_MINUTE,
        ),
    ),
)

_ANSWERS = Row(
    "Answers",
    2,
    (
        Panel(
            "Requests, by route",
            "What do guests ask for, and how often?",
            "the mix of every day; one line that leaves the others behind is a crowd or a loop.",
            (
                Query(
                    rate(f"{ANSWERS}_count", "http_request_method", "http_route", where=_GUESTS),
                    "{{http_request_method}} {{http_route}}",
                ),
            ),
            Unit.REQUESTS_A_SECOND,
        ),
        Panel(
            "Failed answers, by route",
            "Where do guests get 5xx, and what share of their requests is it?",
            "no line at all.",
            (
                Query(
                    share_of_each(
                        rate(f"{ANSWERS}_count", "http_request_method", "http_route", where=f"{_GUESTS},{OUR_FAULT}"),
                        rate(f"{ANSWERS}_count", "http_request_method", "http_route", where=_GUESTS),
                    ),
                    "{{http_request_method}} {{http_route}}",
                ),
            ),
            Unit.SHARE,
            goal=FAILURES_GOAL,
        ),
        Panel(
            "How long a hold takes",
            "How long do guests wait for a hold, whatever the answer?",
            "p50 below 20 ms, p99 below 100 ms.",
            (
                Query(quantile(0.5, ANSWERS, where=_HOLD), "p50"),
                Query(quantile(0.99, ANSWERS, where=_HOLD), "p99"),
            ),
            Unit.SECONDS,
            goal=_HOLD_GOAL,
        ),
        Panel(
            "How long convert takes",
            "How long do guests wait for convert? It asks Stripe once, so Stripe's time is in it.",
            "somewhat above what a call to Stripe takes: compare it with the calls on the page about money.",
            (
                Query(quantile(0.5, ANSWERS, where=_CONVERT), "p50"),
                Query(quantile(0.99, ANSWERS, where=_CONVERT), "p99"),
            ),
            Unit.SECONDS,
        ),
    ),
)

_LIMITS = Row(
    "Limits and streams",
    3,
    (
        Panel(
            "Turned away by limits",
            "Which limit turns requests away?",
            "few, by caller; many at once mean a script, or a limit that is too narrow.",
            (Query(per_minute("reservation_rate_limited_total", "policy"), "{{policy}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Availability streams",
            "How many pages watch what is left, in all processes together?",
            "as many as guests look at a calendar; all gone at once means a restart or a proxy.",
            (Query(total("reservation_stream_listeners"), "open"),),
        ),
        Panel(
            "What streams cost",
            "How often is the database asked for changed slots, and how many listeners were too slow and cut off?",
            "about 120 looks a minute for each process that has a stream open, none cut off.",
            (
                Query(per_minute("reservation_stream_looks_total"), "looks"),
                Query(per_minute("reservation_stream_listeners_cut_total"), "cut off"),
            ),
            Unit.A_MINUTE,
        ),
    ),
)

PAGE = Dashboard(
    "guests",
    "Holdfast: guests",
    "What guests notice. Begin here; the other pages say why.",
    (_FIRST, _FUNNEL, _ANSWERS, _LIMITS),
)
