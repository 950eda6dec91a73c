"""The sandbox as one value: settings, state, time, names, faults and the deliverer, opened and closed together."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from . import journal, timers, webhook_endpoints
from .clock import SandboxClock
from .deliveries import Deliverer
from .faults import FaultPlan, parsed
from .identifiers import Identifiers
from .rate_limit import RateLimit
from .settings import Settings
from .state import State
from .turn import Turn


@dataclass(slots=True)
class Sandbox:
    """Everything that a request may reach."""

    settings: Settings
    state: State
    clock: SandboxClock
    identifiers: Identifiers
    plan: FaultPlan
    deliverer: Deliverer
    rate_limit: RateLimit
    keys_in_use: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, settings: Settings) -> "Sandbox":
        """Open the state; must be called inside the running loop, which the deliverer belongs to."""
        state = State(settings.state_path)
        clock = SandboxClock(state)
        plan = FaultPlan(state)
        if settings.fault_script and not state.noted("fault_script_read"):
            for given in orjson.loads(Path(settings.fault_script).read_bytes()):
                plan.add(parsed(given))
            state.note("fault_script_read", settings.fault_script)
        webhook_endpoints.ensure_from_environment(state, settings, clock.now())
        return cls(
            settings=settings,
            state=state,
            clock=clock,
            identifiers=Identifiers(state, settings.seed),
            plan=plan,
            deliverer=Deliverer(state, clock),
            rate_limit=RateLimit(settings.rate_limit_per_s, time.monotonic),
        )

    def turn(self) -> Turn:
        """Return a turn that nobody asked for; the front desk fills in who did."""
        return Turn(
            state=self.state, identifiers=self.identifiers, plan=self.plan, now=self.clock.now(), wall=self.clock.wall()
        )

    def tick(self) -> None:
        """Do what time alone brings."""
        with self.state.transaction():
            changed = timers.run_due(self.turn())
            journal.prune(self.state)
        if changed:
            self.deliverer.wake()
