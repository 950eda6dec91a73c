"""Which combinations of flags are tried: the whole list, and a sample in which every two flags meet in every way."""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import payment_service.flags
import reservation_service.flags

DECLARED = {
    "reservation": frozenset(flag.name for flag in reservation_service.flags.FLAGS),
    "payment": frozenset(flag.name for flag in payment_service.flags.FLAGS),
}
# One that stands in both lists is set in both, as the documentation says.
NAMES = tuple(sorted(DECLARED["reservation"] | DECLARED["payment"]))
_CANDIDATES = 60

Values = Mapping[str, bool]


@dataclass(frozen=True)
class Combination:
    """The flags at the start, and those that are turned over again and again while the booking is made."""

    name: str
    values: Values
    flipping: Sequence[str] = ()


def _all(on: bool, *but: str) -> dict[str, bool]:
    return {name: on is not (name in but) for name in NAMES}


def every_combination() -> Iterator[Combination]:
    """Yield all on, all off, each off, each alone, each flipped while a booking is made, and all flipped at once."""
    yield Combination("all on", _all(True))
    yield Combination("all off", _all(False))
    for name in NAMES:
        yield Combination(f"{name} off", _all(True, name))
        yield Combination(f"{name} alone", _all(False, name))
        yield Combination(f"{name} flipped", _all(True), (name,))
    yield Combination("all flipped", _all(True), NAMES)


def pairwise(seed: int) -> list[Combination]:
    """Return few combinations in which each pair of flags is on-on, on-off, off-on and off-off at least once.

    The newest combination is always the one of many random ones that brings most pairs that were not there yet.
    """
    chance = random.Random(seed)
    missing = {
        ((one, a), (other, b))
        for one, other in itertools.combinations(NAMES, 2)
        for a, b in itertools.product((True, False), repeat=2)
    }
    chosen: list[Combination] = []
    while missing:
        drawn = [{name: chance.random() < 0.5 for name in NAMES} for _ in range(_CANDIDATES)]
        best = max(drawn, key=lambda values: len(missing & _pairs(values)))
        missing -= _pairs(best)
        chosen.append(Combination(f"pairwise {len(chosen) + 1}", best))
    return chosen


def _pairs(values: Values) -> set[tuple[tuple[str, bool], tuple[str, bool]]]:
    return set(itertools.combinations(sorted(values.items()), 2))
