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

import payment_service.flags
import reservation_service.flags
from payment_service.store import tables as payment_tables
from reservation_service.store import tables as reservation_tables
from shared.problems import Problem, Weather
from tests.simulation import chance
from tests.simulation.banks import Banks
from tests.simulation.clock import VirtualClock
from tests.simulation.desk import Desk
from tests.simulation.disturbance import Disturbance
from tests.simulation.doors import serve_payment, serve_reservation
from tests.simulation.guests import Guest
from tests.simulation.invariants import Move, Watch
from tests.simulation.loop import VirtualLoop
from tests.simulation.memory_sql.database import Change, DBAPIError, Store
from tests.simulation.pair import PAYMENT, RESERVATION, FixedFlags, Ground, start
from tests.simulation.plan import LINKS, Plan
from tests.simulation.processes import Cut, Died, Doing, NotConnected, Points, Process, task_factory
from tests.simulation.quiet import STRIPES_NEWS, busy, journals
from tests.simulation.stage import set_up
from tests.simulation.stripe_double import Account
from tests.simulation.stripe_objects import Event, Intent, Refund, signature
from tests.simulation.wire import Wire, WiredGateway

_QUIET_WITHIN_S = 12 * 3600.0
_LOOK_EVERY_S = 40.0
_EVENTS_MAX = 20_000  # in an hour; some 260 are usual in a whole world
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
    compared: int = 0  # whether all went quiet, and the three books were laid side by side
    log: int = 0
    moves: Counter[Move] = field(default_factory=Counter)
    points: dict[str, int] = field(default_factory=dict)
    died_at: Counter[str] = field(default_factory=Counter)


class World:
    """`trace` is given each line of the log."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.seen = Seen(seed)
        self._plan = Plan.of(seed)
        self._trace = trace
        self._loop = VirtualLoop(Random(f"{seed}:order"))
        self._loop.set_task_factory(task_factory)  # type: ignore[arg-type]
        self._loop.events_max = _EVENTS_MAX
        self._random = Random(f"{seed}:faults")
        self._clock = VirtualClock(self._loop)
        self._chaos = True
        self._wires = {link: Wire(Random(f"{seed}:{link}"), self._plan.trouble[link]) for link in LINKS}
        self._undelivered = 0
        self._processes: dict[str, list[Process]] = {name: [] for name in _SERVICES}
        self._restarting = 0
        self._nobody = contextvars.Context()
        chance.begin(seed, self._clock)
        self._watch = Watch(self._wrong, self.seen.moves)
        self._stores = {name: Store(self._clock.now, self._committed) for name in _SERVICES}
        self._stripe = Account(self._clock, Random(f"{seed}:stripe"), self._emitted, self._money_moved, self._refunded)
        self._stripe.refund_trouble = self._plan.refund_trouble
        self._stripe.refund_fails = self._plan.refund_fails / 2
        self._stripe.refuses = self._plan.creation_refused
        self._stripe.authorization_lasts = timedelta(seconds=self._plan.authorization_lasts_s)
        self._banks = Banks(self._loop, Random(f"{seed}:banks"), self._stripe, self._plan, self._note)
        self._desk = Desk(self)
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
            weather=(lambda: self._hits(plan.weather)) if plan.weather else lambda: False,
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
        self._loop.reason, self._loop.events_max = None, 0
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
        slot_id, ticket_id = set_up(self._stores["reservation"], self._plan, self._clock.now())
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
        await asyncio.wait(lives)
        lives += [guest.changing_minds for guest in guests if guest.changing_minds]
        await asyncio.wait(lives)
        for life in lives:
            if not life.cancelled() and (error := life.exception()):
                self._bug(error)
        await self._become_quiet()
        self.seen.compared = 1
        self._watch.reckon()
        rows = self._stores["reservation"].rows(reservation_tables.reservations).values()
        self.seen.confirmed = sum(row["status"] == "confirmed" for row in rows)

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
        while True:
            rest = busy(self)
            if rest in {"", STRIPES_NEWS} and not await self._desk.look_after() and not rest:
                return
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
        points = self.seen.points
        points[point] = passes = points.get(point, 0) + 1
        plan = self._plan
        if not self._chaos or self.seen.crashes >= plan.crashes_max:
            return False
        targeted = point == plan.target[0] and passes == plan.target[1]
        if not targeted and not (plan.crash and self._random.random() < plan.crash):
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

        def there() -> Doing:
            process = self._alive("reservation")
            return process.serve(self._told(act, process.work))

        return await self._wires["guests"].call(there)

    async def _told(self, act: Callable[[Any], Awaitable[Any]], work: Any) -> Any:
        try:
            return await act(work)
        except (Problem, Weather):
            raise
        except Exception as error:
            self._bug(error)
            raise Cut from error

    def _serve(self, service: str, request: Any) -> Doing:
        process = self._alive(service)
        serve = serve_payment if service == "payment" else serve_reservation
        return process.serve(serve(process.work, request, self._bug))

    # Stripe

    def _emitted(self, event: Event) -> None:
        self._note(f"stripe {event.type} {event.subject['id']}")
        if not self._hits(self._plan.events_never_made):
            self._loop.create_task(self._deliver(event), context=self._nobody.copy())

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

    def _knock(self, event: Event) -> Doing:
        body, process = event.body(), self._alive("payment")
        signed = signature(body, self._clock.now())

        async def takes_in(work: Any) -> None:
            await work.inbox.accept(body, signed)
            self._watch.acknowledged(event.id)

        return process.serve(self._told(takes_in, process.work))

    def _money_moved(self, intent: Intent, what: str) -> None:
        self._note(f"stripe {intent.id} {what}")
        self._watch.money_moved(intent, what)
        self._banks.moved(intent, what)

    def _refunded(self, refund: Refund) -> None:
        self._banks.refunded(refund)

    # what everybody is told

    def _committed(self, changes: Sequence[Change]) -> None:
        said = [f"{table.name}:{new.get('status', '')}" if new else table.name for table, _, new in changes]
        self._note(f"commit {' '.join(said)}")
        self._watch.committed(changes)
        service, rung = _service_of(changes[0][0]), dict.fromkeys(changed[0] for changed in changes)
        for process in self._processes[service]:
            for table in rung:
                for name in _RINGS.get(table, ()):
                    if name in process.drivers:
                        process.drivers[name].look_again()

    def _commit(self, store: Store) -> None:
        """Commit, or lose the connection just before or just after."""
        if self._hits(self._plan.commit_lost):
            (store.roll_back if self._random.random() < 0.5 else store.commit)()
            raise DBAPIError("08006", "the connection broke at the commit")
        store.commit()

    def _hits(self, probability: float) -> bool:
        return self._chaos and probability > 0 and self._random.random() < probability

    def _wrong(self, what: str) -> None:
        self._note(f"WRONG {what}")
        self.seen.violations.append(what)
        self._loop.reason = _Stop()

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


def _service_of(table: Any) -> str:
    return "reservation" if table.neighbours is reservation_tables.reservations.neighbours else "payment"
