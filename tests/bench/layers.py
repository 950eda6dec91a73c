"""Which layer of a hold a sampled stack stands in, and what part of the samples each layer has."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """Stretches of code that serve one purpose; `paths` are pieces of file names."""

    name: str
    paths: tuple[str, ...]
    of_every_route: bool = False


# In order of precedence: a file that two layers could claim is the former's.
LAYERS = (
    Layer(
        "rate limits: three policies, counted here and in Redis, told in headers",
        ("api/rate_limits", "clients/rate_", "clients/quotas", "limits/", "slowapi/"),
    ),
    Layer("one span, metrics", ("shared/telemetry", "fastapi/telemetry", "opentelemetry/", "prometheus_client/", "reservation_service/metrics")),
    Layer("token, flags, hang-ups", ("shared/auth", "jwt/", "shared/flags", "openfeature/", "hang_ups")),
    Layer(
        "statement, group, lock",
        (
            "asyncpg/", "booking/admission", "booking/group_admission", "booking/pool_lane", "booking/slow_lane",
            "booking/waiting_line", "store/", "shared/prepared", "shared/database", "sqlalchemy/", "slot_lock",
        ),
    ),
    Layer("body: read, checked, fingerprinted", ("api/hold_door", "pydantic", "shared/bodies"), of_every_route=True),
    Layer("answer", ("api/answers", "starlette/responses"), of_every_route=True),
    Layer("edge: request id, size limits, security headers", ("shared/http_edge", "shared/door")),
    Layer("the behaviour itself, price, catalogue", ("reservation_service/api/", "reservation_service/booking/")),
    Layer("Starlette and FastAPI", ("starlette/", "fastapi/"), of_every_route=True),
    Layer("uvicorn", ("uvicorn/", "shared/serving", "shared/wire"), of_every_route=True),
    Layer("event loop and sockets", ("asyncio/",), of_every_route=True),
)  # fmt: skip
OTHER = Layer("something else", ())


def layer_of(stack: str) -> Layer:
    """Return the innermost layer that a stack stands in; `stack` as py-spy writes it, outermost frame first.

    The Redis client is no layer: what it does counts for whoever asks Redis, the limits or the lock.
    """
    for frame in reversed(stack.split(";")):
        for layer in LAYERS:
            if any(path in frame for path in layer.paths):
                return layer
    return OTHER


def parts(lines: Iterable[str]) -> dict[Layer, float]:
    """Return what part of the samples each layer has, from lines of `stack count`; those of helping threads are left out."""
    samples = Counter[Layer]()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if "run_module" in stack:
            samples[layer_of(stack)] += int(count)
    return {layer: samples[layer] / samples.total() for layer in (*LAYERS, OTHER) if samples[layer]}


def table(found: dict[Layer, float], routes: float) -> list[str]:
    """Return the rows of a table; `routes` says how many constant routes the whole costs."""
    plain = sum(part for layer, part in found.items() if layer.of_every_route)
    of_every = [_row(layer.name, part, routes) for layer, part in _by_size(found) if layer.of_every_route]
    of_a_hold = [_row(layer.name, part, routes) for layer, part in _by_size(found) if not layer.of_every_route]
    head = ["| layer | part | in constant routes |", "| --- | ---: | ---: |"]
    return [*head, *of_every, _row("**what a constant route does as well**", plain, routes), *of_a_hold]


def _by_size(found: dict[Layer, float]) -> list[tuple[Layer, float]]:
    return sorted(found.items(), key=lambda item: -item[1])


def _row(name: str, part: float, routes: float) -> str:
    return f"| {name} | {part:.0%} | {part * routes:.1f} |"
