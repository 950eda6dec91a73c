"""Lives through the contract once for each combination of flags, and asks every book after each."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx

from tests.faults.forked.ground import Ground
from tests.faults.forked.quiet import wait_for_quiet, wrong_anywhere
from tests.faults.forked.town import Stuck, Town, build_apps, open_town
from tests.faults.forked.trials import put_on_sale
from tests.parity.combinations import Combination
from tests.parity.contract import CAPACITY, Contract
from tests.parity.switches import Switches
from tests.reservation.box_office import Offer


@dataclass
class Tally:
    """What was tried, and what was wrong."""

    wanted: int
    done: int = 0
    flips: int = 0
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        return (
            f"parity: combinations {self.done}/{self.wanted}, flips while booking {self.flips}, wrong {len(self.wrong)}"
        )


@asynccontextmanager
async def open_parity(
    folder: Path, *, reservation_url: str, payment_url: str, redis_url: str
) -> AsyncIterator[tuple[Town, Switches]]:
    """Start both services in this process, on these databases, with a sandbox of their own; all flags are on."""
    with Ground(
        folder, reservation_url=reservation_url, payment_url=payment_url, redis_url=redis_url, calm=True
    ) as ground:
        on = {"FLAG_RECONCILIATION": "on", "FLAG_SETTLE_AT_THE_DOOR": "on"}
        async with open_town(build_apps(ground, flags=on), ground) as town:
            yield town, Switches(town)


async def run(
    town: Town,
    switches: Switches,
    combinations: Sequence[Combination],
    *,
    budget_s: float = float("inf"),
    audit_each: bool = True,
    announce: Callable[[str], None] = lambda _line: None,
) -> Tally:
    """Try one combination after the other until the budget is spent, and say so; what is wrong is collected.

    What breaks an invariant stays in the books, so that one audit in the end finds it too, and only cannot tell when.
    """
    tally, end = Tally(len(combinations)), time.monotonic() + budget_s
    offers = await put_on_sale(town, len(combinations), capacity=CAPACITY)
    for combination, offer in zip(combinations, offers, strict=True):
        if time.monotonic() > end:
            break
        try:
            tally.flips += await _one(town, switches, combination, offer)
            wrong = await _audited(town) if audit_each else []
        except (AssertionError, Stuck, httpx.HTTPError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
        tally.done += 1
        tally.wrong += [f"{combination.name}: {line}" for line in wrong]
        announce(f"  {'WRONG' if wrong else 'right'}  {combination.name}")
    tally.wrong += await _audited(town)
    return tally


async def _audited(town: Town) -> list[str]:
    return await wait_for_quiet(town) + await wrong_anywhere(town)


async def _one(town: Town, switches: Switches, combination: Combination, offer: Offer) -> int:
    """Tell the contract under one combination; returns how often flags were turned over meanwhile."""
    flips = 0

    async def pause() -> None:
        nonlocal flips
        if combination.flipping:
            await switches.flip(combination.flipping)
            flips += 1

    await switches.set(combination.values)
    contract = Contract(town, switches, offer, uuid4().hex[:8], pause)
    await contract.tell()
    await contract.frozen()
    return flips
