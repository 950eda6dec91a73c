"""The bench of payment failures measures what it says: its plan, its guests, its arms and its verdict."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from deploy.stripe_sandbox.faults import parsed
from payment_service.flags import FLAGS as PAYMENT_FLAGS
from reservation_service.flags import FLAGS as RESERVATION_FLAGS
from tests.builders import a_slot
from tests.figures import tell
from tests.load import fault_plan
from tests.load.failures_bench import ALL_OFF, ALL_ON, ARMS, HELPERS, bad_day, tally, verdict, what_is_untrue
from tests.load.patient_guests import AfterPaying, PatientGuest, Stage, Visit
from tests.system import Service, System

SEED = 5


def test_the_plan_is_the_one_that_was_promised() -> None:
    """10 % transient errors, 2 % timeouts, 1 % lost replies, at every call; the same seed throws the same dice."""
    plan = [parsed(fault) for fault in fault_plan.of(SEED)]
    assert {fault.operation for fault in plan} == {"*"}
    chances = Counter[str]()
    for fault in plan:
        chances[fault.action] += round(fault.probability * 1000)
    transient, lost = chances["status"] + chances["drop_before"], chances["drop_after"]
    assert (transient, chances["delay_before"] + chances["delay_after"], lost) == (100, 20, 10)
    assert len({fault.seed for fault in plan}) == len(plan)
    assert fault_plan.of(SEED) == fault_plan.of(SEED) != fault_plan.of(SEED + 1)
    assert parsed({"operation": "*", **fault_plan.OUTAGE}).probability == 1.0


def test_the_arms_differ_in_their_flags_only() -> None:
    """Each helper is a flag that a service has; it is on in its own arm and in the last one."""
    assert set(HELPERS) <= {flag.name for flag in (*PAYMENT_FLAGS, *RESERVATION_FLAGS)}
    on = {arm.name: {name for name, value in arm.flags.items() if value == "true"} for arm in ARMS}
    assert on[ALL_OFF] == set()
    assert on[ALL_ON] == {f"FLAG_{helper.upper()}" for helper in HELPERS}
    assert all(on[f"{helper} alone"] == {f"FLAG_{helper.upper()}"} for helper in HELPERS)


@pytest.mark.parametrize(
    ("off", "on", "untrue", "good"),
    [(40, 2, 0, True), (3, 2, 0, False), (40, 3, 0, False), (40, 0, 1, False), (0, 0, 0, False)],
)
def test_the_verdict(off: int, on: int, untrue: int, *, good: bool) -> None:
    """Twice as good, 99.9 % confirmed, and nothing untrue: all three, of 2,000 guests each."""
    tallies = [
        tally(
            name,
            [Visit(stage=Stage.WAITING)] * failed + [Visit(stage=Stage.CONFIRMED)] * (2000 - failed),
            later=0,
            faults=1,
            outage_calls=1,
            untrue=untrue,
        )
        for name, failed in ((ALL_OFF, off), (ALL_ON, on))
    ]
    assert verdict(tallies)[1] is good
    assert f"| {off} | {1 - off / 2000:.2%} |" in tallies[0].row


async def test_a_bad_day_in_short(system: System) -> None:
    """Six guests and an outage of a second, with everything on: every one is confirmed, and nothing is untrue."""
    visits, faults, outage_calls = await bad_day(
        system, guests=6, rate_per_s=4.0, seed=SEED, after_paying=AfterPaying.LOOKS, outage_s=1.0
    )
    tell(f"bad day in short: {Counter(visit.stage for visit in visits)}, {faults} + {outage_calls} calls met a fault")
    assert [visit.stage for visit in visits] == [Stage.CONFIRMED] * 6, [visit.last_seen for visit in visits]
    assert outage_calls > 0
    assert what_is_untrue(system) == 0


@contextmanager
def turned_off(system: System, service: Service, flag: str) -> Iterator[None]:
    """Turn a flag off inside the block, for everybody."""
    for_whom = {"reason": "the bench's own test"}
    system.admin(service, "PUT", f"/flags/{flag}", json={"enabled": False, **for_whom})
    try:
        yield
    finally:
        system.admin(service, "PUT", f"/flags/{flag}", json={"enabled": True, **for_whom})


async def outcome_when_the_capture_fails_once(system: System, after_paying: AfterPaying) -> Stage:
    """Let one guest book, with four seconds of patience, while Stripe fails the first capture."""
    slot = a_slot(system, capacity=1)
    plan = [{"action": "status", "status": 503, "operation": "payment_intents.capture", "count": 1}]
    async with httpx.AsyncClient(trust_env=False) as http:
        with fault_plan.in_force(system, plan) as day:
            guest = PatientGuest(system, http, slot, after_paying=after_paying, patience_s=4.0)
            visit = await guest.book()
            assert day.struck() == 1
    return visit.stage


async def test_what_the_arms_differ_by(system: System) -> None:
    """A capture that fails once: lost with all off, unless the guest drives it on; taken again with all on."""
    with turned_off(system, "reservation", "saga_orchestration"), turned_off(system, "payment", "payment_retries"):
        off = await outcome_when_the_capture_fails_once(system, AfterPaying.LOOKS)
        driven = await outcome_when_the_capture_fails_once(system, AfterPaying.ASKS_AGAIN)
    on = await outcome_when_the_capture_fails_once(system, AfterPaying.LOOKS)
    assert (off, driven, on) == (Stage.WAITING, Stage.CONFIRMED, Stage.CONFIRMED)
