"""What a seed means: which guests come, how many processes serve them, and what goes wrong, and how often."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.architecture.crash_points import crash_point_names
from tests.simulation.beyond import POINTS_NOT_PASSED
from tests.simulation.guests import Story, draw
from tests.simulation.kinds import change_of
from tests.simulation.wire import Trouble

LINKS = ("guests", "to_payment", "to_reservation", "stripe", "webhooks")
_FLAGS = (
    "webhook_inbox",
    "payment_retries",
    "circuit_breaker",
    "saga_orchestration",
    "hold_cleanup",
    "smart_idempotency",
)
_POINTS = sorted(set(crash_point_names()) - POINTS_NOT_PASSED.keys())
_DAY_S = 86_400.0
_FREE = {"type": "free"}
_HALF = {"type": "tiers", "tiers": [{"until_minutes_before": 0, "refund_percent": 50}]}


@dataclass(frozen=True)
class Plan:
    """Drawn once, before anything happens; `target` is a crash point and the pass at which it kills."""

    stories: tuple[Story, ...]
    capacity: int
    capture_method: str
    processes: int
    chaos_s: float
    crash: float
    crashes_max: int
    target: tuple[str, int]
    trouble: dict[str, Trouble]
    weather: float
    commit_lost: float
    disturbance_every_s: float
    disturbances: tuple[str, ...]
    events_never_made: float
    refund_trouble: float
    refund_fails: float
    creation_refused: float
    banks_pace: float
    banks_decide_s: tuple[float, ...]
    inquiries: float
    disputed: float
    refunded_by_hand: float
    authorization_lasts_s: float
    price_minor: int
    cancellation_policy: dict[str, Any]
    late_payment_policy: str
    off: frozenset[str]
    reservation: dict[str, Any]
    payment: dict[str, Any]

    @classmethod
    def of(cls, seed: int) -> Plan:
        random = Random(f"{seed}:plan")
        window_s = random.choice((40, 60, 90, 120, 300))
        capacity = random.randint(1, 4)
        badness = random.choice((0.0, 0.01, 0.05, 0.2))
        drawn = cls(
            stories=tuple(
                draw(random, min(2, capacity), window_s) for _ in range(random.choice((1, 1, 1, 1, 2, 2, 3)))
            ),
            capacity=capacity,
            capture_method="automatic" if random.random() < 0.15 else "manual",
            processes=random.choice((1, 1, 1, 2)),
            chaos_s=random.choice((30.0, 120.0, 400.0)),
            crash=random.choice((0.0, 0.0, 0.01, 0.04)),
            crashes_max=random.choice((1, 2, 5)),
            target=(random.choice(_POINTS), random.choice((1, 1, 2))),
            trouble={link: _trouble(random, badness) for link in LINKS},
            weather=random.choice((0.0, 0.0, 0.01)),
            commit_lost=random.choice((0.0, 0.0, 0.01)),
            disturbance_every_s=random.choice((15.0, 60.0, 1e9)),
            disturbances=("kill", "freeze", "freeze", "operate", "operate", "in_the_dashboard"),
            events_never_made=random.choice((0.0, 0.0, 0.3)),
            refund_trouble=random.choice((0.0, 0.5)),
            refund_fails=random.choice((0.0, 0.0, 0.3, 0.6)),
            creation_refused=random.choice((0.0,) * 19 + (0.6,)),
            banks_pace=1.0,
            banks_decide_s=(1, 200),
            inquiries=0.4,
            disputed=random.choice((0.0, 0.0, 0.0, 0.7)),
            refunded_by_hand=random.choice((0.0, 0.0, 0.0, 0.0, 0.7)),
            authorization_lasts_s=random.choice((_DAY_S * 7, _DAY_S * 7, _DAY_S * 7, _DAY_S * 7, 90.0, 4000.0)),
            price_minor=random.choice((2400,) * 9 + (0,)),
            cancellation_policy=random.choice((_FREE, _FREE, _HALF, {"type": "none"})),
            late_payment_policy=random.choice(("rebook_or_refund",) * 4 + ("refund",)),
            off=_with_companions(frozenset(flag for flag in _FLAGS if random.random() < 0.1)),
            reservation={
                "payment_window_seconds": window_s,
                "unknown_grace_seconds": random.choice((30, 30, 300)),
                "async_payment_max_seconds": random.choice((0, 0, 300, 300_000)),
                "hold_ttl_seconds": random.choice((60, 600)),
                "slot_cancellation_poll_seconds": 5.0,  # nothing is decided by how often it looks
            },
            payment={"reconcile_interval_seconds": random.choice((120.0, 900.0, 900.0))},
        )
        return replace(drawn, **change_of(seed, drawn, random))


def _with_companions(off: frozenset[str]) -> frozenset[str]:
    """Turn off what has no draw of its own, so that every seed stays the world that it was."""
    return off | {"settle_at_the_door"} if "webhook_inbox" in off else off


def _trouble(random: Random, badness: float) -> Trouble:
    def some() -> float:
        return random.choice((0.0, badness, badness * 2))

    return Trouble(refused=some(), lost=some(), answer_lost=some(), late=some(), inner_error=some(), busy=some())
