"""What one operation may touch, handed to it as one argument: state, time, names and who asked."""

from dataclasses import dataclass, field

from .faults import FaultPlan
from .identifiers import Identifiers
from .parameters import Params
from .state import State


@dataclass(slots=True)
class Turn:
    """One transaction of the sandbox: an API call, or a thing that happens because time has passed."""

    state: State
    identifiers: Identifiers
    plan: FaultPlan
    now: int  # the sandbox's time, seconds since 1970
    wall: float  # the machine's time, seconds since 1970
    target: str = ""  # the id in the path
    params: Params = field(default_factory=dict)
    base_url: str = ""
    api_version: str = ""
    request_id: str | None = None  # None: nobody asked, time did
    idempotency_key: str | None = None
    publishable: bool = False  # the caller holds only the publishable key
    deliveries: list[int] = field(default_factory=list)  # made in this turn

    def new_id(self, prefix: str) -> str:
        return self.identifiers.new(prefix)

    def later(self, delay_s: int, action: str, object_id: str) -> None:
        """Let `timers` do `action` when the sandbox's clock has gone on by `delay_s`."""
        self.state.run(
            "INSERT INTO timers (due, action, object_id) VALUES (?, ?, ?)", self.now + delay_s, action, object_id
        )
