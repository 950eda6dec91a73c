"""One seed's world: two services, their databases, Stripe and the guests, first in chaos, then healed, then quiet.

Everything happens in one loop under one clock. Whatever is untrue at any moment ends the world with a sentence that says
what; the same seed leads there again, event for event.
"""

from __future__ import annotations

import asyncio
import contextvars
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import payment_service.flags
import reservation_service.flags
from payment_service.states import RefundStatus
from payment_service.store import tables as payment_tables
from reservation_service.store import tables as reservation_tables
from shared.problems import Problem, Weather
from tests.simulation import chance
from tests.simulation.clock import VirtualClock
from tests.simulation.disturbance import Disturbance
from tests.simulation.doors import serve_payment, serve_reservation
from tests.simulation.guests import Guest
from tests.simulation.invariants import Move, Watch
from tests.simulation.loop import VirtualLoop
from tests.simulation.memory_sql.database import Change, DBAPIError, Store
from tests.simulation.pair import PAYMENT, RESERVATION, FixedFlags, Ground, start
from tests.simulation.plan import LINKS, Plan
from tests.simulation.processes import Died, Points, Process, task_factory
from tests.simulation.quiet import busy, journals
from tests.simulation.stripe_double import Account, Event, Intent, signature
from tests.simulation.wire import Cut, NotConnected, Wire, WiredGateway, served_by

_QUIET_WITHIN_S = 12 * 3600.0
_LOOK_EVERY_S = 20.0
_EVENTS_MAX = 150_000
_DELIVERIES_MAX = 40
_SERVICES = ("reservation", "payment")
_RINGS: dict[Any, tuple[str, ...]] = {
    reservation_tables.sagas: ("resume_sagas",),
    reservation_tables.reservations: ("sweep_expired_holds",),
    reservation_tables.slot_cancellations: ("cancel_slots",),
    payment_tables.webhook_events: ("process_webhooks",),
    payment_tables.outbox: ("deliver_news",),
    payment_tables.breakers: ("share_breakers",),
    payment_tables.payments: ("ask_unsettled", "compare_with_stripe"),
    payment_tables.reconciliation_passes: ("compare_with_stripe",),
}


class _Stop(Exception):
    """Something was untrue: nothing that follows means anything."""


@dataclass
class Seen:
    """What a run has come to."""

    seed: int
    violations: list[str] = field(default_factory=list)
    crashes: int = 0
    virtual_s: float = 0.0
    events: int = 0
    faults: int = 0
    stripe_calls: int = 0
    confirmed: int = 0
    log: int = 0
    moves: Counter[Move] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    died_at: Counter[str] = field(default_factory=Counter)


class World:
    """`trace` is given each line of the log."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.seen = Seen(seed)
        self._plan = Plan.of(seed)
        self._trace = trace
        self._loop = VirtualLoop(Random(f"{seed}:order"))
        self._loop.set_task_factory(task_factory)  # type: ignore[arg-type]
        self._loop.after_event = self._after_event
        self._random = Random(f"{seed}:faults")
        self._clock = VirtualClock(self._loop)
        self._chaos = True
        self._passes: Counter[str] = Counter()
        self._wires = {link: Wire(Random(f"{seed}:{link}"), self._plan.trouble[link]) for link in LINKS}
        self._undelivered = 0
        self._processes: dict[str, list[Process]] = {name: [] for name in _SERVICES}
        self._restarting = 0
        self._nobody = contextvars.Context()
        chance.begin(seed, self._clock)
        self._watch = Watch(self._wrong, self.seen.moves)
        self._stores = {name: Store(self._clock.now, self._committed) for name in _SERVICES}
        self._stripe = Account(self._clock, Random(f"{seed}:stripe"), self._emitted, self._money_moved)
        self._stripe.refund_trouble = self._plan.refund_trouble
        self._watch.bookings, self._watch.payments = self._stores["reservation"], self._stores["payment"]
        self._watch.stripe = self._stripe
        if "hold_cleanup" in self._plan.off:
            self._watch.unfinished -= {"held"}  # lapsed holds stay, and their seats are free on demand
        self._watch.grace_s = self._plan.reservation["unknown_grace_seconds"]
        self._grounds = {name: self._ground(name) for name in _SERVICES}

    def _ground(self, service: str) -> Ground:
        plan, other = self._plan, "payment" if service == "reservation" else "reservation"
        is_reservation = service == "reservation"
        return Ground(
            service=service,
            store=self._stores[service],
            settings=(RESERVATION if is_reservation else PAYMENT).model_copy(
                update=plan.reservation if is_reservation else plan.payment
            ),
            flags=FixedFlags(
                (reservation_service if is_reservation else payment_service).flags.FLAGS,
                plan.off | {"group_admission", "distributed_lock", "rate_limiting"},
            ),
            clock=self._clock,
            wire=self._wires[f"to_{other}"],
            serve_other=lambda request: self._serve(other, request),
            gateway=WiredGateway(self._wires["stripe"], self._stripe),
            weather=lambda: self._hits(plan.weather),
            on_commit=self._commit,
            on_bug=self._bug,
        )

    # the run

    def run(self) -> Seen:
        """Live through it."""
        Points(self._reached).arm()
        try:
            self._loop.run_until_complete(self._live())
        except _Stop:
            pass
        except RuntimeError as stuck:
            if not self.seen.violations:
                self.seen.violations.append(f"I17: {stuck}")
        finally:
            self.seen.virtual_s = self._loop.time()
            self.seen.events = self._loop.events
            self.seen.faults = sum(wire.faults for wire in self._wires.values())
            self.seen.stripe_calls = self._wires["stripe"].carried
            self._end()
        return self.seen

    def _end(self) -> None:
        """Throw everything away."""
        self._loop.after_event = lambda: None
        self._chaos = False
        for processes in self._processes.values():
            for process in processes:
                process.kill()
        left = [task for task in asyncio.all_tasks(self._loop) if not task.done()]
        for task in left:
            task.cancel()
        for _ in range(2):  # a stop that was meant for the run before may still be on its way
            with suppress(RuntimeError):
                self._loop.run_until_complete(asyncio.sleep(0.001))
        self._loop.close()

    async def _live(self) -> None:
        slot_id, ticket_id = self._set_the_stage()
        for name in _SERVICES:
            for _ in range(self._plan.processes):
                self._start(name)
        guests = [
            Guest(number, story, self._call, self._stripe, slot_id, ticket_id)
            for number, story in enumerate(self._plan.stories)
        ]
        lives = [self._loop.create_task(guest.live(), context=self._nobody.copy()) for guest in guests]
        disturbing = self._loop.create_task(Disturbance(self).go_on(slot_id), context=self._nobody.copy())
        await asyncio.sleep(self._plan.chaos_s)
        disturbing.cancel()
        self._heal()
        if lives:
            await asyncio.wait(lives)
        for life in lives:
            if not life.cancelled() and (error := life.exception()):
                self._bug(error)
        await self._become_quiet()
        self._watch.reckon()
        rows = self._stores["reservation"].rows(reservation_tables.reservations).values()
        self.seen.confirmed = sum(row["status"] == "confirmed" for row in rows)

    def _set_the_stage(self) -> tuple[UUID, UUID]:
        """Put something on sale."""
        store, now = self._stores["reservation"], self._clock.now()
        ids = [chance._uuid7() for _ in range(3)]
        plan = self._plan
        _add(
            store, reservation_tables.experiences, id=ids[0], title="The lamp at dusk", time_zone="UTC", currency="EUR",
            max_party=9, cancellation_policy={}, capture_method=plan.capture_method,
        )  # fmt: skip
        _add(
            store, reservation_tables.ticket_types, id=ids[1], experience_id=ids[0], code="adult", title="Adult",
            price_minor=2400, seats=1, position=0,
        )  # fmt: skip
        starts = now + timedelta(days=3)
        _add(
            store, reservation_tables.time_slots, id=ids[2], experience_id=ids[0], starts_at=starts, sells_until=starts,
            ends_at=starts + timedelta(hours=1), capacity=plan.capacity,
        )  # fmt: skip
        return ids[2], ids[1]

    def _heal(self) -> None:
        """From here on nothing new goes wrong."""
        self._chaos = False
        self._note("healed")
        for wire in self._wires.values():
            wire.heal()
        for processes in self._processes.values():
            for process in processes:
                process.thaws_at_s = 0.0

    async def _become_quiet(self) -> None:
        end_s = self._loop.time() + _QUIET_WITHIN_S
        while rest := busy(self):
            if self._loop.time() > end_s:
                self._wrong(f"I17: never quiet: {rest}")
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    def journals(self) -> list[str]:
        """Tell what each saga has done, and how its booking stands."""
        return journals(self._stores["reservation"])

    # processes

    def _start(self, service: str) -> None:
        process = Process(f"{service}-{len(self._processes[service])}", self._loop, self._bug)
        self._processes[service].append(process)
        start(process, self._grounds[service])

    def _reached(self, process: Process, point: str) -> bool:
        """Tell whether a process dies at a crash point."""
        self.seen.points[point] += 1
        self._passes[point] += 1
        if not self._chaos or self.seen.crashes >= self._plan.crashes_max:
            return False
        name, turn = self._plan.target
        targeted = point == name and self._passes[point] == turn
        if not targeted and not self._hits(self._plan.crash):
            return False
        self.seen.died_at[point] += 1
        self._dies(process, point)
        return True

    def _dies(self, process: Process, where: str) -> None:
        self.seen.crashes += 1
        self._note(f"{process.name} dies at {where}")
        service = process.name.partition("-")[0]
        self._processes[service].remove(process)
        self._restarting += 1
        wait_s = self._random.uniform(0.05, 20)
        self._loop.call_later(wait_s, self._comes_back, service, context=self._nobody.copy())

    def _comes_back(self, service: str) -> None:
        self._restarting -= 1
        self._note(f"{service} starts")
        self._start(service)

    # calls

    def _alive(self, service: str) -> Process:
        processes = self._processes[service]
        if not processes:
            raise NotConnected
        return self._random.choice(processes)

    async def _call(self, act: Callable[[Any], Awaitable[Any]]) -> Any:
        """Let a guest or an operator ask a process of reservation_service for something."""

        async def there() -> Any:
            process = self._alive("reservation")
            return await served_by(process, self._told(act, process.work))

        return await self._wires["guests"].call(there)

    async def _told(self, act: Callable[[Any], Awaitable[Any]], work: Any) -> Any:
        try:
            return await act(work)
        except (Problem, Weather):
            raise
        except Exception as error:
            self._bug(error)
            raise Cut from error

    async def _serve(self, service: str, request: Any) -> Any:
        process = self._alive(service)
        serve = serve_payment if service == "payment" else serve_reservation
        return await served_by(process, serve(process.work, request, self._bug))

    # Stripe

    def _emitted(self, event: Event) -> None:
        self._note(f"stripe {event.type} {event.subject['id']}")
        if event.type == "refund.created":
            self._loop.call_later(self._random.uniform(5, 600), self._conclude, event, context=self._nobody.copy())
        if not self._hits(self._plan.events_never_made):
            self._loop.create_task(self._deliver(event), context=self._nobody.copy())

    def _conclude(self, event: Event) -> None:
        """Let a refund that is still pending have arrived."""
        refund = self._stripe.refunds[event.subject["id"]]
        if refund.status is RefundStatus.PENDING:
            self._stripe.conclude(refund, RefundStatus.SUCCEEDED)

    async def _deliver(self, event: Event) -> None:
        """Deliver until it is acknowledged, and now and then once more."""
        self._undelivered += 1
        try:
            for attempt in range(_DELIVERIES_MAX):
                try:
                    await self._wires["webhooks"].call(lambda: self._knock(event))
                    if not self._hits(0.1):
                        return
                except (Cut, NotConnected, Problem, Weather):
                    pass
                await asyncio.sleep(self._random.uniform(1, 10 * (attempt + 1)))
        finally:
            self._undelivered -= 1

    async def _knock(self, event: Event) -> None:
        body = event.body()
        process = self._alive("payment")
        accepted = process.work.inbox.accept(body, signature(body, self._clock.now()))
        await served_by(process, self._told(lambda _work: accepted, process.work))
        self._watch.acknowledged(event.id)

    def _money_moved(self, intent: Intent, what: str) -> None:
        self._note(f"stripe {intent.id} {what}")
        self._watch.money_moved(intent, what)

    # what everybody is told

    def _committed(self, changes: Sequence[Change]) -> None:
        self._note("commit " + " ".join(f"{table.name}:{(new or {}).get('status', '')}" for table, _, new in changes))
        self._watch.committed(changes)
        rung = {name for table, _, _ in changes for name in _RINGS.get(table, ())}
        for processes in self._processes.values():
            for process in processes:
                for name in process.drivers:
                    if name in rung:
                        process.drivers[name].look_again()

    def _commit(self, store: Store) -> None:
        """Commit, or lose the connection just before or just after."""
        if self._hits(self._plan.commit_lost):
            (store.roll_back if self._random.random() < 0.5 else store.commit)()
            raise DBAPIError("08006", "the connection broke at the commit")
        store.commit()

    def _hits(self, probability: float) -> bool:
        return self._chaos and probability > 0 and self._random.random() < probability

    def _after_event(self) -> None:
        if self.seen.violations:
            raise _Stop
        if self._loop.events > _EVENTS_MAX:
            self.seen.violations.append("I17: events without end")
            raise _Stop

    def _wrong(self, what: str) -> None:
        self._note(f"WRONG {what}")
        self.seen.violations.append(what)

    def _bug(self, error: BaseException) -> None:
        """Take in an exception that nobody expected: refusals, weather and deaths are none."""
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                self._bug(one)
        elif not isinstance(error, Problem | Weather | Died | Cut | NotConnected | asyncio.CancelledError):
            if self._trace:
                import traceback

                traceback.print_exception(error)
            self._wrong(f"I26: {type(error).__name__}: {error}")

    def _note(self, what: str) -> None:
        line = f"{self._loop.time():.6f} {what}"
        self.seen.log = zlib.crc32(line.encode(), self.seen.log)
        if self._trace:
            self._trace(line)


def _add(store: Store, table: Any, **values: Any) -> None:
    store.add(table, store.new_row(table, values))
