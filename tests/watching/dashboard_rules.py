"""What every panel and every dashboard owes its reader: each rule takes one and yields what is wrong with it."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import promql_parser

from tests.watching.panels import panels
from tests.watching.promql import catalogue, selectors, unknown_to_us

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_GRID_WIDTH = 24
_SUMMED = ("_total", "_bucket", "_sum", "_count")  # what only ever grows, until its process ends
# Every process sets these to the same number, from the database: adding them up would count it once for each.
COUNTED_BY_ALL = frozenset(
    {
        "db_oldest_transaction_seconds",
        "invariant_violations",
        "invariants_checked_timestamp_seconds",
        "payment_breaker_state",
        "payment_news_waiting",
        "payment_reconciliation_age_seconds",
        "payment_webhook_event_types_missing",
        "payment_webhooks_dead",
        "payment_webhooks_dead_by_reason",
        "payment_webhooks_waiting",
        "reservation_refunds_outstanding",
        "reservation_sagas_needing_attention",
    }
)
NOT_FROM_ZERO = {
    "Holds answered within 100 ms": "what matters happens between 99 % and 100 %",
    "Event types that Stripe does not send": "-1 says that Stripe could not be asked",
}


def as_asked(expression: str) -> str:
    """Return an expression as Prometheus gets it, with Grafana's variables filled in."""
    return expression.replace("$__rate_interval", "5m").replace("${datasource}", "prometheus")


def base(sample: str) -> str:
    """Return the metric that a sample belongs to."""
    return re.sub(r"_(bucket|sum|count|total)$", "", sample)


def wrong_with_panel(panel: dict[str, Any]) -> list[str]:
    """Return what is wrong with a panel: what it says of itself, and what it asks."""
    targets = panel.get("targets") or []
    said = [*_wrong_words(panel), *_wrong_numbers(panel), *_wrong_sources(panel, targets)]
    asked = [wrong for target in targets for wrong in wrong_with_query(target)]
    return [f"{panel.get('title') or panel['id']}: {wrong}" for wrong in (*said, *asked)]


def _wrong_words(panel: dict[str, Any]) -> Iterator[str]:
    if not panel.get("title"):
        yield "no title"
    if not re.fullmatch(r".+\? .*Normal: .+\.", panel.get("description") or ""):
        yield "the description does not ask a question and then say what is normal"


def _wrong_numbers(panel: dict[str, Any]) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    if not defaults.get("unit"):
        yield "no unit"
    if (defaults.get("min") == 0) == (panel.get("title") in NOT_FROM_ZERO):
        yield "begins at 0 without need, or does not and gives no reason"


def _wrong_sources(panel: dict[str, Any], targets: list[dict[str, Any]]) -> Iterator[str]:
    if not targets:
        yield "asks nothing"
    if any(asker.get("datasource") != _SOURCE for asker in (panel, *targets)):
        yield "does not ask the data source that the reader has chosen"
    if len({target["refId"] for target in targets}) < len(targets):
        yield "two queries have one name"


def wrong_with_query(target: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with one expression and the names of its lines."""
    expression = target["expr"]
    for span in set(re.findall(r"\[([^\]]*)\]", expression)) - {"$__rate_interval"}:
        yield f"looks back over {span}"
    try:
        parsed = promql_parser.parse(as_asked(expression))
    except ValueError as error:
        yield f"no PromQL: {error}"
        return
    yield from unknown_to_us(as_asked(expression))
    aggregates = _aggregates_in(parsed)
    for aggregate in aggregates:
        yield from _wrong_aggregate(aggregate)
    for name in sorted(_asked_as_they_are(parsed)):
        if name.endswith(_SUMMED):
            yield f"{name} only ever grows: ask for its rate"
    together = {name for aggregate in aggregates for name in _names_in(aggregate)}
    yield from (f"{name} is not put together over processes" for name in sorted(_names_in(parsed) - together))
    yield from _wrong_legend(target.get("legendFormat") or "", aggregates)


def _aggregates_in(node: promql_parser.Expr) -> list[promql_parser.AggregateExpr]:
    """Return the aggregates of an expression, an outer one before those inside of it."""
    found: list[promql_parser.AggregateExpr] = []

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr):
            found.append(node)

    promql_parser.walk(node, look)
    return found


def _outermost(aggregates: list[promql_parser.AggregateExpr]) -> Iterator[promql_parser.AggregateExpr]:
    place = 0
    while place < len(aggregates):
        yield aggregates[place]
        place += 1 + len(_aggregates_in(aggregates[place].expr))


def _asked_as_they_are(node: promql_parser.Expr) -> Counter[str]:
    """Return the names that are asked for as they are, not over a range."""
    all_of_them: Counter[str] = Counter()
    ranged: Counter[str] = Counter()

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            all_of_them[node.name or ""] += 1
        if isinstance(node, promql_parser.MatrixSelector):
            ranged[node.vector_selector.name or ""] += 1

    promql_parser.walk(node, look)
    return all_of_them - ranged


def _names_in(node: promql_parser.Expr) -> set[str]:
    return {selector.metric for selector in selectors(str(node))}


def _kept(aggregate: promql_parser.AggregateExpr) -> set[str]:
    """Return the labels that an aggregate keeps. `without` would keep the process, so it is not spoken here."""
    modifier = aggregate.modifier
    if modifier is None:
        return set()
    return set(modifier.labels) if modifier.type == promql_parser.AggModifierType.By else {"without"}


def _wrong_aggregate(aggregate: promql_parser.AggregateExpr) -> Iterator[str]:
    known, kept = catalogue(), _kept(aggregate)
    for name in sorted(_names_in(aggregate) & known.keys()):
        yield from (f"{name} has no label {label} to keep" for label in sorted(kept - known[name]))
    inside = {name for inner in _aggregates_in(aggregate.expr) for name in _names_in(inner)}
    if str(aggregate.op) != "max":
        itself = _names_in(aggregate) - inside
        yield from (f"every process counts {name} for all: take the max" for name in sorted(itself & COUNTED_BY_ALL))


def _wrong_legend(legend: str, aggregates: list[promql_parser.AggregateExpr]) -> Iterator[str]:
    """Yield labels that tell lines apart and are not in their names, or the other way round."""
    kept = {label for aggregate in _outermost(aggregates) for label in _kept(aggregate)} - {"le"}
    named = set(re.findall(r"{{(\w+)}}", legend))
    if not legend:
        yield "a line has no name"
    yield from (f"lines differ in {label}, their names do not" for label in sorted(kept - named))
    yield from (f"the lines' name has {label}, the lines do not" for label in sorted(named - kept))


def wrong_with_dashboard(page: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a dashboard as a whole."""
    variables = [(variable["name"], variable["type"], variable["query"]) for variable in page["templating"]["list"]]
    told = {
        "tags": (page["tags"], ["holdfast"]),
        "timezone": (page["timezone"], "browser"),
        "refresh": (page["refresh"], "30s"),
        "time": (page["time"], {"from": "now-1h", "to": "now"}),
        "variables": (variables, [("datasource", "datasource", "prometheus")]),
        "links": ([(link["type"], link["tags"]) for link in page["links"]], [("dashboards", ["holdfast"])]),
        "first row": ((page["panels"][0]["type"], page["panels"][0]["title"]), ("row", "Is it our guests?")),
    }
    yield from (f"{what} is {found}, not {wanted}" for what, (found, wanted) in told.items() if found != wanted)
    for what in ("id", "title"):
        seen = [panel[what] for panel in page["panels"]]
        yield from (f"two have the {what} {one}" for one in sorted({one for one in seen if seen.count(one) > 1}))
    yield from _wrong_places(page)


def _wrong_places(page: dict[str, Any]) -> Iterator[str]:
    """Yield panels that stand on each other or beside the grid."""
    taken = {panel["title"]: _cells(panel["gridPos"]) for panel in page["panels"]}
    for title, cells in taken.items():
        if not cells or max(x for x, _ in cells) >= _GRID_WIDTH:
            yield f"{title} is not on the grid"
    for (one, its), (other, theirs) in combinations(taken.items(), 2):
        if its & theirs:
            yield f"{one} and {other} overlap"


def _cells(place: dict[str, int]) -> set[tuple[int, int]]:
    return {
        (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
    }


def drawn(pages: list[dict[str, Any]]) -> set[str]:
    """Return the metrics that some panel of these dashboards shows."""
    asked = [target["expr"] for page in pages for panel in panels(page) for target in panel["targets"]]
    return {base(selector.metric) for expression in asked for selector in selectors(as_asked(expression))}
