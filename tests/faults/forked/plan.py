"""Which crashes are tried: every point of the product on the path that is its home, and ordered pairs on convert's."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.architecture.crash_points import crash_point_names, points_of_room
from tests.faults.forked.paths import PATHS, Path

NOT_ON_ANY_PATH = {
    "ask_timeline.before": "a look at what has happened; it changes nothing",
    "ask_timeline.after": "as above",
    **{
        f"export_from_stripe.{edge}": "only shows a person what Stripe has, writes nothing"
        for edge in ("before", "after")
    },
    **{
        f"operator_{verb}.{edge}": "a person's verb, one transaction: died at in tests/reservation/test_saga_verbs.py"
        for verb in ("retry", "unwind", "resolve")
        for edge in ("before_commit", "after_commit")
    },
    **{
        f"fetch_signing_keys.{edge}": "only where an identity provider signs with pairs; it reads, and nothing is stored"
        for edge in ("before", "after")
    },
}
"""The only points that no trial kills at, each with its reason. One that is reached all the same is an error too."""

DIES_ELSEWHERE = {
    "payment_service.payments.ledger": "tests/payment/test_ledger.py",
    "payment_service.payments.reconciliation": "tests/payment/test_reconciliation.py",
    "payment_service.api.reconciliation": "tests/payment/test_reconciliation.py",
}
"""Rooms that no guest's request enters: each of their points is killed in a test of their own, named here."""


def excused() -> frozenset[str]:
    """Return the points that no trial has to kill at."""
    elsewhere = (point for room in DIES_ELSEWHERE for point in points_of_room(room))
    return frozenset(elsewhere) | NOT_ON_ANY_PATH.keys()


CONVERT = "book"
_IN_A_ROW = 8
# What runs by the clock passes its points as often as there is time, so only the first passes can be counted on.
_BY_THE_CLOCK = (
    "claim_due_sagas",
    "claim_slot_cancellations",
    "call_off_confirmed",
    "claim_events",
    "claim_news",
    "forget_answers",
    "forget_events",
    "forget_keys",
    "list_webhook_endpoints",
    "step_replay",
)
_BY_THE_CLOCK_PASSES = 2
# From the call that converts to the booking that is confirmed, without the messages that travel beside it.
_CONVERT_PATH = frozenset(
    {
        "start_saga", "claim_saga", "resume_saga", "saga_progress", "payment_signal",
        "create_payment_intent", "ask_payment", "capture_payment",
        "claim_key", "settle_key", "admit_payment", "intend_create", "record_create",
        "retrieve_payment_intent", "record_seen_intent",
        "intend_capture", "capture_payment_intent", "record_outcome",
    }
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Order:
    """A trial to be made: the path, and where its lives end."""

    path: str
    deaths: tuple[str, ...] = ()
    must_fire: bool = False  # a single crash is bound to happen: at the first pass of a point, on its home

    def __str__(self) -> str:
        return ",".join((self.path, *self.deaths))

    @classmethod
    def read(cls, text: str) -> "Order":
        """Read what `str` writes: `book,start_saga.after_commit#1`."""
        path, *deaths = text.split(",")
        return cls(path, tuple(deaths))


Passes = Mapping[str, Mapping[str, int]]


def unplaced(passes: Passes) -> list[str]:
    """Return what is wrong with the map of paths: points that no path passes, and excuses that are none."""
    reached = {point for counted in passes.values() for point in counted}
    missing = set(crash_point_names()) - reached - excused()
    return [f"{point} lies on no path" for point in sorted(missing)] + [
        f"{point} is excused, but lies on a path" for point in sorted(reached & NOT_ON_ANY_PATH.keys())
    ]


def first_passes(passes: Passes, *, every: bool) -> list[Order]:
    """Return the trials that are always made; `passes` says how often each path passes each point.

    Each point is killed at its first pass on its home, and at its last one where that means something else. With
    `every`, each path is everybody's home.
    """
    orders = {
        Order(path.name, (f"{point}#1",), must_fire=_home(point, passes) == path.name)
        for path, point, _ in _at_home(passes, every=every)
    }
    for path in PATHS.values():
        again = ((point, count) for point, count in passes[path.name].items() if boundary(point) in path.again)
        orders |= {Order(path.name, (f"{point}#{count}",)) for point, count in again if count > 1}
    return sorted(orders)


def chains(orders: Sequence[Order], passes: Passes) -> tuple[list[Order], list[Order]]:
    """Return the same deaths as fewer trials: what is bound to happen in a row, one life each, and what dies alone.

    The deaths of a row lie far apart on their path, so that the life after each has a way to go before the next.
    """
    bound, alone = defaultdict(set), []
    for order in orders:
        if order.must_fire:
            bound[order.path].update(order.deaths)
        else:
            alone.append(order)
    rows = []
    for path, deaths in bound.items():
        in_order = [f"{point}#1" for point in passes[path] if f"{point}#1" in deaths]
        apart = -(-len(in_order) // _IN_A_ROW)
        rows += [Order(path, tuple(in_order[first::apart])) for first in range(apart)]
    return rows, alone


def one_by_one(order: Order, *, after: str | None = None) -> list[Order]:
    """Return the deaths of a row as trials of their own; `after` leaves out what came before that death."""
    first = order.deaths.index(after) if after else 0
    return [Order(order.path, (death,), must_fire=True) for death in order.deaths[first:]]


def later_passes(passes: Passes, *, every: bool) -> list[Order]:
    """Return the same for second and third passes."""
    return sorted(
        Order(path.name, (f"{point}#{n}",))
        for path, point, count in _at_home(passes, every=every)
        for n in range(2, min(count, _limit(path, point)) + 1)
    )


def _at_home(passes: Passes, *, every: bool) -> Iterator[tuple[Path, str, int]]:
    elsewhere = excused()  # a long life may come past what runs by the clock and dies in a test of its own
    for path in PATHS.values():
        for point, count in passes[path.name].items():
            if point not in elsewhere and (every or _home(point, passes) == path.name):
                yield path, point, count


def boundary(point: str) -> str:
    """Return the name that a point has in the code: `start_saga` of `start_saga.after_commit#2`."""
    return point.partition(".")[0]


def _home(point: str, passes: Passes) -> str:
    """Return the path that says so and has passed the point, else the first one that has."""
    declared = [path.name for path in PATHS.values() if boundary(point) in path.home_of and point in passes[path.name]]
    return declared[0] if declared else next(path for path in PATHS if point in passes[path])


def _limit(path: Path, point: str) -> int:
    return min(path.passes_max, _BY_THE_CLOCK_PASSES) if boundary(point) in _BY_THE_CLOCK else path.passes_max


def pairs(recoveries: Mapping[str, Mapping[str, int]]) -> list[Order]:
    """Return all pairs of crashes on convert's path: a first one, and each point that recovery came past.

    `recoveries` says for each first crash what the life after it passed.
    """
    return [
        Order(CONVERT, (first, f"{second}#1"))
        for first, passed in sorted(recoveries.items())
        if boundary(first) in _CONVERT_PATH and first.endswith("#1")
        for second in sorted(passed)
        if boundary(second) in _CONVERT_PATH
    ]


def points_of(orders: Sequence[Order]) -> set[str]:
    """Return the names of the points at which these trials die, without their passes."""
    return {death.partition("#")[0] for order in orders for death in order.deaths}
