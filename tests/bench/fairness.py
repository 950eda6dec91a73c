"""What a crowd at one slot does to everybody else."""

from tests.bench import holding
from tests.bench.ground import Ground
from tests.bench.requests_to_come import get
from tests.bench.wire_client import open_loop, wire_to
from tests.load.running import poisson, quantile

_WIDTH = 256
_HOT_OF_TEN = 8  # so many of ten guests want the hot slot


async def others_p99_ms(ground: Ground, *, is_hot: bool, rate_per_s: float, seconds: float, seed: int) -> float:
    """Return the p99 of the guests who want other slots; the same guests come at the same moments either way."""
    await ground.wipe()
    count = int(rate_per_s * seconds)
    cold = ground.slot_ids[1:]
    crowd = ground.slot_ids[:1] if is_hot else cold
    # Both kinds of run differ in where the crowd goes, and in nothing else.
    places = [(crowd if _in_crowd(at) else cold) for at in range(count)]
    requests = [ground.guests.hold(place[at % len(place)], ground.guests.token()) for at, place in enumerate(places)]
    async with wire_to(ground.port, _WIDTH, warm=get("/livez")) as wire:
        answers = await open_loop(wire, requests, poisson(rate_per_s, count, seed))
    if set(answers.statuses) != {201}:
        raise holding.Refused(f"expected 201 only, got {dict(answers.statuses)}")
    await ground.check(holds=count)
    return quantile([wait_ms for at, wait_ms in answers.by_request.items() if not _in_crowd(at)], 0.99)


def _in_crowd(at: int) -> bool:
    return at % 10 < _HOT_OF_TEN


async def beside_a_crowd(ground: Ground, *, rate_per_s: float, seconds: float, seed: int, turns: int) -> list[float]:
    """Return, turn by turn, the p99 of other slots beside a hot one over the p99 without one."""
    ratios = list[float]()
    for turn in range(turns):
        order = (False, True) if turn % 2 else (True, False)
        p99 = {
            is_hot: await others_p99_ms(ground, is_hot=is_hot, rate_per_s=rate_per_s, seconds=seconds, seed=seed + turn)
            for is_hot in order
        }
        ratios.append(p99[True] / p99[False])
    return ratios
