"""The workloads of holds: spread, hot, all at once, one by one, and as guests come; the books are checked after each."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.ground import Ground
from tests.bench.requests_to_come import get, post
from tests.bench.wire_client import Answers, burst, closed_loop, open_loop, wire_to
from tests.load.running import poisson, quantile

_WIDTH = 128
_OPEN_WIDTH = 256
_WARM_UP = 300
_KNEE_P99_MS = 100.0
_KNEE_KEEPS_UP = 0.97
_KNEE_STEP = 0.85
BURST, SEATS = 1000, 100


class Refused(Exception):
    """Something else was answered than had to be."""


def _all(answers: Answers, status: int) -> Answers:
    if set(answers.statuses) != {status}:
        raise Refused(f"expected {status} only, got {dict(answers.statuses)}")
    return answers


@dataclass(frozen=True)
class Costs:
    """A closed loop's rate, and what one request cost the server in processor time."""

    answers: Answers
    server_ms: float


async def bare(ground: Ground, path: str, *, count: int) -> Costs:
    """Ask a bare app what POST /v1/holds is asked, over as many connections."""
    body = ground.guests.hold(ground.slot_id(0), "nobody").partition(b"\r\n\r\n")[2]
    request = post(path, body, idempotency_key="a-key-as-long-as-those-of-guests")
    async with wire_to(ground.bare_port, _WIDTH, warm=request) as wire:
        before = ground.spent_ms("bare")
        answers = _all(await closed_loop(wire, [request] * count), 201)
        return Costs(answers, (ground.spent_ms("bare") - before) / count)


async def spread(ground: Ground, *, count: int) -> Costs:
    """Let guests take seats on all slots."""
    return await _closed(ground, ground.slot_ids, count=count)


async def hot(ground: Ground, *, count: int) -> Costs:
    """Let all guests take seats on one slot."""
    return await _closed(ground, ground.slot_ids[:1], count=count)


async def alone(ground: Ground, *, count: int) -> Answers:
    """Let one guest after the other take a seat, with nobody else about."""
    return (await _closed(ground, ground.slot_ids, count=count, width=1)).answers


async def _closed(ground: Ground, slot_ids: list[str], *, count: int, width: int = _WIDTH) -> Costs:
    await ground.wipe()
    requests = ground.guests.holds(slot_ids, count + _WARM_UP)
    async with wire_to(ground.port, width) as wire:
        _all(await closed_loop(wire, requests[:_WARM_UP]), 201)
        before = ground.spent_ms("reservation")
        answers = _all(await closed_loop(wire, requests[_WARM_UP:]), 201)
        spent_ms = ground.spent_ms("reservation") - before
    await ground.check(holds=count + _WARM_UP)
    return Costs(answers, spent_ms / count)


async def rush(ground: Ground) -> Answers:
    """Let a thousand guests press the button in the same moment, for a hundred seats."""
    await ground.wipe(hot_capacity=SEATS)
    requests = ground.guests.holds(ground.slot_ids[:1], BURST)
    async with wire_to(ground.port, BURST, warm=get("/livez")) as wire:
        answers = await burst(wire, requests)
    if set(answers.statuses) - {201, 409}:
        raise Refused(f"expected 201 and 409, got {dict(answers.statuses)}")
    await ground.check(holds=answers.statuses[201])
    return answers


async def as_they_come(ground: Ground, *, rate_per_s: float, seconds: float, seed: int) -> Answers:
    """Let guests come as they like, at moments drawn beforehand; the first second does not count."""
    await ground.wipe()
    count = int(rate_per_s * seconds)
    starts = poisson(rate_per_s, count, seed)
    requests = ground.guests.holds(ground.slot_ids, count)
    async with wire_to(ground.port, _OPEN_WIDTH, warm=get("/livez")) as wire:
        answers = _all(await open_loop(wire, requests, starts), 201)
    await ground.check(holds=count)
    return answers


async def knee(ground: Ground, *, closed_per_s: float, seconds: float, seed: int, say: Callable[[str], None]) -> float:
    """Return the highest rate that is answered in time, looked for downwards from what a closed loop reaches."""
    rate = closed_per_s
    for step in range(12):
        answers = await as_they_come(ground, rate_per_s=rate, seconds=seconds, seed=seed + step)
        p99 = quantile(answers.waits_ms, 0.99)
        say(f"  knee: {rate:.0f}/s asked, {answers.per_s:.0f}/s answered, p99 {p99:.0f} ms")
        if p99 <= _KNEE_P99_MS and answers.per_s >= _KNEE_KEEPS_UP * rate:
            return rate
        rate *= _KNEE_STEP
    return rate
