"""`make bench-failures`: how many bookings fail on a bad day at Stripe, with what helps switched off and on.

Every arm is the same code with production's own settings and times, on fresh databases, under the same fault plan and
seed, with the same guests at the same moments. A booking has failed when its guest, who waits for a minute and makes
the call that failed again and again, has not seen it confirmed. Exits 0 only if all on is at least twice as good as
all off, and confirms 99.9 %; an arm that is run alone is judged by nobody.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tests.builders import a_slot
from tests.load import fault_plan
from tests.load.patient_guests import AfterPaying, PatientGuest, Stage, Visit, is_confirmed
from tests.load.running import commit, poisson, quantile, report, running_system
from tests.system import SERVICES, System

HELPERS = ("payment_retries", "circuit_breaker", "smart_idempotency", "saga_orchestration", "reconciliation")
ALL_OFF, ALL_ON = "all off", "all on"
_GOAL_RATIO, _GOAL_CONFIRMED = 2.0, 0.999
_CONNECTIONS = 500
_LOOKS_LATER_S = 30.0


@dataclass(frozen=True)
class Arm:
    """One way to run the system; `on` names the helpers that are on, all others are off."""

    name: str
    on: frozenset[str]

    @property
    def flags(self) -> dict[str, str]:
        return {f"FLAG_{helper.upper()}": str(helper in self.on).lower() for helper in HELPERS}


ARMS = (
    Arm(ALL_OFF, frozenset()),
    *(Arm(f"{helper} alone", frozenset({helper})) for helper in HELPERS),
    Arm(ALL_ON, frozenset(HELPERS)),
)


@dataclass(frozen=True)
class Tally:
    """What one arm came to; `later` were confirmed after their guests had given up."""

    arm: str
    guests: int
    failed: int
    later: int
    stages: Counter[Stage]
    confirmed_p50_s: float
    confirmed_p99_s: float
    faults: int
    outage_calls: int
    untrue: int

    @property
    def row(self) -> str:
        where = ", ".join(f"{count} {stage}" for stage, count in sorted(self.stages.items())) or "-"
        return (
            f"| {self.arm} | {self.guests} | {self.failed} | {1 - self.failed / self.guests:.2%} | {where} | {self.later}"
            f" | {self.confirmed_p50_s:.1f} / {self.confirmed_p99_s:.1f} s | {self.faults} + {self.outage_calls} |"
        )


HEAD = (
    "| arm | guests | failed | confirmed | where the failed ones stood | of them confirmed later"
    " | p50 / p99 of the others | calls that met a fault + the outage |\n|---|---|---|---|---|---|---|---|"
)


async def bad_day(
    system: System, *, guests: int, rate_per_s: float, seed: int, after_paying: AfterPaying, outage_s: float
) -> tuple[list[Visit], int, int]:
    """Let the guests come, and the faults; returns what they saw, and how many calls met a fault and the outage."""
    slot = a_slot(system, capacity=guests)
    starts = poisson(rate_per_s, guests, seed)
    limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as http:

        async def one(start_s: float) -> Visit:
            await asyncio.sleep(start_s)
            return await PatientGuest(system, http, slot, after_paying=after_paying).book()

        with fault_plan.in_force(system, fault_plan.of(seed)) as day:
            away = asyncio.create_task(day.outage_of(outage_s, after_s=fault_plan.OUTAGE_BEGINS_AT * starts[-1]))
            visits = await asyncio.gather(*(one(start_s) for start_s in starts))
            return visits, await asyncio.to_thread(day.struck), await away


def tally(arm: str, visits: Sequence[Visit], *, later: int, faults: int, outage_calls: int, untrue: int) -> Tally:
    """Sum up an arm."""
    failed = [visit for visit in visits if not visit.confirmed]
    took_s = [visit.took_s for visit in visits if visit.confirmed] or [0.0]
    return Tally(
        arm,
        len(visits),
        len(failed),
        later,
        Counter(visit.stage for visit in failed),
        quantile(took_s, 0.5),
        quantile(took_s, 0.99),
        faults,
        outage_calls,
        untrue,
    )


def confirmed_later(system: System, visits: Sequence[Visit]) -> int:
    """Count the bookings that were confirmed without their guests, who have left."""
    gone = [visit for visit in visits if visit.hold_id and not visit.confirmed]
    answers = [
        system.call("reservation", "GET", f"/v1/reservations/{visit.hold_id}", token=visit.token) for visit in gone
    ]
    return sum(is_confirmed(answer) for answer in answers)


def what_is_untrue(system: System) -> int:
    """Count what violates an invariant of either service: failed or not, no seat and no money may be wrong."""
    audits = [system.admin(service, "GET", "/invariants") for service in SERVICES]
    return sum(check["violations"] for audit in audits for check in audit["checks"])


def run(arm: Arm, options: argparse.Namespace) -> Tally:
    """Run one arm on a system of its own."""
    with running_system(stripe_ms=0, settings=arm.flags) as system:
        visits, faults, outage_calls = asyncio.run(
            bad_day(
                system,
                guests=options.guests,
                rate_per_s=options.rate,
                seed=options.seed,
                after_paying=options.after_paying,
                outage_s=fault_plan.OUTAGE_S,
            )
        )
        if any(not visit.confirmed for visit in visits):
            time.sleep(_LOOKS_LATER_S)
        later, untrue = confirmed_later(system, visits), what_is_untrue(system)
    return tally(arm.name, visits, later=later, faults=faults, outage_calls=outage_calls, untrue=untrue)


def verdict(tallies: Sequence[Tally]) -> tuple[str, bool]:
    """Return the sentence that the bench ends with, and whether the goal was reached; half a comparison reaches none."""
    by_arm = {one.arm: one for one in tallies}
    off, on = by_arm.get(ALL_OFF), by_arm.get(ALL_ON)
    untrue = sum(one.untrue for one in tallies)
    if off is None or on is None:
        return f"no verdict: it takes {ALL_OFF} and {ALL_ON}; untrue={untrue}", untrue == 0
    ratio = off.failed / max(1, on.failed)
    confirmed = 1 - on.failed / on.guests
    at_least = "at least " if on.failed == 0 else ""
    good = ratio >= _GOAL_RATIO and confirmed >= _GOAL_CONFIRMED and untrue == 0
    return (
        f"failed off/on = {off.failed}/{on.failed} = {at_least}{ratio:.1f}, all on confirms {confirmed:.2%}, untrue={untrue}",
        good,
    )


def main() -> int:
    options = _options()
    wanted = [arm for arm in ARMS if not options.arm or arm.name in options.arm]
    report(
        f"bench-failures: {options.guests} guests, {options.rate:g}/s, after paying a guest {options.after_paying};"
        f" outage of {fault_plan.OUTAGE_S:.0f} s; seed={options.seed} commit={commit()}"
    )
    began, tallies = time.monotonic(), list[Tally]()
    for arm in wanted:
        spent_s = time.monotonic() - began
        if tallies and spent_s + spent_s / len(tallies) > options.budget:
            report(f"not run, the budget of {options.budget:.0f} s is used up: {arm.name}")
            continue
        tallies.append(run(arm, options))
        report(tallies[-1].row)
    sys.stdout.write("\n".join([HEAD, *(one.row for one in tallies)]) + "\n")
    sentence, good = verdict(tallies)
    report(sentence)
    return 0 if good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load.failures_bench", description=__doc__)
    parser.add_argument("--guests", type=int, default=2000, help="per arm")
    parser.add_argument("--rate", type=float, default=6.0, help="guests who come per second, on average")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--budget", type=float, default=3600.0, help="seconds; an arm that does not fit is left out")
    parser.add_argument("--arm", action="append", choices=[arm.name for arm in ARMS], help="only this one; repeatable")
    parser.add_argument("--after-paying", type=AfterPaying, choices=list(AfterPaying), default=AfterPaying.LOOKS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
