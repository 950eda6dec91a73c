"""One trial: a story that is cut short by as many crashes as it is told to, recovered from, and audited."""

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import Any
from uuid import uuid4

from tests.answers import answered
from tests.faults.forked.deaths import Leave, Passes, fork
from tests.faults.forked.ground import Ground
from tests.faults.forked.paths import PATHS, Path
from tests.faults.forked.plan import CONVERT
from tests.faults.forked.quiet import wait_for_quiet, wrong_with
from tests.faults.forked.stories import SEATS, Case
from tests.faults.forked.town import Apps, Town, build_apps, open_town
from tests.reservation.box_office import Offer

_OFFERS_AT_ONCE = 60
# After the story, what runs by the clock may still come past a point in this time.
_LINGER_S = 0.5


@dataclass
class Verdict:
    """What came of a trial. `passes` counts the points of the last life, the one that nobody ended.

    `missed` is the crash that never happened, because that life did not come to its point.
    """

    path: str
    deaths: list[str]
    missed: str | None = None
    violations: list[str] = field(default_factory=list)
    passes: dict[str, int] = field(default_factory=dict)
    took_s: float = 0.0

    @classmethod
    def read(cls, told: dict[str, Any]) -> "Verdict":
        return cls(**told)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Trials:
    """The trials of one harness process, one after the other, all on the same databases."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._offers: Iterator[Offer] = iter(())
        self._built = cache(self._build)
        self._log = ground.folder / "children.log"

    def _apps(self, path: Path) -> Apps:
        """Return apps that nobody has started; every child gets its own copy of them by being forked."""
        return self._built(tuple(path.flags.items()), path.dead_calls)

    def _build(self, flags: tuple[tuple[str, str], ...], dead_calls: int) -> Apps:
        apps = build_apps(self._ground, flags=dict(flags), dead_calls=dead_calls)
        for app in (apps.reservation, apps.payment):
            app.openapi()  # makes the routes ready, which FastAPI puts off until they are needed
        gc.collect()
        gc.freeze()  # or each child would look through all of it, and so copy it
        return apps

    def run(self, path_name: str, deaths: Sequence[str]) -> Verdict:
        """Die at each of `deaths` in turn, one life each, then live through the story and look at everything."""
        began = time.monotonic()
        path, case = PATHS[path_name], Case(uuid4().hex[:12], self._next_offer())
        verdict = Verdict(path.name, list(deaths))
        self._apps(path)  # before the fork: it would cost each child the same time again
        with self._weather(path):
            for point in deaths:
                end = fork(partial(self._doomed, path, case), self._log, die_at=point)
                if end.killed_at != point:
                    verdict.missed = point
                    verdict.violations += [end.told["failed"]] if "failed" in end.told else []
                    break
            last = fork(partial(self._last, path, case), self._log)
        verdict.violations += last.told.get("violations", [])
        if "failed" in last.told or not last.told:
            verdict.violations.append(last.told.get("failed", f"the last life ended by signal {last.signal}"))
        verdict.passes = last.told.get("passes", {})
        verdict.took_s = round(time.monotonic() - began, 2)
        return verdict

    @contextmanager
    def _weather(self, path: Path) -> Iterator[None]:
        if path.faults:
            self._ground.steer("POST", "/faults", {"faults": list(path.faults)})
        try:
            yield
        finally:
            if path.faults:
                self._ground.steer("DELETE", "/faults")

    def _doomed(self, path: Path, case: Case, leave: Leave) -> None:
        """Live through the story, and a little longer: this life is meant to end before it is over."""

        async def live() -> None:
            async with open_town(self._apps(path), self._ground) as town:
                await path.story(town, case)
                await asyncio.sleep(_LINGER_S)
                leave({})

        asyncio.run(live())

    def _last(self, path: Path, case: Case, leave: Leave) -> None:
        """Live through the story, wait for quiet, and tell what is wrong then. Not even this life ends in order."""
        passes = Passes.counting()

        async def live() -> None:
            async with open_town(self._apps(path), self._ground) as town:
                await path.story(town, case)
                busy = await wait_for_quiet(town)
                leave({"violations": busy + await wrong_with(town, path, case), "passes": dict(passes.counted)})

        asyncio.run(live())

    def _next_offer(self) -> Offer:
        offer = next(self._offers, None)
        if offer is None:
            self._offers = iter(asyncio.run(self._sell()))
            offer = next(self._offers)
        return offer

    async def _sell(self) -> list[Offer]:
        """Put slots of one full party each on sale, in a life of its own that ends before the next fork.

        One guest books as well: what is loaded or made ready at the first booking, every child then finds done.
        """
        async with open_town(build_apps(self._ground), self._ground) as town:
            offers = await put_on_sale(town, _OFFERS_AT_ONCE)
            await PATHS[CONVERT].story(town, Case(uuid4().hex[:12], offers.pop()))
            await wait_for_quiet(town)
        return offers


async def put_on_sale(town: Town, count: int, *, capacity: int = SEATS) -> list[Offer]:
    """Return so many slots of one experience, each with room for one party unless said."""
    operator = town.operator()
    body = {
        "title": "Dawn kayak tour",
        "time_zone": "Europe/Lisbon",
        "currency": "EUR",
        "ticket_types": [{"code": "adult", "title": "Adult", "price": {"amount": 4500, "currency": "EUR"}, "seats": 1}],
    }
    sold = answered(await operator.ask("POST", "/admin/v1/experiences", json=body), 201)
    tickets = {ticket["code"]: ticket["id"] for ticket in sold["ticket_types"]}
    slot = {
        "experience_id": sold["id"],
        "starts_at": "2040-01-01T08:00:00Z",
        "ends_at": "2040-01-01T10:00:00Z",
        "capacity": capacity,
    }
    added = [answered(await operator.ask("POST", "/admin/v1/time-slots", json=slot), 201) for _ in range(count)]
    return [Offer(one["id"], sold["id"], tickets) for one in added]
