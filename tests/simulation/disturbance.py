"""What happens besides: processes are killed or stand still at any moment, and people do what people do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from reservation_service.booking.time_slots import change_time_slot
from reservation_service.saga.desk import Word
from reservation_service.states import LIVE_SAGA
from reservation_service.store import tables as reservation_tables
from shared.operator_actions import Act
from shared.problems import Problem, Weather
from tests.simulation.processes import Process
from tests.simulation.wire import Cut, NotConnected


class Disturbance:
    """Goes on until it is cancelled."""

    def __init__(self, world: Any) -> None:
        self._world = world

    async def go_on(self, slot_id: UUID) -> None:
        """Kill and freeze processes at any moment, and let people do what people do."""
        acts = (self._kill, self._freeze, self._freeze, self._operate, self._cancel_by_hand, self._cancel_departure)
        while True:
            await asyncio.sleep(self._world._random.expovariate(1 / self._world._plan.disturbance_every_s))
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

    async def _operate(self, _slot_id: UUID) -> None:
        """Let an operator help a saga that may need none."""
        sagas = self._world._stores["reservation"].all(reservation_tables.sagas)
        if not sagas:
            return
        saga = self._world._random.choice(sagas)
        verb = "retry" if saga["status"] not in LIVE_SAGA else self._world._random.choice(("retry", "unwind"))
        self._world._note(f"an operator: {verb}")
        await self._quietly(lambda work: getattr(work.saga_desk, verb)(saga["id"], Word("ops", "a reason")))

    async def _cancel_by_hand(self, _slot_id: UUID) -> None:
        """Let somebody cancel a payment in Stripe's dashboard."""
        intents = list(self._world._stripe.intents.values())
        if intents and self._world._random.random() < 0.5:
            self._world._note("a payment is cancelled by hand")
            self._world._stripe.cancel(self._world._random.choice(intents).id)

    async def _cancel_departure(self, slot_id: UUID) -> None:
        if self._world._random.random() < 0.2:
            self._world._note("the departure is cancelled")
            await self._quietly(
                lambda work: change_time_slot(
                    work.ground.database,
                    slot_id,
                    capacity=None,
                    status="cancelled",
                    act=Act("ops", "updateTimeSlot", "storm"),
                )
            )

    async def _quietly(self, act: Callable[[Any], Awaitable[Any]]) -> None:
        try:
            await self._world._call(act)
        except (Problem, Weather, Cut, NotConnected):
            return
