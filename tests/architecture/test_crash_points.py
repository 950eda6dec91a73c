"""A test can kill a process at every durable boundary only if each has a name of its own."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from tests.architecture.crash_points import CrashPlace, crash_places, crash_point_names, places_in
from tests.architecture.source import SERVICES, snippet

_BAD = snippet(
    """
async def f(database, name):
    async with database.transaction("twice"): ...
    async with database.transaction("twice"): ...
    async with external_call(f"{name}"): ...
    crashpoint(name)
"""
)


def nameless(places: Iterable[CrashPlace]) -> Iterator[str]:
    """Find places whose name is computed: nobody could list them."""
    for place in places:
        if place.name is None:
            yield place.module.at(place.node, f"{place.kind}() takes one literal name")


def ambiguous(places: Iterable[CrashPlace]) -> Iterator[str]:
    """Find names that stand at two places of one process: arming one would kill at either."""
    places = [place for place in places if place.name]
    often = {name for name, count in Counter(place.name for place in places).items() if count > 1}
    for place in places:
        if place.name in often:
            yield place.module.at(place.node, f'"{place.name}" stands at more than one place')


def test_every_name_is_a_literal() -> None:
    """The list of crash points can be read from the source, whatever happens at run time."""
    assert not list(nameless(crash_places()))


@pytest.mark.parametrize("service", SERVICES)
def test_every_name_is_unique(service: str) -> None:
    """A crash point names one line of a process, that is of a service and of what it shares."""
    assert not list(ambiguous(place for place in crash_places() if place.service in {service, "shared"}))


def test_the_rules_see_bad_examples() -> None:
    """Two computed names and one name used twice are reported."""
    places = list(places_in(_BAD))
    assert len(list(nameless(places))) == 2
    assert len(list(ambiguous(places))) == 2


def test_each_service_has_points_of_each_kind() -> None:
    """Both services can be killed around a commit and around a call to another system."""
    for service in SERVICES:
        names = crash_point_names(service)
        for suffix in (".before_commit", ".after_commit", ".before", ".after"):
            assert any(name.endswith(suffix) for name in names), f"{service} has no point ending in {suffix}"
