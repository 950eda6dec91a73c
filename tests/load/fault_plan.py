"""A bad day at Stripe, written down: what goes wrong, how often, and when nothing works at all.

It meets every call of the API: ours, those that no guest waits for, and what Stripe.js sends from a guest's browser.
Webhooks are delivered as always, because what they tell about was answered, or at least done, before.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.system import System

Fault = dict[str, Any]

# Longer than an attempt of ours may take, so that the call has failed for us while Stripe is still busy with it.
_TOO_LATE_MS = 8000
_EVERY_CALL = {"operation": "*"}

FAULTS: tuple[Fault, ...] = (
    # 10 % transient errors: nothing was done, and the next try may go well.
    {"action": "status", "status": 503, "probability": 0.05},
    {"action": "status", "status": 500, "probability": 0.03},
    {"action": "drop_before", "probability": 0.02},
    # 2 % timeouts: half of them are carried out after all, when nobody waits any more.
    {"action": "delay_before", "delay_ms": _TOO_LATE_MS, "probability": 0.01},
    {"action": "delay_after", "delay_ms": _TOO_LATE_MS, "probability": 0.01},
    # 1 % lost replies: done, and nobody is told.
    {"action": "drop_after", "probability": 0.01},
)
OUTAGE: Fault = {"action": "status", "status": 503}
OUTAGE_S = 20.0
OUTAGE_BEGINS_AT = 0.4
"""The outage begins when so large a part of the guests has come: neither they nor the services know it."""


def of(seed: int) -> list[Fault]:
    """Return the plan; each fault throws its own dice."""
    return [{**_EVERY_CALL, **fault, "seed": seed * 100 + number} for number, fault in enumerate(FAULTS)]


@dataclass
class BadDay:
    """A plan in force; `fired` tells in the end how often each fault struck."""

    system: System
    fault_ids: list[int]

    def outage(self) -> int:
        """Let nothing work from now on; returns the fault's id."""
        return _put(self.system, [{**_EVERY_CALL, **OUTAGE}])[0]

    async def outage_of(self, lasts_s: float, *, after_s: float) -> int:
        """Let nothing work for a while; returns how many calls met it."""
        await asyncio.sleep(after_s)
        fault_id = await asyncio.to_thread(self.outage)
        await asyncio.sleep(lasts_s)
        struck = await asyncio.to_thread(self.fired)
        await asyncio.to_thread(_remove, self.system, fault_id)
        return struck[fault_id]

    def fired(self) -> dict[int, int]:
        found = self.system.call("sandbox", "GET", "/_sandbox/faults").raise_for_status().json()["faults"]
        return {fault["id"]: fault["fired"] for fault in found}

    def struck(self) -> int:
        """Return how many faults of the plan have met a call so far."""
        fired = self.fired()
        return sum(fired[fault_id] for fault_id in self.fault_ids)


@contextmanager
def in_force(system: System, plan: list[Fault]) -> Iterator[BadDay]:
    """Let Stripe misbehave by this plan inside the block."""
    ids = _put(system, plan)
    try:
        yield BadDay(system, ids)
    finally:
        for fault_id in ids:
            _remove(system, fault_id)


def _put(system: System, faults: list[Fault]) -> list[int]:
    answer = system.call("sandbox", "POST", "/_sandbox/faults", json={"faults": faults})
    ids: list[int] = answer.raise_for_status().json()["ids"]
    return ids


def _remove(system: System, fault_id: int) -> None:
    system.call("sandbox", "DELETE", f"/_sandbox/faults/{fault_id}").raise_for_status()
