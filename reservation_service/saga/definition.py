"""The words a saga is written in: Step, Pause, Saga. Pure data; the engine gives them life."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import SagaRow
from shared.database import Connection
from shared.payment_contract import PaymentView


class Event(StrEnum):
    """What a journal line can say of a step. Only `started` may be the last word after a crash.

    `under_way`: it was taken on and is not over yet. `in_vain`: what was undone has turned out not to be.
    """

    STARTED = "started"
    DONE = "done"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    TOO_LATE = "too_late"
    STUCK = "stuck"
    UNDER_WAY = "under_way"
    IN_VAIN = "in_vain"


class Verdict(StrEnum):
    """What a pause says when it is asked whether it is over."""

    PASSED = "passed"
    WAITING = "waiting"
    LOST = "lost"
    TIME_IS_UP = "time_is_up"


@dataclass(frozen=True)
class Result:
    """What came of an outside call: an event for the journal, and how the payment stands as far as it was told.

    `stale`: it was told what had been known before, because nobody could look.
    """

    event: Event
    payment: PaymentView | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    retry_after_s: float | None = None
    stale: bool = False


OPERATOR = "operator"
"""The step that a journal names when a person has taken a saga in hand; no part of any line."""

REFUND_FAILED = "refund_failed"
"""How payment_service, and the reason of a saga, say that a refund has failed for good."""

Direction = Literal["do", "undo", "ask"]

LocalAct = Callable[[Connection, Booking, SagaRow], Awaitable[Booking]]
"""Returns the booking as it is afterwards, so that nobody has to read it again."""
RemoteAct = Callable[[Booking], Awaitable[Result]]
RemoteUndo = Callable[[Booking, str], Awaitable[Result]]
"""An undo is told why the saga turned back (`deadline`, `refused`, `asked`): not every reason may take money back."""


@dataclass(frozen=True)
class LocalStep:
    """Takes effect in our database, in the very transaction that writes the journal: it happened, or it did not."""

    name: str
    do: LocalAct
    undo: LocalAct
    refused_because: str
    where: str = "our database"


@dataclass(frozen=True)
class RemoteStep:
    """Takes effect elsewhere: journalled before and after. `only_if` tells whether this booking needs it at all.

    Before the pivot a step may be overtaken by the deadline; from the pivot on there is only forward.
    """

    name: str
    do: RemoteAct
    undo: RemoteUndo
    refused_because: str
    where: str
    only_if: Callable[[Booking], bool]
    pivot: bool = False


@dataclass(frozen=True)
class Pause:
    """A wait with a deadline for something that others do; `ask` goes and looks instead of waiting to be told.

    LOST says that what was waited for cannot come any more, but that the steps before it may be taken anew.
    """

    name: str
    verdict: Callable[[Booking], Verdict]
    left_s: Callable[[Booking], float]
    ask: RemoteAct
    refused_because: str
    where: str


@dataclass(frozen=True)
class Call:
    """An outside call that is due, journalled as started; made when the transaction is over."""

    step: str
    direction: Direction
    act: RemoteAct
    booking: Booking
    act_name: str


@dataclass(frozen=True)
class Report:
    """What became of a call."""

    call: Call
    result: Result


@dataclass(frozen=True)
class Look:
    """What this turn knows of the payment: `asked` for its sake, or at least `seen` in the answer to a step."""

    asked: bool
    seen: bool
    guest_waits: bool

    @classmethod
    def of(cls, report: Report | None, *, guest_waits: bool) -> "Look":
        asked = report is not None and report.call.direction == "ask"
        return cls(asked, report is not None and report.result.payment is not None, guest_waits)


Step = LocalStep | RemoteStep
Part = LocalStep | RemoteStep | Pause


@dataclass(frozen=True)
class Saga:
    """A straight line of parts. Their names are keys of the journal: never renamed, only added."""

    name: str
    parts: tuple[Part, ...]

    @cached_property
    def known_steps(self) -> frozenset[str]:
        """Every name that may stand in a journal of this saga; any other was written by a newer release."""
        return frozenset({OPERATOR, *(part.name for part in self.parts)})

    def render_table(self) -> str:
        """Return the line as the Markdown table that the docs show."""
        rows = ["| step | takes effect in | undone by | may be refused because |", "|---|---|---|---|"]
        for part in self.parts:
            if isinstance(part, Pause):
                rows.append(
                    f"| *pause: {part.name}* | {part.where} | (a wait with a deadline) | {part.refused_because} |"
                )
            else:
                rows.append(f"| `{part.name}` | {part.where} | `{part.undo.__name__}` | {part.refused_because} |")
        return "\n".join(rows) + "\n"
