"""The fault plan: how the sandbox misbehaves on demand, by operation or event, by count, probability and seed.

A fault names either an `operation` (a pattern over the names in `operations`, such as `payment_intents.*`) or an `event`
(a pattern over Stripe's event types). It lets the first `skip` matches pass, then fires `count` times (for ever without
one), each time with `probability`, drawn from its own `seed`, so that the same run misbehaves in the same way.
"""

import hashlib
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, get_args, get_type_hints

import orjson

from .state import State

CALL_ACTIONS = {
    "delay_before": "wait `delay_ms` before anything is applied",
    "delay_after": "apply, then wait `delay_ms` before the answer leaves, so that the webhook arrives first",
    "webhook_first": "apply, then answer only when each webhook of this call has been tried once (at most 5 s)",
    "status": "answer `status`; `applied`: after doing it, `saved`: the Idempotency-Key replays it for ever",
    "drop_before": "cut the connection without doing anything",
    "drop_after": "do it, then cut the connection instead of answering",
    "html": "answer `status` with an HTML page, as a proxy in between would; `applied` as above",
    "wrong_amount": "do it, but tell `amount` in the answer",
}
EVENT_ACTIONS = {
    "lose": "list the event, never deliver it",
    "never": "the event is not generated at all",
    "double": "deliver the same event `copies` times",
    "twin": "tell it twice, under two event ids",
    "delay": "deliver it `delay_ms` later",
    "reorder": "deliver it after the next event (or after 2 s)",
}


class FaultInvalid(ValueError):
    """The fault asked for makes no sense; the text says why."""


@dataclass(slots=True)
class Fault:
    """One way to misbehave; unset members mean what their action means without them."""

    action: str
    operation: str = ""
    event: str = ""
    count: int | None = None
    skip: int = 0
    probability: float = 1.0
    seed: int = 0
    delay_ms: int = 0
    status: int = 500
    code: str | None = None
    message: str | None = None
    applied: bool = False
    saved: bool = False
    retry_after_s: float | None = None
    should_retry: bool | None = None
    amount: int = 1
    copies: int = 2
    id: int = 0
    seen: int = 0
    fired: int = 0

    def fires(self) -> bool:
        """Count one match and tell whether the fault strikes this time."""
        self.seen += 1
        if self.seen <= self.skip or (self.count is not None and self.fired >= self.count):
            return False
        if self.probability < 1.0:
            draw = hashlib.blake2b(f"{self.seed}/{self.seen}".encode(), digest_size=8).digest()
            if int.from_bytes(draw, "big") / 2**64 >= self.probability:
                return False
        self.fired += 1
        return True


_OURS = {"id", "seen", "fired"}  # counted here, never asked for
_HINTS = {name: hint for name, hint in get_type_hints(Fault).items() if name not in _OURS}


def parsed(given: Any) -> Fault:
    """Read one fault from JSON.

    Raises `FaultInvalid` for unknown members, wrong types, or an action that does not fit.
    """
    if not isinstance(given, dict) or not given.keys() <= _HINTS.keys() or "action" not in given:
        raise FaultInvalid(f"a fault is an object with `action` and some of {', '.join(_HINTS)}")
    wrong = [name for name, value in given.items() if not _fits(value, _HINTS[name])]
    if wrong:
        raise FaultInvalid(f"`{wrong[0]}` has the wrong type")
    fault = Fault(**given)
    if bool(fault.operation) == bool(fault.event):
        raise FaultInvalid("name either an `operation` or an `event`; `*` matches all")
    actions = CALL_ACTIONS if fault.operation else EVENT_ACTIONS
    if fault.action not in actions:
        raise FaultInvalid(f"`action` must be one of {', '.join(actions)}")
    if not (200 <= fault.status <= 599 and 0 <= fault.delay_ms <= 600_000 and 1 <= fault.copies <= 100):
        raise FaultInvalid("`status` lies in 200..599, `delay_ms` in 0..600000, `copies` in 1..100")
    return fault


def _fits(value: Any, hint: Any) -> bool:
    kinds = get_args(hint) or (hint,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


class FaultPlan:
    """All faults in force. They are kept in the state: a sandbox that was killed comes back as bad as it was."""

    def __init__(self, state: State) -> None:
        self._state = state
        rows = state.run("SELECT document FROM faults ORDER BY id").fetchall()
        self._faults = [Fault(**orjson.loads(row[0])) for row in rows]

    def add(self, fault: Fault) -> Fault:
        cursor = self._state.run("INSERT INTO faults (document) VALUES (?)", b"")
        fault.id = cursor.lastrowid or 0
        self._keep(fault)
        self._faults.append(fault)
        return fault

    def clear(self, fault_id: int | None = None) -> int:
        """Remove one fault, or all, and return how many went."""
        gone = [fault for fault in self._faults if fault_id in (None, fault.id)]
        for fault in gone:
            self._state.run("DELETE FROM faults WHERE id = ?", fault.id)
        self._faults = [fault for fault in self._faults if fault not in gone]
        return len(gone)

    def described(self) -> list[dict[str, Any]]:
        """Return all faults with how often each was met (`seen`) and struck (`fired`)."""
        return [asdict(fault) for fault in self._faults]

    def on_call(self, operation: str) -> list[Fault]:
        return self._striking("operation", operation)

    def on_event(self, kind: str) -> list[Fault]:
        return self._striking("event", kind)

    def _striking(self, member: str, name: str) -> list[Fault]:
        matching = [fault for fault in self._faults if fnmatchcase(name, getattr(fault, member))]
        striking = [fault for fault in matching if fault.fires()]
        for fault in matching:
            self._keep(fault)
        return striking

    def _keep(self, fault: Fault) -> None:
        self._state.run("UPDATE faults SET document = ? WHERE id = ?", orjson.dumps(asdict(fault)), fault.id)


def first(faults: list[Fault], *actions: str) -> Fault | None:
    """Return the first of the striking faults with one of these actions."""
    return next((fault for fault in faults if fault.action in actions), None)
