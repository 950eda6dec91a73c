"""What happens besides: processes are killed or stand still at any moment, and people do what people do."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from tests.simulation.processes import Process


class Disturbance:
    """Goes on until it is cancelled."""

    def __init__(self, world: Any) -> None:
        self._world = world

    async def go_on(self, slot_id: UUID) -> None:
        """Kill and freeze processes at any moment, and let people do what people do."""
        plan = self._world._plan
        acts = [getattr(self, f"_{act}") for act in plan.disturbances]
        while True:
            await asyncio.sleep(self._world._random.expovariate(1 / plan.disturbance_every_s))
            await self._world._random.choice(acts)(slot_id)

    def _some_process(self) -> Process | None:
        alive = [process for processes in self._world._processes.values() for process in processes]
        return self._world._random.choice(alive) if alive else None

    async def _kill(self, _slot_id: UUID) -> None:
        process = self._some_process()
        if process and self._world.seen.crashes < self._world._plan.crashes_max:
            self._world._dies(process, "no particular point")
            process.kill()

    async def _freeze(self, _slot_id: UUID) -> None:
        process = self._some_process()
        if process:
            for_s = self._world._random.uniform(1, 120)
            self._world._note(f"{process.name} freezes for {for_s:.1f} s")
            process.freeze(for_s)

    async def _operate(self, slot_id: UUID) -> None:
        """Let an operator do something that may or may not be needed."""
        desk, drawn = self._world._desk, self._world._random.random()
        if drawn < 0.15:
            await desk.cancel_departure(slot_id)
        elif drawn < 0.4:
            await desk.call_off()
        else:
            await desk.do_something()

    async def _look_at_a_saga(self, _slot_id: UUID) -> None:
        await self._world._desk.do_something()

    async def _unwind(self, _slot_id: UUID) -> None:
        await self._world._desk.unwind_something()

    async def _in_the_dashboard(self, _slot_id: UUID) -> None:
        """Let somebody cancel a payment in Stripe's dashboard, or change what it is about."""
        stripe, random = self._world._stripe, self._world._random
        if not stripe.intents or random.random() < 0.1:
            stripe.notice()
            return
        intent = random.choice(list(stripe.intents.values()))
        if random.random() < 0.6:
            self._world._note("a payment is cancelled by hand")
            stripe.cancel(intent.id)
        elif intent.capture_method == "manual":
            self._world._note("the amount of a payment is changed by hand")
            stripe.change_amount(intent, intent.amount + 100)
