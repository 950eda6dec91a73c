"""Reads a saga's journal: what comes next, forward or back. Pure, so that every history can be tried."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from reservation_service.saga.definition import OPERATOR, Event, LocalStep, Part, Pause, RemoteStep, Saga, Step
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
        """Return the first part that is not done, or was undone since; None when the saga is complete."""
        return next((part for part in saga.parts if not self.is_done(part.name)), None)

    def is_done(self, step: str) -> bool:
        """Tell whether a step is done, and was not undone since."""
        return Event.DONE in self._done_since_undone(step)

    def next_backward(self, saga: Saga) -> Step | None:
        """Return the last step that ever started and is not undone; None when there is nothing left to take back."""
        steps = (part for part in reversed(saga.parts) if not isinstance(part, Pause))
        return next((step for step in steps if self._may_have_happened(step)), None)

    def failures(self, step: str, direction: str) -> int:
        """Return how often this step has failed in a row without any other result, or a person's word."""
        count = 0
        for line in self._latest(step, direction):
            if line.event != Event.STARTED:
                if line.event not in _FAILURES:
                    break
                count += 1
        return count

    def looks(self, step: str, direction: str) -> int:
        """Return how often in a row this step was found to be on its way."""
        count = 0
        for line in self._latest(step, direction):
            if line.event == Event.UNDER_WAY:
                count += 1
            elif line.event != Event.STARTED:
                break
        return count

    def unanswered(self, step: str, direction: str) -> int:
        """Return how often this step was started lately without any word of what became of it: its worker died."""
        count = 0
        for line in self._latest(step, direction):
            if line.event != Event.STARTED:
                break
            count += 1
        return count

    def maybe_sent(self, step: RemoteStep) -> bool:
        """Tell whether any try of this step may have an effect elsewhere now: all but those known not to be sent."""
        events = self._done_since_undone(step.name)
        return events.count(Event.STARTED) > events.count(Event.NOT_SENT)

    def is_foreign_to(self, saga: Saga) -> bool:
        """Tell whether a newer release has written here: a step that this one does not know is left to it."""
        return any(line.step not in saga.known_steps for line in self.lines)

    def _latest(self, step: str, direction: str) -> Iterator[Line]:
        """Yield the lines of a step, the newest first, down to the last time that a person took the saga in hand."""
        for line in reversed(self.lines):
            if line.step == OPERATOR:
                return
            if (line.step, line.direction) == (step, direction):
                yield line

    def is_past_pivot(self, saga: Saga) -> bool:
        """Tell whether the step after which there is only forward was ever started."""
        pivots = {part.name for part in saga.parts if isinstance(part, RemoteStep) and part.pivot}
        return any(line.step in pivots and line.direction == "do" for line in self.lines)

    def came_too_late(self) -> bool:
        """Tell whether taking back was tried when it could no longer be done."""
        return any(line.event == Event.TOO_LATE for line in self.lines)

    def times_too_late(self, step: str) -> int:
        """Return how often a step could not be taken back any more, since a person last took the saga in hand."""
        return sum(line.event == Event.TOO_LATE for line in self._latest(step, "undo"))

    def is_vouched_for(self) -> bool:
        """Tell whether a person has ended this saga on their word, and nothing has moved it since."""
        return bool(self.lines) and (self.lines[-1].step, self.lines[-1].event) == (OPERATOR, "resolve")

    def _may_have_happened(self, part: LocalStep | RemoteStep) -> bool:
        if isinstance(part, LocalStep):
            return self.is_done(part.name)
        return self.maybe_sent(part)

    def _done_since_undone(self, step: str) -> list[str]:
        """Return what came of doing a step since it was last undone: an undone step is as if it had never begun.

        When the undoing turns out to be in vain, it is as if it had never been undone.
        """
        events: list[str] = []
        undone: list[str] = []
        for line in self.lines:
            if line.step != step:
                continue
            if line.direction == "do":
                events.append(line.event)
            elif line.event == Event.DONE:
                events, undone = [], events
            elif line.event == Event.IN_VAIN and undone:
                events, undone = undone, []
        return events
