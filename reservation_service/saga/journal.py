"""Reads a saga's journal: what comes next, forward or back. Pure, so that every history can be tried."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from reservation_service.saga.definition import Event, LocalStep, Part, Pause, RemoteStep, Saga, Step
from shared.database import Row

_FAILURES = frozenset({Event.NOT_SENT, Event.UNKNOWN})


@dataclass(frozen=True)
class Line:
    """One line: this step, in this direction, had this event."""

    step: str
    direction: str
    event: str


@dataclass
class Journal:
    """The lines of one saga so far."""

    lines: list[Line] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Journal":
        return cls([Line(row["step"], row["direction"], row["event"]) for row in rows])

    def add(self, step: str, direction: str, event: Event) -> None:
        self.lines.append(Line(step, direction, event))

    def next_forward(self, saga: Saga) -> Part | None:
        """Return the first part that is not done; None when the saga is complete."""
        return next((part for part in saga.parts if not self._has(part.name, "do", Event.DONE)), None)

    def next_backward(self, saga: Saga) -> Step | None:
        """Return the last step that ever started and is not undone; None when there is nothing left to take back."""
        for part in reversed(saga.parts):
            if (
                not isinstance(part, Pause)
                and self._may_have_happened(part)
                and not self._has(part.name, "undo", Event.DONE)
            ):
                return part
        return None

    def failures(self, step: str, direction: str) -> int:
        """Return how often this step has failed in a row without any other result."""
        count = 0
        for line in reversed(self.lines):
            if (line.step, line.direction) == (step, direction) and line.event != Event.STARTED:
                if line.event not in _FAILURES:
                    break
                count += 1
        return count

    def unanswered(self, step: str, direction: str) -> int:
        """Return how often this step was started lately without any word of what became of it: its worker died."""
        count = 0
        for line in reversed(self.lines):
            if (line.step, line.direction) == (step, direction):
                if line.event != Event.STARTED:
                    break
                count += 1
        return count

    def maybe_sent(self, step: RemoteStep) -> bool:
        """Tell whether any try of this step may have had an effect elsewhere: all but those known not to be sent."""
        events = [line.event for line in self.lines if (line.step, line.direction) == (step.name, "do")]
        return events.count(Event.STARTED) > events.count(Event.NOT_SENT)

    def _may_have_happened(self, part: LocalStep | RemoteStep) -> bool:
        if isinstance(part, LocalStep):
            return self._has(part.name, "do", Event.DONE)
        return self.maybe_sent(part)

    def _has(self, step: str, direction: str, event: Event) -> bool:
        return Line(step, direction, event) in self.lines
