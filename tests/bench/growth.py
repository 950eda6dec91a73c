"""What a hold costs when the tables are full: the same workload among few rows and among many, in turns."""

import asyncio
import time
from collections.abc import Callable, Sequence
from statistics import median

from tests.bench import holding
from tests.bench.ground import Ground
from tests.bench.wire_client import wire_to
from tests.costs.full_tables import RESERVATION_TABLES, reservation_sql

_STEP = 250_000
_FEW = 1000
_TURNS = 5
_HOLDS = 400
_WARM_UP = 50
_WAIT_S = 600.0


async def fill_up(ground: Ground, *, first: int, last: int, ends_at: float = float("inf")) -> int:
    """Add holds `first` to `last` and all that belongs to them; return the last one that fitted into the time."""
    connection = await ground.connect()
    try:
        while first <= last and time.monotonic() < ends_at:
            step = min(_STEP, last - first + 1)
            for statement in reservation_sql(step, first=first):
                await connection.execute(statement, timeout=_WAIT_S)
            first += step
        await connection.execute(f"VACUUM ANALYZE {', '.join(RESERVATION_TABLES)}", timeout=_WAIT_S)
        await connection.execute("CHECKPOINT", timeout=_WAIT_S)
    finally:
        await connection.close()
    return first - 1


async def statement_ms(ground: Ground) -> float:
    """Return the median time of one hold by one caller alone, on the tables as they are."""
    requests = ground.guests.holds(ground.slot_ids, _HOLDS + _WARM_UP)
    async with wire_to(ground.port, 1) as wire:
        await holding.closed_loop(wire, requests[:_WARM_UP])
        answers = await holding.closed_loop(wire, requests[_WARM_UP:])
    if set(answers.statuses) != {201}:
        raise holding.Refused(f"expected 201 only, got {dict(answers.statuses)}")
    return median(answers.waits_ms)


async def hold_ratio(ground: Ground, *, rows: int, left_s: float, say: Callable[[str], None]) -> float | None:
    """Return how much dearer a hold is among `rows` than among a thousand; None when the time did not suffice."""
    ends_at = time.monotonic() + left_s
    await ground.wipe()
    await fill_up(ground, first=1, last=_FEW)
    few = await _median_of(ground)
    there = await fill_up(ground, first=_FEW + 1, last=rows, ends_at=ends_at)
    if there < rows:
        say(f"  growth: only {there} of {rows} rows fitted into the budget")
        return None
    many = await _median_of(ground)
    say(f"  growth: a hold takes {few:.2f} ms among {_FEW} rows, {many:.2f} ms among {rows}")
    return many / few


async def _median_of(ground: Ground) -> float:
    figures: Sequence[float] = [await _after_a_rest(ground) for _ in range(_TURNS)]
    return median(figures)


async def _after_a_rest(ground: Ground) -> float:
    await asyncio.sleep(0.5)
    return await statement_ms(ground)
