"""A campaign of fuzzed requests against both running services, and what it found."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import orjson

from tests.fuzz.generated import Draw, Generator, every_operation
from tests.fuzz.mutating import Mutator
from tests.fuzz.wire import Seen, Sent, Wires
from tests.fuzz.world import World
from tests.soak.watching_processes import look_at
from tests.system import SERVICES, System

ENOUGH_SUCCEED = 0.20
_JUDGED_FROM = 5
_MAY_GROW_MIB = 48
# What is made anew when the bytes it stands for have changed.
_SEALS = frozenset({b"signature", b"signature-input", b"content-digest", b"Stripe-Signature"})
_WARM_AFTER = 0.4


@dataclass
class Found:
    """What a campaign has seen."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    bugs: list[str] = field(default_factory=list)
    tried: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)
    grown_mib: dict[str, float] = field(default_factory=dict)

    def barren(self) -> list[str]:
        """Return the operations that hardly ever succeed when they are asked as they should be."""
        return [
            f"{name} {self.succeeded[name]}/{count}"
            for name, count in sorted(self.tried.items())
            if count >= _JUDGED_FROM and self.succeeded[name] < ENOUGH_SUCCEED * count
        ]

    def flat(self) -> bool:
        """Return whether both services were measured, and have not grown once they were warm."""
        return len(self.grown_mib) == len(SERVICES) and all(grown < _MAY_GROW_MIB for grown in self.grown_mib.values())

    def line(self) -> str:
        grown = ", ".join(f"{name} {mib:+.0f} MiB" for name, mib in self.grown_mib.items())
        kinds = Counter(f"{status // 100}xx" if status else "hung up" for status in self.statuses.elements())
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        broken = sum(count for status, count in self.statuses.items() if status >= 500)
        return (
            f"fuzz: requests={self.sent} 5xx={broken} ({told}) operations={len(self.tried)} bugs={len(self.bugs)}"
            f" memory {grown}"
        )


def run(system: System, draw: Draw, *, count: int, number: int, budget_s: float) -> Found:
    """Send up to `count` requests, about a third of them well-formed."""
    world, found, began = World(system), Found(), time.monotonic()
    wires = Wires({service: int(system.stack.url(service).rpartition(":")[2]) for service in SERVICES})
    warm: dict[str, float] = {}
    try:
        for request, allowed in itertools.islice(_requests(world, draw, number, count), count):
            _judge(found, request, wires.send(request), allowed=allowed)
            if not warm and found.sent >= _WARM_AFTER * count:
                warm = {service: _memory_mib(system, service) for service in SERVICES}
            if time.monotonic() - began > budget_s:
                break
    finally:
        wires.close()
    found.grown_mib = {name: _memory_mib(system, name) - before for name, before in warm.items()}
    return found


def _requests(world: World, draw: Draw, number: int, count: int) -> Iterator[tuple[Sent, bool]]:
    """Yield well-formed requests of each operation, then forbidden ones, and between them broken copies of both."""
    every, chance = every_operation(), random.Random(number)
    generator, mutator = Generator(world, draw), Mutator(number)
    # Each operation gets its share of the first third; what is broken of them fills the rest.
    share = max(_JUDGED_FROM, count // (6 * len(every)))
    copies: list[Sent] = []
    chance.shuffle(every)
    for operation in every:
        for request in generator.requests(operation, allowed=True, count=share):
            yield request, True
            copies.append(request)
            yield mutator.broken(request), False
        for request in generator.requests(operation, allowed=False, count=max(2, share // 3)):
            yield request, False
    by_id = {operation.id: operation for operation in every}
    while True:
        request = chance.choice(copies)
        operation = by_id[request.what]
        if operation.path.startswith(("/internal/", "/webhooks/")) and chance.random() < 0.5:
            headers = {name.decode(): value.decode("latin-1") for name, value in request.headers if name not in _SEALS}
            yield generator.guarded(operation, request.target.decode(), headers, mutator.body(request.body)), False
        else:
            yield replace(mutator.broken(request)), False


def _judge(found: Found, request: Sent, seen: Seen, *, allowed: bool) -> None:
    found.sent += 1
    found.statuses[seen.status] += 1
    if allowed:
        found.tried[request.what] += 1
        found.succeeded[request.what] += 200 <= seen.status < 300
    if seen.status >= 500 or (seen.status >= 400 and not _is_problem(seen)):
        shown = f"{request.method.decode()} {request.target[:200]!r} {request.headers} {request.body[:300]!r}"
        found.bugs.append(f"{seen.status} {request.what}: {shown} -> {seen.body[:300]!r}")


def _is_problem(seen: Seen) -> bool:
    try:
        document = orjson.loads(seen.body)
    except orjson.JSONDecodeError:
        return False
    return seen.media_type.startswith("application/problem+json") and document.get("status") == seen.status


def _memory_mib(system: System, service: str) -> float:
    """Return what a service's process has in memory."""
    return look_at(service, system.stack.children()[service][0]).memory_mib
