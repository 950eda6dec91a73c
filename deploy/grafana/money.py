"""What happens to money: calls to Stripe, its webhooks, the news about it, and whether the books agree."""

from deploy.grafana.expressions import highest, per_minute, quantile, rate, share, share_of_each
from deploy.grafana.panels import Colour, Dashboard, Goal, Kind, Meaning, Panel, Query, Row, Unit

_OPERATIONS = "payment_operations_total"
_CALLS = "payment_provider_call_duration_seconds"
_FAILED = 'outcome=~"not_sent|unknown"'
_NONE = Goal(1)  # one is too many
# Where there is an alert, the goal is the number from which on it comes.
_BREAKER = (
    (0, Meaning("closed", Colour.WELL)),
    (1, Meaning("half-open", Colour.CAREFUL)),
    (2, Meaning("open", Colour.ALARMED)),
)

_FIRST = Row(
    "Is it our guests?",
    4,
    (
        Panel(
            "Technical failures",
            "Which share of payment operations ends without an answer of Stripe's (not_sent, unknown)?",
            "0, and never above 0.1 %; sagas try again by themselves.",
            (Query(share(rate(_OPERATIONS, where=_FAILED), rate(_OPERATIONS)), "not_sent or unknown"),),
            Unit.SHARE,
            Kind.FIGURE,
            Goal(0.001),
        ),
        Panel(
            "Refused by Stripe",
            "Which share of payment operations does Stripe or a guest's bank refuse?",
            "a few percent that hardly change; a jump is a matter of cards or of our account, not of our machines.",
            (Query(share(rate(_OPERATIONS, where='outcome="declined"'), rate(_OPERATIONS)), "declined"),),
            Unit.SHARE,
            Kind.FIGURE,
        ),
        Panel(
            "Calls to Stripe",
            "Are calls to Stripe cut off in any process?",
            "closed. Open for minutes is a matter for a person.",
            (Query(highest("payment_breaker_state", "breaker"), "{{breaker}}"),),
            kind=Kind.FIGURE,
            goal=Goal(2),
            meanings=_BREAKER,
        ),
        Panel(
            "Refunds outstanding",
            "How many ended bookings still wait for money to come back?",
            "few, and it goes down; a number that only grows is owed to guests.",
            (Query(highest("reservation_refunds_outstanding"), "bookings"),),
            kind=Kind.FIGURE,
        ),
    ),
)

_PAYMENTS = Row(
    "Payments",
    3,
    (
        Panel(
            "Payment operations",
            "How do create, capture, cancel and refund end?",
            "mostly ok, and some declined.",
            (Query(per_minute(_OPERATIONS, "operation", "outcome"), "{{operation}}: {{outcome}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Technical failures, by operation",
            "Which operations end without an answer of Stripe's, and what share of them is it?",
            "no line at all.",
            (
                Query(
                    share_of_each(rate(_OPERATIONS, "operation", where=_FAILED), rate(_OPERATIONS, "operation")),
                    "{{operation}}",
                ),
            ),
            Unit.SHARE,
            goal=Goal(0.001),
        ),
        Panel(
            "Money that comes late",
            "What becomes of money that comes when its booking is over?",
            "hardly any; rebooked where the seats were still free, else returned.",
            (Query(per_minute("reservation_late_money_total", "notice"), "{{notice}}"),),
            Unit.A_MINUTE,
        ),
    ),
)

_STRIPE = Row(
    "Stripe",
    3,
    (
        Panel(
            "How long calls to Stripe take",
            "How long does the slowest of a hundred calls take, retries included?",
            "below a second.",
            (Query(quantile(0.99, _CALLS, "operation"), "{{operation}}"),),
            Unit.SECONDS,
        ),
        Panel(
            "How calls to Stripe end",
            "How often is Stripe called, and what comes of it?",
            "ok. not_sent and unknown mean that Stripe, or the way to it, is in trouble.",
            (Query(rate(f"{_CALLS}_count", "operation", "outcome"), "{{operation}}: {{outcome}}"),),
            Unit.A_SECOND,
        ),
        Panel(
            "Breakers",
            "When were calls to Stripe cut off? The worst of all processes is shown.",
            "closed all the time.",
            (Query(highest("payment_breaker_state", "breaker"), "{{breaker}}"),),
            kind=Kind.STATES,
            goal=Goal(2),
            meanings=_BREAKER,
        ),
        Panel(
            "Calls not even tried",
            "How many calls were refused by an open breaker?",
            "none.",
            (Query(per_minute("payment_breaker_refusals_total", "breaker"), "{{breaker}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Breakers that change",
            "How often does a breaker change? Each process counts a change for itself.",
            "none; if it goes to and fro, Stripe is well for some calls only.",
            (Query(per_minute("payment_breaker_changes_total", "breaker", "to"), "{{breaker}} to {{to}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Event types that Stripe does not send",
            "How many event types that we need does no endpoint at Stripe send?",
            "0; -1 means that Stripe could not be asked, or that the key may not read endpoints.",
            (Query(highest("payment_webhook_event_types_missing"), "missing"),),
            goal=_NONE,
            from_zero=False,
        ),
    ),
)

_WEBHOOKS = Row(
    "Webhooks",
    3,
    (
        Panel(
            "What arrives at the webhook door",
            "How many events come, and are they taken?",
            "stored, and a few duplicates; bad_signature means a wrong secret, or a stranger.",
            (Query(per_minute("payment_webhooks_received_total", "result"), "{{result}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "What becomes of stored events",
            "Do events have their effect?",
            "processed, and ignored where a type says nothing to us; dead is a matter for a person.",
            (Query(per_minute("payment_webhooks_processed_total", "result"), "{{result}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "How long events take",
            "How long after its arrival has the slowest of a hundred events had its effect?",
            "below a second; bookings are confirmed that much later.",
            (Query(quantile(0.99, "payment_webhook_lag_seconds"), "p99"),),
            Unit.SECONDS,
            goal=Goal(60),
        ),
        Panel(
            "Events that wait",
            "How many stored events still wait for their effect?",
            "near 0; a burst drains by itself, a steady growth means that Stripe cannot be asked.",
            (Query(highest("payment_webhooks_waiting"), "waiting"),),
            goal=Goal(500),
        ),
        Panel(
            "Dead events",
            "How many events wait for an operator?",
            "0.",
            (Query(highest("payment_webhooks_dead"), "dead"),),
            goal=_NONE,
        ),
        Panel(
            "Dead events, by reason",
            "Why are events dead? The runbook has a line for each reason.",
            "no line at all.",
            (Query(highest("payment_webhooks_dead_by_reason", "reason"), "{{reason}}"),),
            goal=_NONE,
        ),
    ),
)

_NEWS = Row(
    "News for reservation_service",
    3,
    (
        Panel(
            "News delivered",
            "Does reservation_service get the news?",
            "applied, and some ignored; failed only while it is away.",
            (Query(per_minute("payment_news_deliveries_total", "result"), "{{result}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "News that waits",
            "How much news has reservation_service not heard yet?",
            "near 0; what grows is told when it can be reached again.",
            (Query(highest("payment_news_waiting"), "waiting"),),
            goal=Goal(100),
        ),
        Panel(
            "News spared",
            "How much news need not be told, because an answer or newer news has said it?",
            "about as much as is delivered.",
            (Query(per_minute("payment_news_spared_total"), "spared"),),
            Unit.A_MINUTE,
        ),
    ),
)

_BOOKS = Row(
    "Do the books agree?",
    3,
    (
        Panel(
            "Last comparison with Stripe",
            "How long ago was Stripe's list last read to its end?",
            "below two minutes; what only grows means that Stripe cannot be asked, or that the flag is off.",
            (Query(highest("payment_reconciliation_age_seconds", "comparison"), "{{comparison}}"),),
            Unit.SECONDS,
            goal=Goal(3600),
        ),
        Panel(
            "Drift",
            "What did only the comparison with Stripe tell us?",
            "none. Many events or payments mean that webhooks do not arrive; an orphan is a matter for a person.",
            (Query(per_minute("payment_reconciliation_drift_total", "kind"), "{{kind}}"),),
            Unit.A_MINUTE,
        ),
        Panel(
            "Contradictions",
            "How often did Stripe's object contradict ours?",
            "never.",
            (Query(per_minute("payment_contradictions_total"), "contradictions"),),
            Unit.A_MINUTE,
        ),
    ),
)

PAGE = Dashboard(
    "money",
    "Holdfast: money",
    "What happens to money, from a call to Stripe to a comparison of the books.",
    (_FIRST, _PAYMENTS, _STRIPE, _WEBHOOKS, _NEWS, _BOOKS),
)
