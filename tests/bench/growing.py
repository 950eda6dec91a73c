"""`make growth`: what creation, reads, the sweeper, the claims and the brooms cost while the tables fill up.

Stage by stage, 10^3 holds to 10^7 (or as many as fit into the budget), a tenth of them bookings with payments, webhook
events and keys. Each probe is timed by its median; exits 1 when one among the most rows is dearer than among the fewest by
more than its bound, or when the last stage did not fit.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from payment_service.store import idempotency, outbox, webhook_events
from reservation_service.store import old_keys, saga_log, slots
from shared.database import Database
from tests.bench import growth
from tests.bench.ground import Ground, open_ground
from tests.bench.requests_to_come import get
from tests.bench.wire_client import wire_to
from tests.costs.full_tables import PAYMENT_TABLES, fill, payment_sql, reservation_sql
from tests.load.running import commit, report

STAGES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
CROWDED_SLOT = 100_000
BOUND = 1.5  # wide: one figure among ten of a run; the bound of a hold itself is in `make bench`
_TIMES = 41
_STEPS = [f"step-{line}" for line in range(1, 9)]  # as `full_tables` names them
_PAYMENT_STEP = 100_000
_CROWDED_FROM = 500_000_000_000  # ids of the holds of the crowded slot begin here

Probe = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Databases:
    """Both databases, as the services' own store asks them."""

    reservation: Database
    payment: Database

    def probes(self) -> dict[str, Probe]:
        """Return what the background does over and over, each once, with nothing or little to be found."""

        async def sweep() -> object:
            async with self.reservation.transaction("probe_sweep") as tx:
                return await slots.expire_due(tx, batch=100)

        async def claim_sagas() -> object:
            async with self.reservation.transaction("probe_sagas") as tx:
                return await saga_log.claim_batch(tx, known_steps=_STEPS, limit=20, lease_s=1.0)

        async def forget_keys() -> object:
            async with self.reservation.transaction("probe_keys") as tx:
                return await old_keys.forget(tx, old_keys.Place(), rows=1000, keep_days=30)

        async def claim_events() -> object:
            async with self.payment.transaction("probe_events") as tx:
                return await webhook_events.claim(tx, limit=8, lease_s=1.0)

        async def claim_news() -> object:
            async with self.payment.transaction("probe_news") as tx:
                return await outbox.claim(tx, limit=8, lease_s=1.0)

        async def forget_events() -> object:
            async with self.payment.transaction("probe_old_events") as tx:
                return await webhook_events.forget(tx, older_than_days=90, limit=500)

        async def forget_answers() -> object:
            async with self.payment.transaction("probe_old_answers") as tx:
                return await idempotency.forget(tx, older_than_days=30, limit=500)

        return {
            "the sweeper, nothing lapsed": sweep,
            "claim of due sagas": claim_sagas,
            "a thousand keys of the broom": forget_keys,
            "claim of webhook events": claim_events,
            "claim of news": claim_news,
            "the broom of events": forget_events,
            "the broom of answers": forget_answers,
        }


async def _median_ms(probe: Probe) -> float:
    took = list[float]()
    for _ in range(_TIMES):
        began = time.perf_counter()
        await probe()
        took.append((time.perf_counter() - began) * 1000)
    return median(took)


async def measure(ground: Ground, databases: Databases) -> dict[str, float]:
    """Return what everything costs on the tables as they are, in ms."""
    found = {"a hold": await growth.statement_ms(ground)}
    crowded = f"00000000-0000-7000-8002-{_CROWDED_FROM // CROWDED_SLOT:012x}"
    async with wire_to(ground.port, 1) as wire:
        for name, path in (
            ("a slot is read", f"/v1/time-slots/{ground.slot_id(1)}"),
            ("a slot with 10^5 holds is read", f"/v1/time-slots/{crowded}"),
        ):
            found[name] = await _median_ms(partial(wire.ask, get(path)))
    for name, probe in databases.probes().items():
        found[name] = await _median_ms(probe)
    return found


async def fill_both(ground: Ground, *, first: int, last: int, ends_at: float) -> int:
    """Add holds, and payments for a tenth of them; return how many holds there are now."""
    there = await growth.fill_up(ground, first=first, last=last, ends_at=ends_at)
    payment = ground.system.stack.wiring.database_owner("payment")[0]
    connection = await ground.connect(payment)
    try:
        for start in range(first // 10 + 1, there // 10 + 1, _PAYMENT_STEP):
            rows = min(_PAYMENT_STEP, there // 10 + 1 - start)
            await fill(connection, payment_sql(rows, first=start), PAYMENT_TABLES)
    finally:
        await connection.close()
    return there


async def run(ground: Ground, options: argparse.Namespace) -> tuple[dict[int, dict[str, float]], bool]:
    """Fill and measure, stage by stage; returns the figures and whether the last stage was reached."""
    ends_at, stages = time.monotonic() + options.budget, dict[int, dict[str, float]]()
    urls = [
        str(ground.postgres.url(ground.system.stack.wiring.database_owner(name)[0]))
        for name in ("reservation", "payment")
    ]
    databases = Databases(*(Database.connect(url, application_name="growth") for url in urls))
    connection = await ground.connect()
    try:
        for statement in reservation_sql(CROWDED_SLOT, first=_CROWDED_FROM, rows_per_slot=CROWDED_SLOT):
            await connection.execute(statement, timeout=600)
        there, wanted = 0, [stage for stage in STAGES if stage <= options.rows]
        for stage in wanted:
            there = await fill_both(ground, first=there + 1, last=stage, ends_at=ends_at)
            if there < stage:
                report(f"growth: {there} of {stage} rows fitted into the budget of {options.budget:.0f} s")
                return stages, False
            stages[stage] = await measure(ground, databases)
            report(f"growth: measured among {stage} holds")
    finally:
        await connection.close()
        await databases.reservation.close()
        await databases.payment.close()
    return stages, True


def rows_of(stages: dict[int, dict[str, float]]) -> tuple[list[str], list[str]]:
    """Return the table, and what has become dearer than it may."""
    counts = list(stages)
    lines = [
        f"| ms, median of {_TIMES} | " + " | ".join(f"{count:,} holds" for count in counts) + " | last / first |",
        "| --- |" + " ---: |" * (len(counts) + 1),
    ]
    dearer = list[str]()
    for name in stages[counts[0]]:
        figures: Sequence[float] = [stages[count][name] for count in counts]
        ratio = figures[-1] / figures[0]
        if ratio > BOUND:
            dearer.append(f"{name}: x {ratio:.2f}")
        lines.append(f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures) + f" | {ratio:.2f} |")
    return lines, dearer


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as name, open_ground(Path(name)) as ground:
        stages, complete = asyncio.run(run(ground, options))
    if not stages:
        return 1
    lines, dearer = rows_of(stages)
    sys.stdout.write("\n".join(lines) + "\n")
    report(f"growth to {max(stages):,} holds, commit {commit()}: {'; '.join(dearer) or 'everything stays flat'}")
    return 0 if complete and not dearer else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growing", description=__doc__)
    parser.add_argument("--rows", type=int, default=STAGES[-1], help="holds at the last stage")
    parser.add_argument(
        "--budget", type=float, default=3600.0, help="seconds for filling; a stage that does not fit fails"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
