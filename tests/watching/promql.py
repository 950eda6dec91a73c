"""What a PromQL expression asks for, and what our services have to answer with: read, not guessed."""

from collections.abc import Mapping
from dataclasses import dataclass

import promql_parser
from prometheus_client import CollectorRegistry

from payment_service.metrics import Metrics as PaymentMetrics
from reservation_service.metrics import Metrics as ReservationMetrics

# What Prometheus itself adds to every sample that it scrapes, and its own sample of whether it could.
GIVEN_LABELS = frozenset({"job", "instance"})
UP = "up"
_SAMPLES = {
    "counter": {"_total": ()},
    "gauge": {"": ()},
    "histogram": {"_bucket": ("le",), "_sum": (), "_count": ()},
}


@dataclass(frozen=True)
class Selector:
    """One series that an expression asks for, and the labels that it is chosen by."""

    metric: str
    labels: frozenset[str]


def selectors(expression: str) -> list[Selector]:
    """Return what an expression selects. Raises ValueError when it is no PromQL."""
    found: list[Selector] = []

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            labels = frozenset(matcher.name for matcher in node.matchers.matchers)
            found.append(Selector(node.name or "", labels))

    promql_parser.walk(promql_parser.parse(expression), look)
    return list(dict.fromkeys(found))


def catalogue() -> Mapping[str, frozenset[str]]:
    """Return every sample that one of our services may expose, with its labels."""
    samples = {UP: GIVEN_LABELS}
    for metrics in (ReservationMetrics(CollectorRegistry()), PaymentMetrics(CollectorRegistry())):
        for metric in vars(metrics).values():
            for ending, more in _SAMPLES.get(getattr(metric, "_type", ""), {}).items():
                samples[f"{metric._name}{ending}"] = GIVEN_LABELS | {*metric._labelnames, *more}
    return samples


def unknown_to_us(expression: str, *, also: frozenset[str] = frozenset()) -> list[str]:
    """Return the names and labels in an expression that no service has; `also` are the names of recording rules."""
    samples = catalogue()
    wrong = []
    for selector in selectors(expression):
        if selector.metric in also:
            continue
        if selector.metric not in samples:
            wrong.append(f"no metric {selector.metric}")
        else:
            wrong += [f"{selector.metric} has no label {label}" for label in selector.labels - samples[selector.metric]]
    return wrong
