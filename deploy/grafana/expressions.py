"""The few shapes of PromQL that the dashboards ask in, so that no panel forgets to add up processes.

Ranges are `$__rate_interval`, which Grafana keeps at four scrapes or more; `$__interval` may be too short for a rate.
"""

_RANGE = "[$__rate_interval]"


def of(metric: str, where: str = "") -> str:
    """Return a selector; without conditions it has no braces."""
    return f"{metric}{{{where}}}" if where else metric


def total(inner: str, *by: str) -> str:
    """Add up what each process counts for itself."""
    return f"sum{_by(by)} ({inner})"


def highest(inner: str, *by: str) -> str:
    """Return the worst of all processes; for what each of them counts for all, adding up would count it twice."""
    return f"max{_by(by)} ({inner})"


def rate(counter: str, *by: str, where: str = "") -> str:
    """Return how often a second something happens, in all processes together."""
    return total(f"rate({of(counter, where)}{_RANGE})", *by)


def per_minute(counter: str, *by: str, where: str = "") -> str:
    """Return how often a minute something happens: the readable number for what is rare."""
    return f"60 * {rate(counter, *by, where=where)}"


def quantile(q: float, histogram: str, *by: str, where: str = "") -> str:
    """Return the time (or size) that a share of `q` does not exceed, over all processes."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', 'le', *by, where=where)})"


def mean(histogram: str) -> str:
    """Return the average of what was observed; nothing while there was nothing to observe."""
    return f"{rate(f'{histogram}_sum')} / ({rate(f'{histogram}_count')} > 0)"


def share(part: str, whole: str) -> str:
    """Return a part of a whole: 0 while nobody is in the part, and nothing, not 0 / 0, while the whole is empty."""
    return f"({part} or vector(0)) / ({whole} > 0)"


def share_of_each(part: str, whole: str) -> str:
    """Return the shares of those that have any: where no part was ever counted, no line is drawn."""
    return f"{part} / ({whole} > 0)"


def zero_while(metric: str, inner: str) -> str:
    """Return 0 where a gauge has no series, as long as its neighbour `metric` is reported; else silence would look well."""
    return f"{inner} or 0 * max({metric})"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
